package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/examples/mnist/digits"
	"github.com/fedmesh/fedmesh/examples/mnist/learn"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// data is the same for every run.
type data struct {
	train, test *digits.Set
	clients     [][]int
}

// run trains once on a mesh of its own, in a folder of its own, and returns what
// came out. The error is about a run that did not come to its end; Result.Err
// judges one that did.
func run(ctx context.Context, c Config, d data, dir string, live *live) (result Result, err error) {
	m, err := startMesh(ctx, c, dir, "kill-"+c.Kill)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	live.line("dashboards: " + strings.Join(m.cluster.URLs(), " "))
	if result, err = m.try(ctx, c, c.trials()[0], d, "mnist", live); err == nil && c.Hold {
		live.line("the mesh goes on until you press Ctrl-C")
		<-ctx.Done()
	}
	return result, err
}

// try trains once in a new session.
func (m *mesh) try(ctx context.Context, c Config, t trial, d data, name string, live *live) (Result, error) {
	started := time.Now()
	wire, err := newWire(c.Shape)
	if err != nil {
		return Result{}, err
	}
	session := api.DefaultSessionConfig()
	session.Strategy, session.Params = t.Strategy, t.Params
	// A round waits for all combiners however long they take, so that what is
	// trained depends on nothing but the seed.
	session.TargetCombiners, session.MinCombiners = c.Combiners, c.Combiners
	info, _, err := m.routes[0].CreateSession(ctx, name, session, api.Bytes(wire.encode(c.Shape.Init(c.Seed))))
	if err != nil {
		return Result{}, fmt.Errorf("mnist: open the session: %w", err)
	}
	stage := newStage(c, live, m.cluster.Kill)
	rounds, err := m.train(ctx, c, t, d, wire, info.Key, stage, live)
	live.set("")
	if err != nil {
		return Result{}, err
	}
	if _, err := m.routes[0].CloseSession(ctx, info.Key); err != nil {
		return Result{}, fmt.Errorf("mnist: close the session: %w", err)
	}
	receipts, victim := stage.result()
	verdict, err := process.Check(ctx, process.CheckOptions{Session: info.Key, Peers: m.cluster.Peers(), Receipts: receipts, Timeout: patience})
	if err != nil {
		return Result{}, err
	}
	return newResult(c, t, rounds, victim, verdict, time.Since(started)), nil
}

// train runs the combiners and the watcher to the last round, and starts the
// killed peer again on the way.
func (m *mesh) train(ctx context.Context, c Config, t trial, d data, wire *wire, session string, stage *stage, live *live) ([]Round, error) {
	group, ctx := errgroup.WithContext(ctx)
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i := range c.Combiners {
		combiner := &combiner{
			index: i + 1, session: session, rounds: c.Rounds, seed: c.Seed,
			clients: d.clients[i*c.Clients : (i+1)*c.Clients],
			train:   d.train, wire: wire, shape: c.Shape, trainer: learn.NewTrainer(c.Shape, c.Hyper),
			routes: m.routes, stage: stage, slots: slots, pace: c.Pace,
		}
		if t.Attack != attackNone && i >= c.Combiners-c.attackers() {
			combiner.attack = &attack{kind: t.Attack, scale: c.Scale}
		}
		group.Go(func() error { return combiner.run(ctx) })
	}
	w := &watcher{
		config: c, session: session, cluster: m.cluster, any: m.routes[0], each: m.each,
		test: d.test, wire: wire, live: live,
	}
	w.onRound = func(round int) {
		if stage.killRound == 0 || round != stage.killRound+1 {
			return
		}
		_, victim := stage.result()
		group.Go(func() error {
			if err := m.cluster.Restart(ctx, victim); err != nil {
				return err
			}
			live.line(fmt.Sprintf("%s started again in round %d", victim, round+1))
			return nil
		})
	}
	var rounds []Round
	group.Go(func() (err error) {
		rounds, err = w.run(ctx)
		return err
	})
	err := group.Wait()
	return rounds, err
}
