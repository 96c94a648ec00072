package mesh_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// compacting has peers compact as soon as a few rounds are final.
func compacting(c *cluster) {
	c.tune = func(cfg *mesh.Config) { cfg.CompactAfter, cfg.KeepRounds = 2000, 3 }
}

// snapshots returns how many snapshots of the ledger a peer's folder has.
func (c *cluster) snapshots(name string) int {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(c.dir, name, "log", "*.snapshot"))
	if err != nil {
		c.t.Fatal(err)
	}
	return len(files)
}

// essence is what compaction leaves of a round.
func essence(r api.RoundInfo) string {
	r.Computed, r.Lost, r.Sealed, r.Took, r.Versions, r.Compacted = nil, nil, nil, nil, 0, false
	r.Updates = slices.Clone(r.Updates)
	for i := range r.Updates {
		r.Updates[i].Copies = nil
	}
	return text(r)
}

// Logs are compacted behind final rounds: what a round counted and gave stays, what was acknowledged long ago is still known when it is pushed
// again, and peers that start again or come new agree with those who compacted.
func TestCompaction(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(1, 2))
		const n, rounds = 20, 40
		compacting(c)
		c.up("a", "b", "c")
		c.open("a", "s", random(rng, n), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		first := from(c.session("a", "s").Model, combiner(0), 7)
		first.ID = "early"
		bytes := random(rng, n)
		c.push("a", "s", first, bytes)
		for range rounds {
			c.train(rng, n)
		}
		c.final("s", rounds)
		c.eventually(time.Minute, func() error {
			for _, name := range c.running() {
				if c.snapshots(name) != 1 {
					return fmt.Errorf("%s has %d snapshots", name, c.snapshots(name))
				}
			}
			return nil
		})
		before := c.rounds("a", "s")
		if first, last := before[0], before[len(before)-1]; !first.Compacted || last.Compacted || len(last.Computed) != 3 {
			t.Errorf("the first round is %s, the last %s", text(first), text(last))
		}

		again, err := c.try("b", "s", first, bytes)
		if err != nil || !again.Duplicate {
			t.Errorf("what a compacted round counts, pushed again: %+v, %v", again, err)
		}
		if _, err := c.try("b", "s", first, random(rng, n)); !api.TypeUpdateConflict.Is(err) {
			t.Errorf("other bytes under a key that a compacted round counts: %v", err)
		}

		c.kill("b") // it goes on from its snapshot
		c.train(rng, n)
		c.up("b")
		c.train(rng, n)
		c.up("d") // it needs one of somebody else's
		if got := c.metric("d", "snapshots_total", "taken"); got != 1 {
			t.Errorf("the joiner took %v snapshots", got)
		}
		c.train(rng, n)
		c.kill("a", "d")
		c.up("a", "d")
		c.train(rng, n)
		c.counts()
		for i, r := range before {
			for _, name := range c.running() {
				if now := c.rounds(name, "s")[i]; essence(now) != essence(r) {
					t.Fatalf("%s: round %d was %s and is %s", name, r.Round, text(r), text(now))
				}
			}
		}
	})
}

// A snapshot that does not arrive whole changes nothing; another peer's does as well. Who is killed behind it starts from what it took.
func TestSnapshotIsTakenWhole(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(3, 4))
		const n = 20
		compacting(c)
		c.up("a", "b")
		c.open("a", "s", random(rng, n), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		for range 30 {
			c.train(rng, n)
		}
		c.eventually(time.Minute, func() error {
			for _, name := range c.running() {
				if c.snapshots(name) == 0 {
					return fmt.Errorf("%s has no snapshot", name)
				}
			}
			return nil
		})
		c.mu.Lock()
		c.torn["a"], c.torn["b"] = true, true
		c.mu.Unlock()
		c.start("c")
		time.Sleep(10 * time.Second)
		if _, err := c.nodes["c"].peer.Session("s"); err == nil || c.snapshots("c") != 0 {
			t.Errorf("it took a torn snapshot: %v, %d files", err, c.snapshots("c"))
		}
		c.mu.Lock()
		c.torn["b"] = false
		c.mu.Unlock()
		c.eventually(time.Minute, func() error {
			if c.snapshots("c") == 0 {
				return errors.New("c has no snapshot")
			}
			return nil
		})
		c.kill("c")
		c.up("c")
		c.train(rng, n)
		c.counts()
		if a, c := c.rounds("a", "s"), c.rounds("c", "s"); len(a) != len(c) || essence(a[5]) != essence(c[5]) {
			t.Errorf("%d and %d rounds, %s and %s", len(a), len(c), text(a[5]), text(c[5]))
		}
	})
}
