package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/benchmarks/verify"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// Lap is one combiner's round. Times are seconds since the system's start.
type Lap struct {
	Step    int     `json:"step"`
	Began   float64 `json:"began"`   // it has the model
	Trained float64 `json:"trained"` // and an update
	Acked   float64 `json:"acked"`   // and the receipt
	Got     float64 `json:"got"`     // and the next model
}

// Round is the whole round, training included.
func (l Lap) Round() float64 { return l.Got - l.Began }

// Mesh is what the mesh took of it.
func (l Lap) Mesh() float64 { return l.Got - l.Trained }

// session is one of the sessions, with its combiners and what they were told.
type session struct {
	sys       *system
	name, key string
	base      string // digest of the seed
	seed      uint64
	config    api.SessionConfig
	load      *load.Load
	combiners int
	first     int // number of its first combiner's client
	train     func(combiner, step int) time.Duration
	ready     func(ctx context.Context, step int) // called when an update is made; nil: nothing is waited for
	steps     int                                 // after which the combiners end; 0: when they are stopped
	mayClose  bool                                // while the combiners work

	mu       sync.Mutex
	models   map[string][]byte // guarded by mu; the newest ones that combiners start from
	order    []string
	laps     []Lap
	pushes   int // acknowledged
	retried  int // of them, not by the first that was asked
	receipts []api.Receipt
	errs     []error
}

// open makes the session's models and opens it.
func (s *session) open(ctx context.Context, params int64, updates int) (err error) {
	s.load, err = load.New(ctx, load.Options{Params: params, Updates: updates, Seed: s.seed})
	if err != nil {
		return err
	}
	client, err := s.sys.client(s.first)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	info, _, err := client.CreateSession(ctx, s.name, s.config, api.Bytes(s.load.Seed))
	if err != nil {
		return err
	}
	s.key, s.base, s.models = info.Key, info.Seed, map[string][]byte{info.Seed: s.load.Seed}
	return nil
}

// everywhere waits until all peers that run have a say in the session and serve
// its model.
func (s *session) everywhere(ctx context.Context, members int) error {
	return s.sys.each(ctx, func(ctx context.Context, _ string, one *api.Client) error {
		info, err := one.Session(ctx, s.key)
		switch {
		case err != nil:
			return err
		case len(info.Members) < members:
			return fmt.Errorf("%s has %d of %d members", s.name, len(info.Members), members)
		}
		_, err = one.Head(ctx, s.key, api.PullOptions{})
		return err
	})
}

// run lets the combiners work until they have made their steps or stop is closed.
// What they cannot do is noted as the session's.
func (s *session) run(ctx context.Context, stop <-chan struct{}) {
	var g errgroup.Group
	for i := range s.combiners {
		g.Go(func() error {
			if err := s.combine(ctx, i, stop); err != nil && (!s.mayClose || !api.TypeSessionClosed.Is(err)) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.errs = append(s.errs, fmt.Errorf("%s: %s: %w", s.name, verify.Name(i), err))
			}
			return nil
		})
	}
	_ = g.Wait()
}

// combine is one combiner.
func (s *session) combine(ctx context.Context, i int, stop <-chan struct{}) error {
	client, err := s.sys.client(s.first + i)
	if err != nil {
		return err
	}
	defer client.Close()
	base, model, err := s.pull(ctx, client, "", stop)
	if err != nil || model == nil {
		return err
	}
	for step := 1; s.steps == 0 || step <= s.steps; step++ {
		lap := Lap{Step: step, Began: s.sys.now()}
		update, err := verify.Train(s.load, model, i, step)
		if err != nil {
			return err
		}
		command.Pause(ctx, s.train(i, step))
		if s.ready != nil {
			s.ready(ctx, step)
		}
		lap.Trained = s.sys.now()
		if err := s.push(ctx, client, i, step, base.Digest.String(), update); err != nil {
			return err
		}
		lap.Acked = s.sys.now()
		if base, model, err = s.pull(ctx, client, strconv.FormatUint(base.Round, 10), stop); err != nil || model == nil {
			return err
		}
		lap.Got = s.sys.now()
		s.mu.Lock()
		s.laps = append(s.laps, lap)
		s.mu.Unlock()
	}
	return nil
}

// push pushes an update until it is acknowledged.
func (s *session) push(ctx context.Context, client *api.Client, i, step int, base string, update *verify.Update) error {
	tries := 0
	receipt, err := client.Push(ctx, s.key, api.PushOptions{
		Combiner: verify.Name(i), ID: strconv.Itoa(step), Weight: verify.Weight(s.load, i), Base: base,
	}, func() (io.ReadCloser, int64, error) {
		tries++ // the client opens the body once for each attempt
		return update.Body()
	})
	if err != nil {
		return err
	}
	s.acknowledge(receipt, tries > 1)
	return nil
}

func (s *session) acknowledge(r api.Receipt, retried bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pushes++
	s.receipts = append(s.receipts, r)
	if retried {
		s.retried++
	}
}

// pull takes the next model; none once stop is closed or the session is.
func (s *session) pull(ctx context.Context, client *api.Client, after string, stop <-chan struct{}) (info api.ModelInfo, b []byte, err error) {
	o := api.PullOptions{After: after}
	if after != "" {
		o.Wait = 2 * time.Second
	}
	for {
		select {
		case <-stop:
			return info, nil, nil
		default:
		}
		info, b, err = s.take(ctx, client, o)
		if !errors.Is(err, api.ErrNotModified) {
			return info, b, err
		}
		if !s.mayClose {
			continue
		}
		now, err := client.Session(ctx, s.key)
		if err != nil || now.State != api.SessionOpen {
			return info, nil, err
		}
	}
}

// take pulls a model and keeps it once for all combiners of the session: each has
// pulled it, but a thousand of them need not hold the same bytes.
func (s *session) take(ctx context.Context, client *api.Client, o api.PullOptions) (api.ModelInfo, []byte, error) {
	var b bytes.Buffer
	b.Grow(len(s.load.Seed))
	info, err := client.Pull(ctx, s.key, o, &b)
	if err != nil {
		return info, nil, err
	}
	const keep = 1 // who still trains from an older one holds it
	digest := info.Digest.String()
	s.mu.Lock()
	defer s.mu.Unlock()
	if known, ok := s.models[digest]; ok {
		return info, known, nil
	}
	s.models[digest] = b.Bytes()
	if s.order = append(s.order, digest); len(s.order) > keep {
		delete(s.models, s.order[0])
		s.order = s.order[1:]
	}
	return info, b.Bytes(), nil
}

// finished is how many rounds all of its combiners have had the model of.
func (s *session) finished() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := map[int]int{}
	top := 0
	for _, l := range s.laps {
		if n[l.Step]++; n[l.Step] == s.combiners {
			top = max(top, l.Step)
		}
	}
	return top
}

// between lists laps that began and ended within two times.
func between(laps []Lap, from, to float64) (out []Lap) {
	for _, l := range laps {
		if l.Began >= from && l.Got <= to {
			out = append(out, l)
		}
	}
	return out
}
