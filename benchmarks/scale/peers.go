package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Peers is what was measured with many peers. Times are seconds.
type Peers struct {
	Peers    int      `json:"peers"`
	Killed   []string `json:"killed"`
	Params   int64    `json:"params"`
	Rounds   int      `json:"rounds"` // at least, in each part with training
	Ready    float64  `json:"ready"`  // from the first start until all were ready
	Seen     float64  `json:"seen"`   // until all saw all
	Idle     Traffic  `json:"idle"`
	Training Traffic  `json:"training"`
	After    Traffic  `json:"after_kill"`
	Gap      float64  `json:"gap"`        // longest time without a new model for the combiners, once peers were killed
	CalmGap  float64  `json:"calm_gap"`   // and before
	Agreed   float64  `json:"agreed"`     // from the kill until those that lived served one later model
	Back     float64  `json:"back"`       // from their start until those killed were ready
	AllAgree float64  `json:"all_agreed"` // and until all served one later model
	Fallen   []string `json:"fallen"`     // ended, and were not killed
	Verdict  Verdict  `json:"verdict"`
}

// Traffic is what the peers did in a while, per peer and second.
type Traffic struct {
	Seconds  float64   `json:"seconds"`
	Rounds   int       `json:"rounds"`
	Sent     []float64 `json:"gossip_sent_bytes"`     // per second, by peer, in ascending order
	Received []float64 `json:"gossip_received_bytes"` // the same
	Bodies   []float64 `json:"http_sent_bytes"`       // between peers: copies, models, entries
	CPU      []float64 `json:"cpu_seconds"`           // per second
	Resident []float64 `json:"resident_bytes"`
	Files    []float64 `json:"files"`
	Sockets  []float64 `json:"sockets"`
}

// measurePeers joins many peers, kills some, and brings them back.
func measurePeers(ctx context.Context, c config, binary string, show command.Show) (r *Peers, err error) {
	r = &Peers{Peers: c.peers, Params: c.params, Rounds: c.roundsOr(5)}
	show("%d peers: joining ...", c.peers)
	sys, err := newSystem(ctx, c, process.Options{Binary: binary, N: c.peers, Seeds: 1}, "peers")
	if err != nil {
		return nil, err
	}
	defer func() { err = sys.end(ctx, err) }()
	r.Ready = sys.now()
	if err := sys.meet(ctx, c.peers); err != nil {
		return nil, err
	}
	r.Seen = sys.now()
	x := &swarm{config: c, sys: sys, result: r, polls: &http.Client{Timeout: patience}}
	defer x.polls.CloseIdleConnections()
	show("%d peers: idle ...", c.peers)
	if r.Idle, err = x.traffic(ctx, func() error { command.Pause(ctx, c.idle); return ctx.Err() }); err != nil {
		return nil, err
	}
	if err := x.run(ctx, show); err != nil {
		return nil, err
	}
	show("%d peers: checking ...", c.peers)
	r.Verdict, err = sys.judge(ctx, []*session{x.session}, func(int) {})
	r.Fallen = sys.fallen()
	return r, err
}

// swarm is the claim under way.
type swarm struct {
	config  config
	sys     *system
	result  *Peers
	session *session
	polls   *http.Client
}

// run lets a session train, kills peers, and starts them again.
func (x *swarm) run(ctx context.Context, show command.Show) error {
	r, s := x.result, &session{
		sys: x.sys, name: "swarm", seed: x.config.seed, combiners: sessionCombiners, config: api.DefaultSessionConfig(),
		train: func(int, int) time.Duration { return x.config.train },
	}
	s.config.TargetCombiners = sessionCombiners
	x.session = s
	if err := s.open(ctx, x.config.params, sessionCombiners); err != nil {
		return err
	}
	if err := s.everywhere(ctx, r.Peers); err != nil {
		return err
	}
	var g errgroup.Group
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	defer func() { end(); _ = g.Wait() }()
	g.Go(func() error { s.run(ctx, stop); return nil })
	rounds := func(n int, what string) func() error {
		return func() error {
			for from := s.finished(); s.finished() < from+n; command.Pause(ctx, 50*time.Millisecond) {
				if err := s.failed(); err != nil || ctx.Err() != nil {
					return fmt.Errorf("%s: %w", what, firstOf(err, ctx.Err()))
				}
				show("%d peers: %s, round %d of %d ...", r.Peers, what, s.finished()-from+1, n)
			}
			return nil
		}
	}
	var err error
	began := x.sys.now()
	if r.Training, err = x.traffic(ctx, rounds(r.Rounds, "training")); err != nil {
		return err
	}
	killed := x.sys.now()
	if err := x.kill(); err != nil {
		return err
	}
	if r.After, err = x.traffic(ctx, func() error {
		if err := x.agree(ctx, &r.Agreed); err != nil {
			return err
		}
		return rounds(r.Rounds, "training after the kill")()
	}); err != nil {
		return err
	}
	r.CalmGap, r.Gap = s.gap(began, killed), s.gap(killed, x.sys.now())
	show("%d peers: starting %d again ...", r.Peers, len(r.Killed))
	if err := x.revive(ctx); err != nil {
		return err
	}
	if err := rounds(1, "all are back")(); err != nil {
		return err
	}
	end()
	return g.Wait()
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// kill kills some peers at once, which ones is drawn from the seed.
func (x *swarm) kill() error {
	names := x.sys.cluster.Names()
	for _, i := range rand.New(rand.NewPCG(x.config.seed, 7)).Perm(len(names))[:x.config.kill] {
		x.result.Killed = append(x.result.Killed, names[i])
	}
	slices.Sort(x.result.Killed)
	var g errgroup.Group
	for _, name := range x.result.Killed {
		g.Go(func() error {
			x.sys.killed(name)
			return x.sys.cluster.Kill(name)
		})
	}
	return g.Wait()
}

// revive starts those that were killed, all at once, and waits until all agree.
func (x *swarm) revive(ctx context.Context) error {
	began := x.sys.now()
	var g errgroup.Group
	for _, name := range x.result.Killed {
		g.Go(func() error { return x.sys.cluster.Restart(ctx, name) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	x.result.Back = x.sys.now() - began
	return x.agree(ctx, &x.result.AllAgree)
}

// agree waits until all peers that run serve one and the same model, of a later
// round than any did before, and says how long that took.
func (x *swarm) agree(ctx context.Context, took *float64) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := x.sys.now()
	before, _, err := x.served(ctx)
	if err != nil {
		return err
	}
	for {
		round, same, err := x.served(ctx)
		if err == nil && same && round > before {
			*took = x.sys.now() - began
			return nil
		}
		if command.Pause(ctx, 30*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("the peers do not come to one model: %w", context.Cause(ctx))
		}
	}
}

// served is the newest round of which a peer serves the model, and whether all
// peers serve that.
func (x *swarm) served(ctx context.Context) (newest uint64, same bool, err error) {
	var mu sync.Mutex
	models := map[string]bool{}
	err = x.sys.each(ctx, func(ctx context.Context, _ string, one *api.Client) error {
		info, err := one.Head(ctx, x.session.key, api.PullOptions{})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		models[info.Digest.String()] = true
		newest = max(newest, info.Round)
		return nil
	})
	return newest, len(models) == 1, err
}

// gap is the longest time in which no combiner got a new model.
func (s *session) gap(from, to float64) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	times := []float64{from}
	for _, l := range s.laps {
		if l.Got >= from && l.Got <= to {
			times = append(times, l.Got)
		}
	}
	slices.Sort(times)
	longest := to - times[len(times)-1]
	for i := range len(times) - 1 {
		longest = max(longest, times[i+1]-times[i])
	}
	return longest
}

// counters are one peer's, which only grow.
type counters struct{ sent, received, bodies, cpu float64 }

// read reads the counters of all peers that run.
func (x *swarm) read(ctx context.Context) (map[string]counters, error) {
	out := map[string]counters{}
	running := x.sys.cluster.Running()
	for _, p := range x.sys.cluster.Peers() {
		if !slices.Contains(running, p.Name) {
			continue
		}
		m, err := scrape(ctx, x.polls, p.URL)
		if err != nil {
			return nil, err
		}
		k := counters{bodies: m.sum("fedmesh_peer_sent_bytes_total")}
		if k.cpu, err = x.sys.cpuOf(p.Name); err != nil {
			return nil, err
		}
		if !m.has("fedmesh_gossip_wire_sent_bytes_total") {
			return nil, fmt.Errorf("%s does not tell the bytes of its gossip; this needs a newer fedmesh", strings.TrimPrefix(p.URL, "http://"))
		}
		k.sent, k.received = m.sum("fedmesh_gossip_wire_sent_bytes_total"), m.sum("fedmesh_gossip_wire_received_bytes_total")
		out[p.Name] = k
	}
	return out, nil
}

// traffic says what the peers did while something was done.
func (x *swarm) traffic(ctx context.Context, do func() error) (t Traffic, err error) {
	before, err := x.read(ctx)
	if err != nil {
		return t, err
	}
	began, rounds := x.sys.now(), 0
	if x.session != nil {
		rounds = x.session.finished()
	}
	if err := do(); err != nil {
		return t, err
	}
	after, err := x.read(ctx)
	if err != nil {
		return t, err
	}
	t.Seconds = x.sys.now() - began
	if x.session != nil {
		t.Rounds = x.session.finished() - rounds
	}
	for name, b := range before {
		a, ok := after[name]
		if !ok {
			continue
		}
		st, err := x.sys.state(name)
		if err != nil {
			return t, err
		}
		t.add(a, b)
		t.Resident, t.Files, t.Sockets = append(t.Resident, float64(st.Resident)), append(t.Files, float64(st.Files)), append(t.Sockets, float64(st.Sockets))
	}
	for _, values := range [][]float64{t.Sent, t.Received, t.Bodies, t.CPU, t.Resident, t.Files, t.Sockets} {
		slices.Sort(values)
	}
	return t, nil
}

func (t *Traffic) add(after, before counters) {
	per := func(list []float64, a, b float64) []float64 { return append(list, (a-b)/t.Seconds) }
	t.Sent, t.Received = per(t.Sent, after.sent, before.sent), per(t.Received, after.received, before.received)
	t.Bodies, t.CPU = per(t.Bodies, after.bodies, before.bodies), per(t.CPU, after.cpu, before.cpu)
}
