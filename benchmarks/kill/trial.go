package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/benchmarks/proc"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Bounds of what comes after the rounds.
const (
	settlePatience = 2 * time.Minute // for pushes under way and processes coming back
	checkPatience  = 2 * time.Minute // for all to close the session and agree
)

// trial is one system's run.
type trial struct {
	config  config
	system  system
	load    *load.Load
	cluster *process.Cluster
	session string // key
	start   time.Time
	watch   *watch
	work    work
	skipped int
	alone   *Alone

	mu   sync.Mutex
	used proc.Usage
}

// now is the time since the start in seconds.
func (t *trial) now() float64 { return time.Since(t.start).Seconds() }

// runTrial starts a system, runs the workload over it, and judges it.
func runTrial(ctx context.Context, c config, s system, l *load.Load, show func(string, ...any)) (r *Result, err error) {
	dir := filepath.Join(c.dir, s.name+"-data")
	t := &trial{config: c, system: s, load: l}
	t.cluster, err = process.NewCluster(process.Options{Binary: s.binary, N: s.peers, Dir: dir, Mesh: "kill", ExtraArgs: s.args})
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, t.cluster.Close())
		// Where something is wrong, somebody will want to look.
		if !c.keep && (ctx.Err() != nil || err == nil && !r.Bad()) {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	starting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := t.cluster.Start(starting); err != nil {
		return nil, err
	}
	if err := s.form(starting, t.cluster.URLs()); err != nil {
		return nil, err
	}
	if err := t.open(starting); err != nil {
		return nil, err
	}
	if err := t.run(ctx, show); err != nil {
		return nil, fmt.Errorf("%w\nthe end of %s's log:\n%s", err, t.cluster.Names()[0], t.cluster.Tail(t.cluster.Names()[0], 5))
	}
	show("%s: checking ...", s.name)
	return t.judge(ctx)
}

// open opens the session and waits until every process serves its seed.
func (t *trial) open(ctx context.Context) error {
	client, err := api.NewClient(t.cluster.URLs(), api.ClientOptions{})
	if err != nil {
		return err
	}
	defer client.Close()
	cfg := api.DefaultSessionConfig()
	cfg.TargetCombiners = t.config.combiners
	cfg.RoundTimeout = api.Duration(roundTimeout)
	info, _, err := client.CreateSession(ctx, "kill", cfg, api.Bytes(t.load.Seed))
	if err != nil {
		return err
	}
	t.session = info.Key
	for _, p := range t.cluster.Peers() {
		one, err := client.Peer(p.URL)
		if err != nil {
			return err
		}
		for {
			got, err := one.Session(ctx, t.session)
			if err == nil && (t.system.name != sysMesh || len(got.Members) == t.system.peers) {
				if _, err = one.Head(ctx, t.session, api.PullOptions{}); err == nil {
					break
				}
			}
			if pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
				return fmt.Errorf("kill: %s of %s does not serve the session: %w", p.Name, t.system.name, errors.Join(ctx.Err(), err))
			}
		}
	}
	return nil
}

// run lets combiners and killer work until the rounds are done or the time is
// up, then waits until everything that was killed is back and every update that
// was begun is acknowledged.
func (t *trial) run(ctx context.Context, show func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, t.config.timeLimit+settlePatience)
	defer cancel()
	t.start = time.Now()
	t.watch = newWatch(t.cluster.Names(), t.now)
	watching, unwatch := context.WithCancel(ctx)
	var watchers errgroup.Group
	for _, p := range t.cluster.Peers() {
		watchers.Go(func() error { return t.watch.follow(watching, p, t.session) })
	}
	g, gctx := errgroup.WithContext(ctx)
	stop := make(chan struct{})
	for i := range t.config.combiners {
		g.Go(func() error { return t.combine(gctx, i, stop) })
	}
	g.Go(func() error {
		if t.config.kill == killAllButOne {
			return t.leaveOne(gctx)
		}
		return t.killLoop(gctx, stop)
	})
	t.wait(gctx, show)
	close(stop)
	err := g.Wait()
	t.awaitAgreement(ctx)
	for _, p := range t.cluster.Names() {
		err = errors.Join(err, t.account(p))
	}
	unwatch()
	return errors.Join(err, watchers.Wait())
}

// wait returns when the rounds are done or the time is up.
func (t *trial) wait(ctx context.Context, show func(string, ...any)) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		round, _ := t.watch.newest()
		if round >= t.config.rounds || time.Since(t.start) > t.config.timeLimit {
			return
		}
		if n%10 == 0 {
			show("%s: round %d of %d, %d kills, %d updates acknowledged, %.0f s ...", t.system.name, round, t.config.rounds,
				t.watch.killed(), t.work.acknowledged(), t.now())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// awaitAgreement gives the last kill its time: no later round comes by itself,
// but all may yet come to the same.
func (t *trial) awaitAgreement(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		if _, ok := t.watch.agreed(); ok {
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// account adds what a process has used so far, before it is killed or at the
// end.
func (t *trial) account(peer string) error {
	u, err := proc.UsageOf(t.cluster.DataDir(peer))
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used.Add(u)
	return nil
}
