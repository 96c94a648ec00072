package mesh_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// TestDrain drains one of two peers: the other is then the only one to hold what is pushed, and waits for nobody.
func TestDrain(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng, n := rand.New(rand.NewPCG(1, 1)), 100
		c.up("a", "b")
		c.open("a", "s", random(rng, n), nil)
		before := c.push("a", "s", api.PushOptions{Combiner: "c0", Weight: 1}, random(rng, n))
		if !slices.Equal(before.Copies, []string{"a", "b"}) {
			t.Fatalf("copies %v", before.Copies)
		}
		c.nodes["b"].peer.Drain()
		if err := c.nodes["b"].peer.Ready(); err == nil {
			t.Error("ready while it drains")
		}
		_, err := c.try("b", "s", api.PushOptions{Combiner: "c1", Weight: 1}, random(rng, n))
		if !api.TypeNotReady.Is(err) {
			t.Errorf("a push to a draining peer: %v", err)
		}
		begin := time.Now()
		r := c.push("a", "s", api.PushOptions{Combiner: "c1", Weight: 1}, random(rng, n))
		if took := time.Since(begin); took > 100*time.Millisecond || !slices.Equal(r.Copies, []string{"a"}) {
			t.Errorf("after %v held by %v", took, r.Copies)
		}
		if !slices.Contains(c.alive("a"), "b") {
			t.Error("a draining peer is taken for dead")
		}
		c.stop("b")
		c.eventually(time.Second, func() error {
			if alive := c.alive("a"); slices.Contains(alive, "b") {
				return fmt.Errorf("a takes %v for alive", alive)
			}
			return nil
		})
		// It comes back, and takes what it missed.
		c.up("b")
		c.eventually(time.Minute, func() error {
			if got := c.session("b", "s"); got.Round != c.session("a", "s").Round {
				return fmt.Errorf("b is at round %d", got.Round)
			}
			return nil
		})
		c.push("b", "s", api.PushOptions{Combiner: "c2", Weight: 1}, random(rng, n))
	})
}
