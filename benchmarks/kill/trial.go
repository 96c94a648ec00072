package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/benchmarks/proc"
	"github.com/fedmesh/fedmesh/benchmarks/verify"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Bounds of what comes after the rounds.
const (
	startPatience  = 2 * time.Minute // for processes to be ready
	settlePatience = 4 * time.Minute // for pushes under way and processes coming back
	checkPatience  = 2 * time.Minute // for all to close the session and agree
)

// sampled is how many rounds there are for one whose model is computed again
// while a long run goes on: it takes processor time from what is measured.
const sampled = 10

// trial is one system's run.
type trial struct {
	config    config
	system    system
	load      *load.Load
	lan       lan // nil: the loopback interface
	cluster   *process.Cluster
	session   string // key
	start     time.Time
	watch     *watch
	moments   *moments
	uploads   []*upload // by combiner
	work      work
	calmUntil float64
	inTime    bool
	skipped   int
	alone     *Alone

	disturbed atomic.Bool // everything that was to be killed or cut has been

	mu   sync.Mutex
	used proc.Usage
	dirs map[string]string // in /proc, by process; found beforehand, since that takes a while
	cuts []Cut
}

// now is the time since the start in seconds.
func (t *trial) now() float64 { return time.Since(t.start).Seconds() }

// peer is a process of the cluster.
func (t *trial) peer(name string) process.Peer {
	for _, p := range t.cluster.Peers() {
		if p.Name == name {
			return p
		}
	}
	return process.Peer{Name: name}
}

// judgeDial is how the benchmark itself reaches the processes.
func (t *trial) judgeDial() dialer {
	if t.lan == nil {
		return nil
	}
	return t.lan.dial(judgeHost)
}

// runTrial starts a system, runs the workload over it, and judges it.
func runTrial(ctx context.Context, c config, s system, l *load.Load, show func(string, ...any)) (r *Result, err error) {
	dir := filepath.Join(c.dir, s.name+"-data")
	t := &trial{config: c, system: s, load: l}
	t.moments = &moments{trial: t, lives: map[string]*life{}}
	for range c.combiners {
		t.uploads = append(t.uploads, &upload{})
	}
	defer func() {
		if t.cluster != nil {
			err = errors.Join(err, t.cluster.Close())
		}
		if t.lan != nil {
			err = errors.Join(err, t.lan.Close())
		}
		// Where something is wrong, somebody will want to look.
		if !c.keep && (ctx.Err() != nil || err == nil && !r.Bad()) {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := t.found(dir); err != nil {
		return nil, err
	}
	starting, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := t.cluster.Start(starting); err != nil {
		return nil, err
	}
	if err := s.form(starting, t.judgeDial(), t.cluster); err != nil {
		return nil, err
	}
	if err := t.open(starting); err != nil {
		return nil, err
	}
	every := uint64(1)
	if c.kills > 0 {
		every = sampled
	}
	client, err := api.NewClient(t.cluster.URLs(), api.ClientOptions{Passes: 3, DialContext: t.judgeDial()})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	checker, err := verify.New(l, c.combiners, every, verify.Puller(client, t.session))
	if err != nil {
		return nil, err
	}
	if err := t.run(ctx, checker, client, show); err != nil {
		return nil, fmt.Errorf("%w\nthe end of %s's log:\n%s", err, t.cluster.Names()[0], t.cluster.Tail(t.cluster.Names()[0], 5))
	}
	show("%s: checking ...", s.name)
	return t.judge(ctx, checker)
}

// found makes the system's processes, and the network if they are to have one of
// their own.
func (t *trial) found(dir string) (err error) {
	o := process.Options{Binary: t.system.binary, N: t.system.peers, Dir: dir, Mesh: "kill", ExtraArgs: t.system.args, ReadyTimeout: startPatience}
	if t.config.partition {
		var names []string
		for i := range t.system.peers {
			names = append(names, string(rune('a'+i)))
		}
		if t.lan, err = newLAN(names, t.config.seed); err != nil {
			return err
		}
		for _, name := range names {
			o.Hosts = append(o.Hosts, t.lan.host(name))
		}
		o.Dial = t.judgeDial()
	}
	t.cluster, err = process.NewCluster(o)
	return err
}

// sessionConfig is the same for all systems.
func (t *trial) sessionConfig() api.SessionConfig {
	cfg := api.DefaultSessionConfig()
	cfg.TargetCombiners = t.config.combiners
	cfg.RoundTimeout = api.Duration(roundTimeout)
	if t.config.partition {
		// Either side is to go on with its half of the combiners. What was under way when
		// the cut came may be held on the other side only; a side goes on without that
		// after a while.
		cfg.TargetCombiners = t.config.combiners / 2
		cfg.RoundTimeout = api.Duration(roundTimeout / 2)
		cfg.LostAfter = api.Duration(min(roundTimeout/2, t.config.cutFor/4))
	}
	return cfg
}

// open opens the session and waits until every process serves its seed.
func (t *trial) open(ctx context.Context) error {
	client, err := api.NewClient(t.cluster.URLs(), api.ClientOptions{DialContext: t.judgeDial()})
	if err != nil {
		return err
	}
	defer client.Close()
	info, _, err := client.CreateSession(ctx, "kill", t.sessionConfig(), api.Bytes(t.load.Seed))
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
			if command.Pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
				return fmt.Errorf("kill: %s of %s does not serve the session: %w", p.Name, t.system.name, errors.Join(ctx.Err(), err))
			}
		}
	}
	return nil
}

// run lets combiners and killer work until the end is reached or the time is up,
// then waits until everything that was killed is back and every update that was
// begun is acknowledged.
func (t *trial) run(ctx context.Context, c *verify.Checker, client *api.Client, show func(string, ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, t.config.timeLimit+settlePatience)
	defer cancel()
	for _, p := range t.cluster.Names() {
		t.find(p)
	}
	t.start = time.Now()
	t.watch = newWatch(t.cluster.Names(), t.now)
	watching, unwatch := context.WithCancel(ctx)
	var watchers errgroup.Group
	for _, p := range t.cluster.Peers() {
		watchers.Go(func() error { return t.watch.follow(watching, p, t.session, t.judgeDial()) })
		if t.system.name == sysMesh {
			watchers.Go(func() error { t.moments.follow(watching, p, t.judgeDial()); return nil })
		}
	}
	if t.config.kills > 0 {
		watchers.Go(func() error { c.Follow(watching, client, t.session); return nil })
	}
	g, gctx := errgroup.WithContext(ctx)
	stop := make(chan struct{})
	for i := range t.config.combiners {
		g.Go(func() error { return t.combine(gctx, i, stop) })
	}
	g.Go(func() error { return t.disturb(gctx, stop) })
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

// disturb does what the run is about, after some rounds without it.
func (t *trial) disturb(ctx context.Context, stop <-chan struct{}) (err error) {
	if !t.calm(ctx, stop) {
		return nil
	}
	switch {
	case t.config.partition:
		err = t.cutLoop(ctx, stop)
	case t.config.kill == killAllButOne:
		err = t.leaveOne(ctx)
	default:
		err = t.killLoop(ctx, stop)
	}
	t.disturbed.Store(true)
	return err
}

// reached reports whether the run has come to its end: the rounds, or the kills
// or cuts and a later agreement.
func (t *trial) reached() bool {
	if t.config.rounds > 0 {
		round, _ := t.watch.newest()
		return round >= t.config.calm+t.config.rounds
	}
	_, open := t.watch.killed()
	return t.disturbed.Load() && open == 0
}

// wait returns when the end is reached or the time is up.
func (t *trial) wait(ctx context.Context, show func(string, ...any)) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		if t.reached() {
			t.inTime = true
			return
		}
		if time.Since(t.start) > t.config.timeLimit {
			return
		}
		if n%10 == 0 {
			t.tell(show)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// tell shows how far the run is.
func (t *trial) tell(show func(string, ...any)) {
	round, _ := t.watch.newest()
	kills, _ := t.watch.killed()
	of := func(n, all int) string {
		if all == 0 {
			return fmt.Sprint(n)
		}
		return fmt.Sprintf("%d of %d", n, all)
	}
	rounds, what := 0, of(kills, t.config.kills)+" kills"
	if t.config.rounds > 0 {
		rounds = t.config.calm + t.config.rounds
	}
	if t.config.partition {
		t.mu.Lock()
		what = of(len(t.cuts), t.config.cuts) + " cuts"
		t.mu.Unlock()
	}
	left := ""
	if n := t.config.kills - kills; t.config.kills > 0 && kills > 0 {
		each := (t.now() - t.calmUntil) / float64(kills)
		left = fmt.Sprintf(", about %.0f min left", math.Ceil(each*float64(n)/60))
	}
	show("%s: round %s, %s, %d updates acknowledged, %.0f s%s ...", t.system.name, of(round, rounds), what, t.work.acknowledged(), t.now(), left)
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
		command.Pause(ctx, 20*time.Millisecond)
	}
}

// account adds what a process has used so far, before it is killed or at the
// end.
func (t *trial) account(peer string) error {
	t.mu.Lock()
	dir := t.dirs[peer]
	t.mu.Unlock()
	if dir == "" {
		t.find(peer)
		t.mu.Lock()
		dir = t.dirs[peer]
		t.mu.Unlock()
	}
	u, err := proc.UsageIn(dir)
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

// find notes where a process is in /proc, if there is one.
func (t *trial) find(peer string) {
	dir, err := proc.Find("--data-dir", t.cluster.DataDir(peer))
	if err != nil {
		dir = ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dirs == nil {
		t.dirs = map[string]string{}
	}
	t.dirs[peer] = dir
}

// forget notes that a process is gone.
func (t *trial) forget(peer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.dirs, peer)
}
