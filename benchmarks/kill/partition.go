package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/benchmarks/verify"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// lan is a network of hosts of its own, that can be cut.
type lan interface {
	host(name string) process.Host
	dial(host string) dialer
	cut(a, b []string) // neither hears the other
	heal()
	contact(a, b []string) time.Time // when they first reached each other since then; zero: not yet
	Close() error
}

// Sides of a cut; the first has the majority of the peers. Each is the name of
// the host of its combiners, too.
var sideNames = [2]string{"left", "right"}

// judgeHost is where the benchmark itself asks from. It is never cut off.
const judgeHost = "judge"

func sideName(i int) string { return sideNames[i] }

// sideOf is the side of a combiner: half of them are on either.
func sideOf(combiner int) int { return combiner % 2 }

// Cut is one time for which the network was in two. Times are seconds since the
// run's start.
type Cut struct {
	At      float64   `json:"at"`
	Healed  float64   `json:"healed"`
	Contact float64   `json:"contact"` // when the sides first reached each other again
	Agreed  float64   `json:"agreed"`  // when all peers served one model; 0: not within the run
	Rounds  [2]uint64 `json:"rounds"`  // finished on either side meanwhile
	Acked   [2]int    `json:"acked"`   // updates of either side's combiners acknowledged meanwhile
}

// sides are the names of the peers on either side.
func (t *trial) sides() [2][]string {
	names := t.cluster.Names()
	left := len(names)/2 + 1
	return [2][]string{names[:left], names[left:]}
}

// nearFirst are the URLs that a combiner tries: of its own side first, each
// combiner beginning with another.
func (t *trial) nearFirst(combiner int) []string {
	urls := t.cluster.URLs()
	left := len(urls)/2 + 1
	near, far := slices.Clone(urls[:left]), slices.Clone(urls[left:])
	if sideOf(combiner) == 1 {
		near, far = far, near
	}
	turn := func(urls []string) []string {
		if len(urls) == 0 {
			return nil
		}
		k := combiner / 2 % len(urls)
		return slices.Concat(urls[k:], urls[:k])
	}
	return slices.Concat(turn(near), turn(far))
}

// cutLoop cuts the network as often as is asked for, and each time waits until
// it has come to one model again.
func (t *trial) cutLoop(ctx context.Context, stop <-chan struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	peers := t.sides()
	t.watch.divide(peers)
	hosts := [2][]string{slices.Concat(peers[0], []string{sideName(0)}), slices.Concat(peers[1], []string{sideName(1)})}
	r := rand.New(rand.NewPCG(t.config.seed, 7))
	for range t.config.cuts {
		command.Pause(ctx, time.Duration(float64(t.config.cutEvery)*(0.75+0.5*r.Float64())))
		if ctx.Err() != nil {
			break
		}
		before := t.watch.onSides()
		c := Cut{At: t.now()}
		t.lan.cut(hosts[0], hosts[1])
		command.Pause(ctx, t.config.cutFor)
		if t.config.quick {
			t.bothSides(ctx, c.At, before)
		}
		after := t.watch.onSides()
		for i := range c.Rounds {
			c.Rounds[i] = after[i] - before[i]
		}
		t.lan.heal()
		c.Healed = t.now()
		t.rejoin(ctx, &c, peers)
		t.mu.Lock()
		t.cuts = append(t.cuts, c)
		t.mu.Unlock()
	}
	if ctx.Err() != nil {
		t.lan.heal() // for what comes after the end of the time
	}
	return nil
}

// bothSides waits until the majority has finished a round in a cut and updates were acknowledged on either side, but not for ever: on a slow machine a short
// cut may be over before anybody has noticed it.
func (t *trial) bothSides(ctx context.Context, since float64, before [2]uint64) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for ; ctx.Err() == nil; command.Pause(ctx, 20*time.Millisecond) {
		t.work.mu.Lock()
		cut := []Cut{{At: since, Healed: t.now()}}
		err := countCuts(cut, t.work.pushes, t.config.combiners)
		t.work.mu.Unlock()
		if err != nil || min(cut[0].Acked[0], cut[0].Acked[1]) > 0 && t.watch.onSides()[0] > before[0] {
			return
		}
	}
}

// rejoin waits until the sides have met again and all peers serve one model.
func (t *trial) rejoin(ctx context.Context, c *Cut, peers [2][]string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for ; ctx.Err() == nil; command.Pause(ctx, 2*time.Millisecond) {
		_, one := t.watch.agreed()
		if c.Contact == 0 {
			if at := t.lan.contact(peers[0], peers[1]); !at.IsZero() {
				c.Contact = at.Sub(t.start).Seconds()
			} else if one {
				c.Contact = t.now() // a connection has outlived the cut
			}
		}
		if one && c.Contact > 0 {
			c.Agreed = t.now()
			return
		}
	}
}

// countCuts adds the updates that were acknowledged during the cuts.
func countCuts(cuts []Cut, pushes []Push, combiners int) error {
	for _, p := range pushes {
		combiner, err := verify.Index(p.Combiner, combiners)
		if err != nil {
			return fmt.Errorf("kill: %w", err)
		}
		for i := range cuts {
			if c := &cuts[i]; p.Acked > c.At && p.Acked < c.Healed {
				c.Acked[sideOf(combiner)]++
			}
		}
	}
	return nil
}
