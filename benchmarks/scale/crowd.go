package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

const (
	crowdPeers = 3
	crowdTenth = 10 // as few are the combiners that the crowd is compared with
	distinct   = 16 // sets of values that a crowd's updates go towards; each combiner has them in another order
)

// Crowd is what was measured with many combiners.
type Crowd struct {
	Params   int64     `json:"params"`
	Rounds   int       `json:"rounds"` // whose combiners push when each is done with training
	Bursts   int       `json:"bursts"` // whose combiners all push in the same moment
	Few      Throng    `json:"few"`
	Many     Throng    `json:"many"`
	Overload *Overload `json:"overload,omitempty"`
}

// Throng is a session with many combiners, with peers of its own.
type Throng struct {
	Combiners    int          `json:"combiners"`
	Rounds       []CrowdRound `json:"rounds"`
	Samples      []Sample     `json:"samples"`
	Idle         int64        `json:"idle_bytes"` // resident, of the peer with most, before the first push
	Refusals     int          `json:"refusals"`
	ServerErrors int          `json:"server_errors"`
	Fallen       []string     `json:"fallen"`
	Verdict      Verdict      `json:"verdict"`
}

// CrowdRound is one round of all combiners. Times are seconds since the start.
type CrowdRound struct {
	Burst    bool    `json:"burst"`
	Began    float64 `json:"began"` // the first combiner was done with training
	Acked    float64 `json:"acked"` // the last one had its receipt
	Got      float64 `json:"got"`   // and the next model
	Resident int64   `json:"resident_bytes"`
}

// Peak is the most memory that a peer had in any round.
func (t Throng) Peak() (most int64) {
	for _, r := range t.Rounds {
		most = max(most, r.Resident)
	}
	return most
}

// measureCrowd lets few and many combiners work, each with peers of their own, and
// overloads one peer.
func measureCrowd(ctx context.Context, c config, binary string, show command.Show) (*Crowd, error) {
	r := &Crowd{Params: c.crowdParams, Rounds: c.roundsOr(8), Bursts: c.bursts}
	var err error
	if r.Few, err = throng(ctx, c, binary, max(1, c.combiners/crowdTenth), r, show); err != nil {
		return nil, err
	}
	if r.Many, err = throng(ctx, c, binary, c.combiners, r, show); err != nil {
		return nil, err
	}
	if c.overload > 0 {
		r.Overload, err = measureOverload(ctx, c, binary, show)
	}
	return r, err
}

// throng runs a session of so many combiners.
func throng(ctx context.Context, c config, binary string, combiners int, r *Crowd, show command.Show) (t Throng, err error) {
	t.Combiners = combiners
	sys, err := newSystem(ctx, c, process.Options{Binary: binary, N: crowdPeers}, fmt.Sprintf("crowd-%d", combiners))
	if err != nil {
		return t, err
	}
	defer func() { err = sys.end(ctx, err) }()
	if err := sys.meet(ctx, crowdPeers); err != nil {
		return t, err
	}
	meeting := &meeting{of: combiners}
	s := &session{
		sys: sys, name: "crowd", seed: c.seed, combiners: combiners, steps: r.Rounds + r.Bursts, config: api.DefaultSessionConfig(),
		// As long as the others' on average; the same in each round.
		train: func(i, step int) time.Duration {
			x := rand.New(rand.NewPCG(c.seed, uint64(i)<<20+uint64(step))).Float64()
			return time.Duration((0.5 + x) * float64(c.train))
		},
		ready: func(ctx context.Context, step int) {
			if step > r.Rounds {
				meeting.wait(ctx, step)
			}
		},
	}
	s.config.TargetCombiners, s.config.RoundTimeout = combiners, api.Duration(2*patience)
	if err := s.open(ctx, c.crowdParams, min(combiners, distinct)); err != nil {
		return t, err
	}
	if err := s.everywhere(ctx, crowdPeers); err != nil {
		return t, err
	}
	for _, name := range sys.cluster.Names() {
		st, err := sys.state(name)
		if err != nil {
			return t, err
		}
		t.Idle = max(t.Idle, st.Resident)
	}
	if err := sys.watched(ctx, func() error {
		working, cancel := context.WithTimeout(ctx, 2*patience)
		defer cancel()
		done := make(chan struct{})
		go func() { defer close(done); s.run(working, nil) }()
		tell(done, func() { show("%d combiners: round %d of %d ...", combiners, s.finished()+1, s.steps) })
		return ctx.Err()
	}); err != nil {
		return t, err
	}
	if t.Refusals, t.ServerErrors, err = sys.answers(ctx); err != nil {
		return t, err
	}
	t.Samples, t.Rounds = sys.samples, s.crowdRounds(r.Rounds)
	show("%d combiners: checking ...", combiners)
	t.Verdict, err = sys.judge(ctx, []*session{s}, func(int) {})
	t.Fallen = sys.fallen()
	return t, err
}

// tell says what is going on until done is closed.
func tell(done <-chan struct{}, say func()) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			say()
		}
	}
}

// watched samples the peers' memory while something is done.
func (s *system) watched(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return s.sample(ctx, 100*time.Millisecond) })
	err := do()
	cancel()
	if werr := g.Wait(); err == nil {
		err = werr
	}
	return err
}

// crowdRounds are the rounds that all combiners made together, of which so many
// are no bursts.
func (s *session) crowdRounds(apart int) (out []CrowdRound) {
	for step := 1; step <= s.steps; step++ {
		r := CrowdRound{Burst: step > apart}
		n := 0
		for _, l := range s.laps {
			if l.Step != step {
				continue
			}
			if n++; n == 1 {
				r.Began = l.Trained
			}
			r.Began, r.Acked, r.Got = min(r.Began, l.Trained), max(r.Acked, l.Acked), max(r.Got, l.Got)
		}
		if n == s.combiners {
			r.Resident = most(s.sys.samples, r.Began, r.Got)
			out = append(out, r)
		}
	}
	return out
}

// meeting lets combiners go on when all of them have come.
type meeting struct {
	of int

	mu   sync.Mutex
	step int // that they are waiting for
	come int
	all  chan struct{}
}

// wait waits for the others at a step, or until ctx ends. All come to each step
// before anybody comes to the next.
func (m *meeting) wait(ctx context.Context, step int) {
	m.mu.Lock()
	if m.all == nil || m.step != step {
		m.step, m.come, m.all = step, 0, make(chan struct{})
	}
	all := m.all
	if m.come++; m.come == m.of {
		close(all)
	}
	m.mu.Unlock()
	select {
	case <-all:
	case <-ctx.Done():
	}
}
