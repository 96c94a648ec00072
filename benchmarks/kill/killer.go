package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/kill/raftctl"
)

// killer kills processes at a seed's times and starts them again.
type killer struct {
	*trial
	rand    *rand.Rand
	back    sync.WaitGroup // restarts under way
	mu      sync.Mutex
	dead    map[string]bool // killed and not yet ready again
	skipped int
	errs    []error
}

// killLoop kills until stop is closed, then waits until everything that was
// killed is back.
func (t *trial) killLoop(ctx context.Context, stop <-chan struct{}) error {
	k := &killer{trial: t, rand: rand.New(rand.NewPCG(t.config.seed, 7)), dead: map[string]bool{}}
	if t.config.kill == killLeader || t.config.kill == killRandom {
		k.loop(ctx, stop)
	}
	k.back.Wait()
	t.skipped = k.skipped
	return errors.Join(k.errs...)
}

func (k *killer) loop(ctx context.Context, stop <-chan struct{}) {
	for {
		// Give or take a quarter, so that it does not beat in time with the rounds.
		// The seed's numbers are drawn the same for all systems.
		wait := time.Duration(float64(k.config.killEvery) * (0.75 + 0.5*k.rand.Float64()))
		pick := k.rand.Float64()
		next := time.After(wait)
		select {
		case <-next:
		case <-stop:
			return
		case <-ctx.Done():
			return
		}
		victim := k.victim(ctx, pick)
		if victim == "" {
			k.skipped++
			continue
		}
		if err := k.kill(ctx, victim); err != nil {
			k.fail(err)
			return
		}
	}
}

func (k *killer) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.errs = append(k.errs, err)
}

// victim chooses whom to kill; nobody when more than a minority would be down,
// with which raft could not go on, or when there is no leader just now.
func (k *killer) victim(ctx context.Context, pick float64) string {
	k.mu.Lock()
	dead := len(k.dead)
	var living []string
	for _, p := range k.cluster.Names() {
		if !k.dead[p] {
			living = append(living, p)
		}
	}
	k.mu.Unlock()
	if k.system.peers == 1 {
		return append(living, "")[0]
	}
	if 2*(dead+1) >= k.system.peers {
		return ""
	}
	if k.config.kill == killRandom {
		return living[int(pick*float64(len(living)))]
	}
	if leader := k.leader(ctx); slices.Contains(living, leader) {
		return leader
	}
	return ""
}

// leader names the process whose loss should hurt most.
func (t *trial) leader(ctx context.Context) string {
	if t.system.name != sysRaft {
		_, first := t.watch.newest()
		return first
	}
	for until := time.Now().Add(t.config.killEvery / 2); time.Now().Before(until) && ctx.Err() == nil; pause(ctx, 20*time.Millisecond) {
		for _, p := range t.cluster.Peers() {
			// Only the leader itself knows for sure.
			if state, err := raftctl.Ask(ctx, p.URL); err == nil && state.Leads() {
				return p.Name
			}
		}
	}
	return ""
}

// kill kills a process now and starts it again after a while.
func (k *killer) kill(ctx context.Context, victim string) error {
	k.mu.Lock()
	k.dead[victim] = true
	k.mu.Unlock()
	number, err := k.shoot(victim)
	if err != nil {
		return err
	}
	k.back.Go(func() {
		pause(ctx, k.config.restartAfter)
		if err := k.revive(ctx, number[0], victim); err != nil {
			k.fail(err)
		}
		k.mu.Lock()
		delete(k.dead, victim)
		k.mu.Unlock()
	})
	return nil
}

// shoot kills some processes now, after noting what they have used.
func (t *trial) shoot(victims ...string) (numbers []int, err error) {
	for _, v := range victims {
		if err := t.account(v); err != nil {
			return nil, err
		}
	}
	numbers = t.watch.kill(victims...)
	for _, v := range victims {
		err = errors.Join(err, t.cluster.Kill(v))
	}
	return numbers, err
}

// revive starts a process that was killed, and waits until it is ready.
func (t *trial) revive(ctx context.Context, number int, peer string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := t.cluster.Restart(ctx, peer); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	t.watch.back(number)
	return nil
}
