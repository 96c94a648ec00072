package mesh_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestKilledPeerCatchesUp(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		// Killed in the middle of a round, with one of its updates.
		c.push("c", "s", weighted("x", 1), file(1))
		c.kill("c")
		c.push("a", "s", weighted("y", 3), file(5))
		for round := 1; round <= 3; round++ {
			c.settles("s", round, "a", "b")
			base := c.session("a", "s").Model
			c.push("a", "s", from(base, "x", 1), file(float32(10*round)))
			c.push("b", "s", from(base, "y", 2), file(float32(20*round)))
		}
		c.settles("s", 4, "a", "b")
		before := c.rounds("a", "s")
		c.up("c")
		c.settles("s", 4, "c")
		c.final("s", 4)
		rounds := c.agree("s")
		c.counted("s", rounds)
		for i, r := range rounds {
			if r.Inputs != before[i].Inputs || r.Model != before[i].Model {
				t.Errorf("the return of a peer that has nothing new changed round %d", r.Round)
			}
		}
		// And it takes part again.
		c.push("c", "s", weighted("x", 1), file(7))
		c.push("c", "s", weighted("y", 1), file(8))
		c.final("s", 5)
		c.counted("s", c.agree("s"))
	})
}

// All die at once, as in a power cut, and go on where they were.
func TestAllRestart(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		c.push("a", "s", weighted("x", 1), file(1))
		c.push("b", "s", weighted("y", 1), file(2))
		c.settles("s", 1, "a", "b", "c")
		c.push("b", "s", weighted("x", 1), file(3))
		c.kill("a", "b", "c")
		c.up("a", "b", "c")
		c.push("c", "s", weighted("y", 1), file(4))
		c.final("s", 2)
		c.counted("s", c.agree("s"))
	})
}

func TestJoinerInMidSession(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		push := func(round int, at string) {
			base := c.session("a", "s").Model
			c.push(at, "s", from(base, "x", 1), file(float32(round)))
			c.push(at, "s", from(base, "y", 2), file(float32(2*round)))
			c.eventually(10*time.Second, func() error { // joining may have made an empty round
				for _, name := range c.running() {
					if c.session(name, "s").Model == base {
						return fmt.Errorf("%s serves no newer model", name)
					}
				}
				return nil
			})
		}
		push(1, "a")
		push(2, "b")
		c.up("c")
		c.settles("s", 2, "c")
		push(3, "c")
		push(4, "c")
		c.final("s", 4)
		rounds := c.agree("s")
		c.counted("s", rounds)
		if info := c.session("b", "s"); !slices.Equal(info.Members, []string{"a", "b", "c"}) {
			t.Errorf("members %v", info.Members)
		}
		if last := rounds[len(rounds)-1]; last.Computed["c"] == "" {
			t.Errorf("the joiner's word is not part of %s", text(last))
		}
	})
}

func TestLeaveHandsOver(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners, s.Copies = 2, 1 })
		r := c.push("c", "s", weighted("x", 1), file(1))
		if err := c.ask("c").Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-c.nodes["c"].peer.Left()
		if !c.holds("a", r.Digest) && !c.holds("b", r.Digest) {
			t.Error("the only copy left with the peer")
		}
		c.kill("c")
		// Nobody waits for it.
		c.push("a", "s", weighted("y", 1), file(3))
		c.counts()
		c.push("a", "s", weighted("x", 1), file(5))
		c.push("b", "s", weighted("y", 1), file(6))
		c.counts()
		rounds := c.agree("s")
		c.counted("s", rounds)
		if info := c.session("a", "s"); !slices.Equal(info.Members, []string{"a", "b"}) {
			t.Errorf("members %v", info.Members)
		}
		if err := c.ask("b").Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.kill("b")
		c.eventually(time.Minute, func() error {
			if seen := c.alive("a"); len(seen) > 1 {
				return fmt.Errorf("a sees %v", seen)
			}
			return nil
		})
		c.problem(c.ask("a").Leave(t.Context()), http.StatusConflict, "last")
		// Back on the same directory it is a new peer.
		c.up("c")
		c.push("c", "s", weighted("x", 1), file(7))
		c.push("c", "s", weighted("y", 1), file(8))
		c.counts()
		c.counted("s", c.agree("s"))
	})
}

// A peer does not leave before somebody else has a say in what becomes of its sessions.
func TestLeaverWaitsForAnotherVoice(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners, s.RoundTimeout = 2, seconds(60) })
		c.push("a", "s", weighted("x", 1), file(1)) // while an update waits for others, joiners wait too
		c.up("b")
		began := time.Now()
		if err := c.ask("a").Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 50*time.Second {
			t.Errorf("it left after %v, when the joiner had no say yet", took)
		}
		c.kill("a")
		c.push("b", "s", weighted("x", 1), file(3))
		c.push("b", "s", weighted("y", 1), file(4))
		c.counts()
		c.counted("s", c.agree("s"))
	})
}

// The others give their word for a round that they computed from a sum, though the only holder of its updates dies.
func TestWordWithoutBytes(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners, s.Copies = 2, 1 })
		c.refuse(api.Receipt{Digest: digest(file(7))}, api.Receipt{Digest: digest(file(9))}, api.Receipt{Digest: digest(file(8))})
		c.push("c", "s", weighted("x", 1), file(7))
		c.push("c", "s", weighted("y", 1), file(9))
		c.settles("s", 1, "a", "b")
		c.kill("c")
		c.eventually(time.Second, func() error {
			if said := c.rounds("a", "s")[0].Computed; said["a"] == "" || said["b"] == "" {
				return fmt.Errorf("words of %v only", said)
			}
			return nil
		})
		c.up("c")
		c.final("s", 1)
		c.counted("s", c.agree("s"))
	})
}

// A copy that died with its holder is made again at another.
func TestRepair(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), nil)
		r := c.push("a", "s", weighted("x", 1), file(1))
		other := r.Copies[1]
		third := map[string]string{"b": "c", "c": "b"}[other]
		time.Sleep(10 * time.Second)
		if c.holds(third, r.Digest) {
			t.Fatalf("%s has a third copy", third)
		}
		c.kill(other)
		c.eventually(time.Minute, func() error {
			if !c.holds(third, r.Digest) {
				return fmt.Errorf("%s has no copy", third)
			}
			return nil
		})
		// So the acceptor may die too.
		c.kill("a")
		c.push(third, "s", weighted("y", 1), file(2))
		if _, err := c.ask(third).CloseSession(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		c.settles("s", 1, third)
		c.counted("s", c.agree("s"))
		c.up("a", other)
		c.close("a", "s")
		c.counted("s", c.agree("s"))
	})
}

// With one copy, an update is lost with its holder, and returns with it.
func TestUpdateIsLostAndReturns(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) {
			s.TargetCombiners, s.Copies, s.LostAfter, s.RoundTimeout = 2, 1, seconds(20), seconds(3600)
		})
		x := c.push("c", "s", weighted("x", 1), file(1))
		c.eventually(time.Second, func() error {
			if open, err := c.nodes["a"].peer.Round("s", 1); err != nil || len(open.Updates) != 1 {
				return fmt.Errorf("%s, %w", text(open), err)
			}
			return nil
		})
		c.kill("c")
		c.push("a", "s", weighted("y", 1), file(4))
		began := time.Now()
		time.Sleep(15 * time.Second)
		if n := c.session("a", "s").ModelRound; n != 0 {
			t.Fatalf("round %d is served without an update that may still come", n)
		}
		if r := c.rounds("a", "s")[0]; r.State != api.RoundSealed {
			t.Errorf("round 1, whose model is not here, is %s", r.State)
		}
		c.settles("s", 1, "a", "b")
		if took := time.Since(began); took < 20*time.Second || took > 25*time.Second {
			t.Errorf("it was given up after %v, not after 20 s", took)
		}
		r := c.agree("s")[0]
		if len(r.Updates) != 1 || len(r.Lost) != 1 || r.Lost[0] != (api.UpdateRef{Combiner: "x", ID: x.ID}) {
			t.Errorf("round 1: %s", text(r))
		}
		if c.metric("a", "updates_lost_total", "") == 0 {
			t.Error("no metric tells of the loss")
		}
		c.up("c") // nobody pushes any more, and round_timeout is an hour
		c.final("s", 2)
		rounds := c.agree("s")
		c.counted("s", rounds)
		if len(rounds[1].Updates) != 1 || rounds[1].Updates[0].ID != x.ID || rounds[0].Inputs != r.Inputs {
			t.Errorf("it did not return in round 2: %s", text(rounds))
		}
	})
}

// Both sides of a partition train; what they acknowledged is counted once each, and all agree.
func TestPartitionHeals(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(5, 6))
		left, right := []string{"a", "b", "c"}, []string{"d", "e"}
		c.up("a", "b", "c", "d", "e")
		seed := random(rng, 100)
		c.open("a", "s", seed, func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		train := func(round int, side []string, who string) {
			base := c.session(side[0], "s").Model
			for i := range 2 {
				o := from(base, who+combiner(i), 1+rng.Int64N(100))
				c.push(side[rng.IntN(len(side))], "s", named(fmt.Sprint("u", round), o), random(rng, 100))
			}
			c.settles("s", round, side...)
		}
		train(1, append(slices.Clone(left), right...), "all")
		c.final("s", 1)
		c.net.Partition(left, right)
		time.Sleep(30 * time.Second) // until each side takes the other for dead
		for round := 2; round <= 5; round++ {
			train(round, left, "left")
			if round < 4 {
				train(round, right, "right")
			}
		}
		c.net.Heal()
		c.together()
		c.final("s", 5)
		c.counted("s", c.agree("s"))
		train(6, append(slices.Clone(left), right...), "all")
		c.close("e", "s")
		rounds := c.agree("s")
		c.counted("s", rounds)
		if len(rounds[1].Updates) != 4 || len(rounds[2].Updates) != 4 {
			t.Errorf("the sides' work does not meet in the same rounds: %s", text(rounds))
		}
	})
}

func TestCloseAcceptsNothingAfter(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		seed := file(0)
		c.open("a", "s", seed, func(s *api.SessionConfig) { s.MinCombiners = 2 })
		first := from(digest(seed), "x", 1)
		c.push("a", "s", first, file(1)) // below the minimum
		c.close("b", "s")
		for _, at := range c.running() {
			_, err := c.try(at, "s", weighted("y", 1), file(2))
			c.problem(err, http.StatusConflict, "closed")
			if r, err := c.try(at, "s", first, file(1)); err != nil || !r.Duplicate {
				t.Errorf("retry of what was counted: %+v, %v", r, err)
			}
			if info, err := c.ask(at).CloseSession(t.Context(), "s"); err != nil || info.State != api.SessionClosed {
				t.Errorf("closed again: %+v, %v", info, err)
			}
		}
		time.Sleep(5 * time.Minute)
		c.counted("s", c.agree("s"))
		c.kill("b")
		c.up("b")
		_, err := c.try("b", "s", weighted("y", 1), file(2))
		c.problem(err, http.StatusConflict, "closed")
		c.counted("s", c.agree("s"))
	})
}
