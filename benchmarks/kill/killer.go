package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/benchmarks/kill/raftctl"
)

// killer kills processes at a seed's times and starts them again.
type killer struct {
	*trial
	rand    *rand.Rand
	back    sync.WaitGroup // restarts under way
	mu      sync.Mutex
	dead    map[string]int // killed and not yet ready again: the number of the kill
	again   map[int]bool   // kills after which the process was killed once more while it started
	skipped int
	errs    []error
}

// killLoop kills until stop is closed, then waits until everything that was
// killed is back.
func (t *trial) killLoop(ctx context.Context, stop <-chan struct{}) error {
	k := &killer{trial: t, rand: rand.New(rand.NewPCG(t.config.seed, 7)), dead: map[string]int{}, again: map[int]bool{}}
	if t.config.kill == killLeader || t.config.kill == killRandom {
		k.loop(ctx, stop)
	}
	k.back.Wait()
	t.skipped = k.skipped
	return errors.Join(k.errs...)
}

func (k *killer) loop(ctx context.Context, stop <-chan struct{}) {
	var late time.Duration
	for n := 0; k.config.kills == 0 || n < k.config.kills; {
		// Give or take a quarter, so that it does not beat in time with the rounds.
		// The seed's numbers are drawn the same for all systems.
		wait := time.Duration(float64(k.config.killEvery) * (0.75 + 0.5*k.rand.Float64()))
		pick, aim := k.rand.Float64(), k.rand.Float64()
		// One that waited for its moment must not be followed at once: two at the same
		// time may be the only holders of an update.
		next := time.After(max(wait-late, k.config.killEvery*3/4))
		select {
		case <-next:
		case <-stop:
			return
		case <-ctx.Done():
			return
		}
		began := time.Now()
		victim := ""
		if k.config.aim > 0 && n%k.config.aim == 0 {
			victim = k.aim(ctx, aims[int(aim*float64(len(aims)))])
		}
		late = time.Since(began)
		if victim == "" {
			victim = k.victim(ctx, pick)
		}
		if victim == "" {
			k.skipped++
			continue
		}
		n++
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
// with which raft could not go on, or when there is no leader just now. Who has
// been started and is not ready yet is down all the same, and may be hit at random.
func (k *killer) victim(ctx context.Context, pick float64) string {
	running := k.cluster.Running()
	k.mu.Lock()
	dead := len(k.dead)
	living := slices.DeleteFunc(slices.Clone(running), func(p string) bool { _, is := k.dead[p]; return is })
	k.mu.Unlock()
	if k.system.peers == 1 {
		return append(living, "")[0]
	}
	last := 2*(dead+1) >= k.system.peers
	if k.config.kill == killRandom && len(running) > 0 {
		victim := running[int(pick*float64(len(running)))]
		if last && slices.Contains(living, victim) {
			return ""
		}
		return victim
	}
	if last {
		return ""
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
	for until := time.Now().Add(t.config.killEvery / 2); time.Now().Before(until) && ctx.Err() == nil; command.Pause(ctx, 20*time.Millisecond) {
		for _, p := range t.cluster.Peers() {
			// Only the leader itself knows for sure.
			if state, err := raftctl.Ask(ctx, http.DefaultClient, p.URL); err == nil && state.Leads() {
				return p.Name
			}
		}
	}
	return ""
}

// kill kills a process now and starts it again after a while.
func (k *killer) kill(ctx context.Context, victim string) error {
	numbers, err := k.shoot(k.bury, victim)
	if err != nil {
		return err
	}
	number := numbers[0]
	k.back.Go(func() {
		command.Pause(ctx, k.config.restartAfter)
		err := k.revive(ctx, number, victim)
		k.mu.Lock()
		defer k.mu.Unlock()
		switch {
		case k.again[number]: // then it need not have become ready
			return
		case err != nil:
			k.errs = append(k.errs, err)
		default:
			k.watch.back(number)
		}
		delete(k.dead, victim)
	})
	return nil
}

// bury notes that processes are as good as dead.
func (k *killer) bury(victims ...string) []int {
	k.mu.Lock()
	defer k.mu.Unlock()
	numbers := k.watch.kill(victims...)
	for i, v := range victims {
		if before, starting := k.dead[v]; starting {
			k.again[before] = true
		}
		k.dead[v] = numbers[i]
	}
	return numbers
}

// shoot kills some processes now, after noting what they have used, and looks
// what they were doing. Bury notes the kills.
func (t *trial) shoot(bury func(victims ...string) []int, victims ...string) (numbers []int, err error) {
	for _, v := range victims {
		if err := t.account(v); err != nil {
			return nil, err
		}
	}
	var scenes []scene
	for _, v := range victims {
		scenes = append(scenes, t.moments.before(t.peer(v)))
	}
	numbers = bury(victims...)
	for _, v := range victims {
		err = errors.Join(err, t.cluster.Kill(v))
		t.forget(v)
	}
	died := t.now()
	for i, s := range scenes {
		t.watch.during(numbers[i], t.moments.after(s, died))
	}
	return numbers, err
}

// revive starts a process that was killed, and waits until it is ready.
func (t *trial) revive(ctx context.Context, number int, peer string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	t.watch.start(number)
	if err := t.cluster.Restart(ctx, peer); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	t.find(peer)
	return nil
}
