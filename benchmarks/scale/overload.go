package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/benchmarks/verify"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// maxUploadsFlag is how a node is told how many uploads it takes at a time.
const maxUploadsFlag = "max-uploads"

// turns is for how many times that number there is room: those that are taken, and
// those that wait for their turn. Who comes beyond is refused at once.
const turns = 5

// Overload is what was measured when all pushed large models to one peer at once.
type Overload struct {
	Pushes     int            `json:"pushes"`
	Params     int64          `json:"params"`
	MaxUploads int            `json:"max_uploads"` // 0: the peer could not be told
	Seconds    float64        `json:"seconds"`     // until all were acknowledged
	Answers    map[string]int `json:"answers"`     // that refused a try, by status
	NoRetry    int            `json:"without_retry_after"`
	Broken     int            `json:"broken"` // tries that got no answer
	BrokenHow  []string       `json:"broken_how,omitempty"`
	MostTries  int            `json:"most_tries"`
	Resident   int64          `json:"resident_bytes"` // of the peer with most
	Idle       int64          `json:"idle_bytes"`
	Samples    []Sample       `json:"samples"`
	Fallen     []string       `json:"fallen"`
	Failed     int            `json:"server_errors"`
	Verdict    Verdict        `json:"verdict"`

	mu sync.Mutex
}

// refused counts a try that was no success, and says how long to wait for the next.
func (o *Overload) refused(err error) time.Duration {
	const unasked = 500 * time.Millisecond
	o.mu.Lock()
	defer o.mu.Unlock()
	var p *api.Problem
	if !errors.As(err, &p) {
		const most = 10
		if o.Broken++; len(o.BrokenHow) < most {
			o.BrokenHow = append(o.BrokenHow, err.Error())
		}
		return unasked
	}
	o.Answers[strconv.Itoa(p.Status)]++
	if p.RetryAfter > 0 {
		return p.RetryAfter
	}
	if later(p.Status) {
		o.NoRetry++
	}
	return unasked
}

// refusals counts the answers that mean later, and those that should not be.
func (o *Overload) refusals() (busy, others int) {
	for status, times := range o.Answers {
		if code, err := strconv.Atoi(status); err == nil && later(code) {
			busy += times
		} else {
			others += times
		}
	}
	return busy, others
}

// later reports whether a status asks to try again.
func later(status int) bool {
	return status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
}

// measureOverload pushes everything to one peer of three at the same time.
func measureOverload(ctx context.Context, c config, binary string, show command.Show) (o *Overload, err error) {
	o = &Overload{Pushes: c.overload, Params: c.overloadParams, Answers: map[string]int{}}
	options := process.Options{Binary: binary, N: crowdPeers}
	takes, err := command.Takes(ctx, binary, maxUploadsFlag)
	if err != nil {
		return nil, err
	}
	if takes {
		o.MaxUploads = c.maxUploads
		options.ExtraArgs = []string{"--" + maxUploadsFlag, strconv.Itoa(c.maxUploads)}
	}
	sys, err := newSystem(ctx, c, options, "overload")
	if err != nil {
		return nil, err
	}
	defer func() { err = sys.end(ctx, err) }()
	if err := sys.meet(ctx, crowdPeers); err != nil {
		return nil, err
	}
	s := &session{sys: sys, name: "overload", seed: c.seed, combiners: c.overload, config: api.DefaultSessionConfig()}
	s.config.TargetCombiners, s.config.RoundTimeout = c.overload, api.Duration(4*patience)
	if err := s.open(ctx, c.overloadParams, min(4, c.overload)); err != nil {
		return nil, err
	}
	if err := s.everywhere(ctx, crowdPeers); err != nil {
		return nil, err
	}
	for _, name := range sys.cluster.Names() {
		st, err := sys.state(name)
		if err != nil {
			return nil, err
		}
		o.Idle = max(o.Idle, st.Resident)
	}
	began := sys.now()
	if err := sys.watched(ctx, func() error { return o.push(ctx, s, show) }); err != nil {
		return nil, err
	}
	o.Seconds = sys.now() - began
	o.Samples, o.Resident = sys.samples, most(sys.samples, began, sys.now())
	if _, o.Failed, err = sys.answers(ctx); err != nil {
		return nil, err
	}
	show("overload: checking ...")
	o.Verdict, err = sys.judge(ctx, []*session{s}, func(int) {})
	o.Fallen = sys.fallen()
	return o, err
}

// push lets every combiner push once, all at the same time, until the one peer has
// acknowledged it.
func (o *Overload) push(ctx context.Context, s *session, show command.Show) error {
	ctx, cancel := context.WithTimeout(ctx, 4*patience)
	defer cancel()
	url := s.sys.cluster.URLs()[0]
	together := &meeting{of: o.Pushes}
	var acked atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for i := range o.Pushes {
		g.Go(func() error {
			// One try each: what is refused is counted here.
			client, err := api.NewClient([]string{url}, api.ClientOptions{Passes: 1, ResponseTimeout: patience})
			if err != nil {
				return err
			}
			defer client.Close()
			update, err := verify.Train(s.load, s.load.Seed, i, 1)
			if err != nil {
				return err
			}
			together.wait(gctx, 1)
			for tries := 1; ; tries++ {
				receipt, err := client.Push(gctx, s.key, api.PushOptions{
					Combiner: verify.Name(i), ID: "1", Weight: verify.Weight(s.load, i), Base: s.base,
				}, update.Body)
				if err == nil {
					acked.Add(1)
					s.acknowledge(receipt, tries > 1)
					o.mu.Lock()
					o.MostTries = max(o.MostTries, tries)
					o.mu.Unlock()
					return nil
				}
				if gctx.Err() != nil {
					return fmt.Errorf("%s: %w", verify.Name(i), err)
				}
				command.Pause(gctx, o.refused(err))
			}
		})
	}
	done := make(chan struct{})
	var err error
	go func() { defer close(done); err = g.Wait() }()
	tell(done, func() {
		o.mu.Lock()
		busy, _ := o.refusals()
		o.mu.Unlock()
		show("overload: %d of %d pushes acknowledged, %d refusals ...", acked.Load(), o.Pushes, busy)
	})
	return err
}
