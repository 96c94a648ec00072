package mesh_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// Whose machine refuses connections is dead, whatever gossip still thinks: its seal is not waited for.
func TestRefusedConnectionsAreDeath(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners, s.SettleTimeout = 2, seconds(20) })
		c.push("a", "s", weighted("x", 1), file(1))
		c.kill("c")
		began := time.Now()
		c.push("b", "s", weighted("y", 3), file(5))
		c.settles("s", 1, "a", "b")
		if took := time.Since(began); took > time.Second {
			t.Errorf("a dead peer was waited for: %v", took)
		}
		c.up("c")
		c.final("s", 1)
		c.counted("s", c.agree("s"))
	})
}

// Sums are asked of holders that live: where one has just died, of the next.
func TestSumsOfTheDeadAreAskedOfOthers(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(21, 22))
		c.up("a", "b", "c", "d")
		const n, updates = 60_000, 12
		c.open("a", "s", random(rng, n), func(s *api.SessionConfig) { s.TargetCombiners = updates + 1 })
		for i := range updates {
			c.push([]string{"a", "b", "c"}[i%3], "s", weighted(combiner(i), 1+rng.Int64N(100)), random(rng, n))
		}
		c.kill("b")
		began := time.Now()
		c.push("d", "s", weighted("last", 1), random(rng, n))
		c.settles("s", 1, "a", "c", "d")
		if took := time.Since(began); took > 1500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		c.up("b")
		c.final("s", 1)
		c.counted("s", c.agree("s"))
	})
}

// A peer that starts again while another is down does not wait for that one.
func TestStartDoesNotWaitForTheDead(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.kill("b", "c")
		began := time.Now()
		c.start("b")
		c.eventually(time.Minute, func() error { return c.nodes["b"].peer.Ready() })
		if took := time.Since(began); took > time.Second {
			t.Errorf("it was ready after %v", took)
		}
		c.up("c")
	})
}
