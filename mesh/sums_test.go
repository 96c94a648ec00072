package mesh_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// Small models: the sums travel by gossip, and a peer serves a round though it has none of the others' updates.
func TestSmallSumsAreGossiped(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(1, 2))
		c.up("a", "b", "c")
		const n, perPeer = 1000, 2
		seed := random(rng, n)
		c.open("a", "s", seed, func(s *api.SessionConfig) {
			s.Copies, s.TargetCombiners, s.RoundTimeout = 1, 3*perPeer, seconds(3600)
		})
		bases := []string{digest(seed)}
		for round := 1; round <= 3; round++ {
			// Alone with its own updates, and with nobody handing any out, a peer has only the sums to compute from.
			c.withhold(func(push func(at string, o api.PushOptions, body []byte)) {
				for i := range 3 * perPeer {
					base := bases[rng.IntN(len(bases))] // stale ones too
					o := from(base, combiner(i), 1+rng.Int64N(1000))
					o.ID = fmt.Sprint("u", round)
					o.Metrics = map[string]float64{"loss": rng.Float64()}
					push([]string{"a", "b", "c"}[i%3], o, random(rng, n))
				}
			})
			c.settles("s", round, "a", "b", "c")
			bases = append(bases, c.session("a", "s").Model)
			var received float64
			for _, at := range c.running() {
				if got := c.session(at, "s").Model; got != bases[round] {
					t.Errorf("round %d: %s serves %s, a %s", round, at, got, bases[round])
				}
				if n := c.metric(at, "sums_total", "gossiped"); n != float64(round) {
					t.Errorf("round %d at %s: %v sums gossiped", round, at, n)
				}
				received += c.metric(at, "sums_total", "received")
			}
			if received < float64(2*round) { // the others may take the model of the first, who can have it from two sums only
				t.Errorf("round %d: %v sums received", round, received)
			}
			// What is served can be asked for and trained from, whether or not anybody has given a word for it yet.
			for _, at := range c.running() {
				c.pull(at, "s", api.PullOptions{Digest: bases[round]})
			}
			r := c.push("b", "s", named(fmt.Sprint("early", round), from(bases[round], "c0", 1)), random(rng, n))
			if r.BaseRound != uint64(round) {
				t.Errorf("the base is of round %d: %+v", round, r)
			}
			c.final("s", round) // though its updates are at one peer each
			c.refuse()
		}
		c.close("c", "s")
		if c.requests("sums") > 0 {
			t.Error("small sums were asked for")
		}
		rounds := c.agree("s")
		c.counted("s", rounds)
		if len(rounds[0].Metrics) != 1 {
			t.Errorf("metrics %v", rounds[0].Metrics)
		}
	})
}

// withhold lets f push updates that no peer hands out to another.
func (c *cluster) withhold(f func(push func(at string, o api.PushOptions, body []byte))) {
	c.t.Helper()
	f(func(at string, o api.PushOptions, body []byte) {
		c.t.Helper()
		c.mu.Lock()
		c.refused[digest(body)] = true
		c.mu.Unlock()
		c.push(at, "s", o, body)
	})
}

// Large models: the sum over a label and a range is asked of a holder, where it is smaller than the updates.
func TestLargeSumsAreAskedFor(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(3, 4))
		c.up("a", "b", "c")
		const n, updates = 40_000, 6
		seed := random(rng, n)
		c.open("a", "s", seed, func(s *api.SessionConfig) {
			s.Copies, s.TargetCombiners, s.RoundTimeout = 1, updates+1, seconds(3600)
		})
		for round := 1; round <= 2; round++ {
			base := c.session("a", "s").Model
			if round == 2 {
				base = digest(seed)
			}
			c.withhold(func(push func(at string, o api.PushOptions, body []byte)) {
				for i := range updates {
					push("a", named(fmt.Sprint("u", round), from(base, combiner(i), 1+rng.Int64N(1<<30))), random(rng, n))
				}
			})
			c.push("b", "s", named(fmt.Sprint("u", round), from(base, "last", 1)), random(rng, n))
			c.settles("s", round, "a", "b", "c")
			if c.session("a", "s").Model != c.session("c", "s").Model || c.session("a", "s").Model != c.session("b", "s").Model {
				t.Errorf("round %d differs", round)
			}
			c.refuse()
			c.final("s", round)
		}
		if c.requests("sums") == 0 || c.metric("a", "sums_total", "served") == 0 || c.metric("a", "sums_total", "gossiped") > 0 {
			t.Errorf("%d requests for sums, %v served", c.requests("sums"), c.metric("a", "sums_total", "served"))
		}
		c.counted("s", c.agree("s"))
	})
}

// A step from an older model counts as a step.
func TestStaleUpdatesCountAsSteps(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		seed := file(0)
		c.open("a", "s", seed, func(s *api.SessionConfig) { s.TargetCombiners = 1; s.RoundTimeout = seconds(1) })
		c.push("a", "s", from(digest(seed), "x", 5), file(8))
		c.settles("s", 1, "a", "b", "c")
		c.close("a", "s")
		c.agree("s")

		c.open("a", "t", seed, func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		c.push("a", "t", from(digest(seed), "x", 5), file(8))
		c.push("a", "t", from(digest(seed), "y", 5), file(8))
		c.settles("t", 1, "a", "b", "c")
		one := c.session("a", "t").Model
		c.push("b", "t", from(one, "y", 1), file(10))
		c.push("c", "t", named("stale", from(digest(seed), "z", 3)), file(4))
		c.close("b", "t")
		rounds := c.agree("t")
		c.counted("t", rounds)
		// 8 + (1·(10−8) + 3·(4−0)) / 4
		if got := values(c.pull("a", "t", api.PullOptions{Round: new(uint64(2))})); got[0] != 11.5 {
			t.Errorf("round 2 is %v, not 11.5: %s", got, text(rounds))
		}
	})
}

// Sessions do not touch each other: the same combiners, ids and bytes in two of them.
func TestSessionsAreIsolated(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		c.open("a", "s", file(1, 1), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		c.open("b", "t", file(1, 1), func(s *api.SessionConfig) { s.TargetCombiners = 3 })
		for _, session := range []string{"s", "t"} {
			for i := range 3 {
				c.push("a", session, named("u", weighted(combiner(i), int64(1+i))), file(float32(i), 3))
				time.Sleep(time.Second)
			}
		}
		c.close("a", "s")
		c.push("b", "t", named("v", weighted("c0", 1)), file(4, 4))
		c.close("b", "t")
		s, u := c.agree("s"), c.agree("t")
		c.counted("s", s)
		c.counted("t", u)
		if len(s[0].Updates) != 2 || len(u[0].Updates) != 3 {
			t.Errorf("%s\n%s", text(s), text(u))
		}
	})
}
