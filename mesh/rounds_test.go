package mesh_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func seconds(n float64) api.Duration { return api.Duration(n * float64(time.Second)) }

func TestTargetClosesARoundAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) {
			s.TargetCombiners, s.RoundTimeout, s.SettleTimeout = 3, seconds(3600), seconds(10)
		})
		for round := range 3 {
			base := c.session("a", "s").Model
			c.push("a", "s", from(base, "x", 1), file(float32(round+1)))
			c.push("b", "s", from(base, "y", 1), file(float32(2*round+1)))
			// One combiner twice is still one combiner.
			c.push("b", "s", named(fmt.Sprint("again", round), from(base, "y", 1)), file(float32(5*round+1)))
			time.Sleep(time.Minute)
			if n := len(c.rounds("a", "s")); n != round {
				t.Fatalf("with two of three combiners there are %d rounds", n)
			}
			began := time.Now()
			c.push("c", "s", from(base, "z", 2), file(float32(3*round+1)))
			c.settles("s", round+1, "a", "b", "c")
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("it took %v until all served round %d", took, round+1)
			}
		}
		c.final("s", 3)
		rounds := c.agree("s")
		c.counted("s", rounds)
		if len(rounds) != 3 || len(rounds[1].Updates) != 4 {
			t.Errorf("rounds: %s", text(rounds))
		}
	})
}

// Who waits for what comes after a round is not woken by a round that only takes note of a joiner.
func TestRoundsWithoutContentAreNotNewer(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a")
		c.open("a", "s", file(3), func(s *api.SessionConfig) { s.TargetCombiners, s.Copies = 1, 1 })
		c.up("b")
		c.final("s", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := c.nodes["a"].peer.WaitModel(ctx, "s", "0"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("woken by an empty round: %v", err)
		}
		// An update that leaves the model as it is makes one that is newer all the same.
		c.push("a", "s", weighted("x", 1), file(3))
		c.settles("s", 2, "a", "b")
		for _, after := range []string{"0", "1"} {
			if err := c.nodes["b"].peer.WaitModel(t.Context(), "s", after); err != nil {
				t.Error(err)
			}
		}
	})
}

func TestTimeoutClosesARoundWithEnough(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.MinCombiners = 2; s.RoundTimeout = seconds(10) })
		c.push("a", "s", weighted("x", 1), file(1))
		time.Sleep(time.Minute)
		if n := len(c.rounds("a", "s")); n != 0 {
			t.Fatalf("one combiner of at least two made %d rounds", n)
		}
		// The round opened long ago: the second combiner closes it.
		c.push("b", "s", weighted("y", 1), file(3))
		c.settles("s", 1, "a", "b", "c")
		opened := time.Now()
		base := c.session("a", "s").Model
		c.push("c", "s", from(base, "x", 1), file(5))
		c.push("c", "s", from(base, "y", 1), file(7))
		time.Sleep(5 * time.Second)
		if n := len(c.rounds("a", "s")); n != 1 {
			t.Fatalf("%d rounds after half the timeout", n)
		}
		c.settles("s", 2, "a", "b", "c")
		if took := time.Since(opened); took < 9*time.Second || took > 12*time.Second {
			t.Errorf("the round was open for %v, not for 10 s", took)
		}
		c.final("s", 2)
		c.counted("s", c.agree("s"))
	})
}

// Majority and minority go on, each with what it has, and meet in the same round numbers after.
func TestSettleTimeoutLetsBothSidesGoOn(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) {
			s.TargetCombiners, s.Copies = 1, 1
			s.SettleTimeout = seconds(1)
		})
		c.net.Partition([]string{"c"}, []string{"a", "b"})
		// Nobody is dead yet in anybody's eyes, so a seal is waited for as long as settle_timeout says.
		began := time.Now()
		c.push("a", "s", weighted("x", 1), file(8))
		c.push("c", "s", weighted("y", 3), file(16))
		time.Sleep(900 * time.Millisecond)
		for _, at := range c.running() {
			if c.session(at, "s").ModelRound != 0 {
				t.Errorf("%s went on after %v", at, time.Since(began))
			}
		}
		c.settles("s", 1, "a", "b", "c")
		if took := time.Since(began); took < time.Second || took > 2500*time.Millisecond {
			t.Errorf("they went on after %v, not after 1 s", took)
		}
		left, right := c.session("b", "s").Model, c.session("c", "s").Model
		if left != digest(file(8)) || right != digest(file(16)) {
			t.Errorf("each side has the model of its own update: %s, %s", left, right)
		}
		c.net.Heal()
		c.together()
		c.final("s", 1)
		rounds := c.agree("s")
		c.counted("s", rounds)
		if len(rounds) != 1 || values(c.pull("c", "s", api.PullOptions{}))[0] != 14 {
			t.Errorf("both sides' updates make one round: %s", text(rounds))
		}
	})
}

// A late seal amends a round and the later ones; what was trained on the earlier version counts by the general formula.
func TestLateSealAmends(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0, 1), func(s *api.SessionConfig) { s.TargetCombiners, s.Copies = 1, 2 })
		c.net.Partition([]string{"c"}, []string{"a", "b"})
		late := c.push("c", "s", weighted("late", 5), file(64, 3))
		for round := range 2 {
			base := c.session("a", "s").Model
			c.push("a", "s", from(base, "x", 2), file(float32(round)+0.1, 7))
			c.settles("s", round+1, "a", "b")
		}
		c.settles("s", 1, "c")
		before := c.rounds("a", "s")
		if before[0].State != api.RoundSettled || !slices.Contains(before[0].WaitingFor, "c") {
			t.Errorf("a round that c has not sealed: %s", text(before[0]))
		}
		c.net.Heal()
		c.together()
		c.final("s", 2)
		rounds := c.agree("s")
		c.counted("s", rounds)
		if rounds[0].Inputs == before[0].Inputs || rounds[0].Model == before[0].Model {
			t.Error("the late seal changed nothing")
		}
		if i := slices.IndexFunc(rounds[0].Updates, func(u api.UpdateInfo) bool { return u.ID == late.ID && u.Combiner == "late" }); i < 0 {
			t.Errorf("the late update is not in round 1: %s", text(rounds))
		}
		// Round 2's update was trained on the first version of round 1.
		if u := rounds[1].Updates[0]; u.Base != before[0].Model {
			t.Errorf("base %s, not %s", u.Base, before[0].Model)
		}
		// And the early version of round 1's model can still be had: updates were trained from it.
		for _, at := range c.running() {
			if got := c.pull(at, "s", api.PullOptions{Digest: before[0].Model}); digest(got) != before[0].Model {
				t.Errorf("%s serves other bytes", at)
			}
		}
	})
}

// A round is final only when every member has said its word, a dead one too.
func TestFinalWaitsForAll(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		c.kill("c")
		x := c.push("a", "s", weighted("x", 1), file(1))
		c.push("b", "s", weighted("y", 1), file(2))
		c.settles("s", 1, "a", "b")
		time.Sleep(5 * time.Minute)
		r := c.rounds("a", "s")[0]
		if r.State != api.RoundSettled || !slices.Equal(r.WaitingFor, []string{"c"}) || len(r.Computed) != 2 {
			t.Fatalf("without c: %s", text(r))
		}
		if !c.holds("a", x.Digest) || !c.holds("b", x.Digest) {
			t.Error("the bytes of an update went before its round was final")
		}
		c.up("c")
		c.final("s", 1)
		c.counted("s", c.agree("s"))
	})
}

func TestBytesOfFinalRoundsGoAndModelsStay(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		seed := file(0, 0, 0)
		c.open("a", "s", seed, func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		for round := range 4 {
			base := c.session("a", "s").Model
			c.push("a", "s", from(base, "x", 1), file(float32(round), 1, 0))
			c.push("b", "s", from(base, "y", 2), file(float32(round), 4, 1))
			c.settles("s", round+1, "a", "b", "c")
		}
		c.final("s", 4)
		time.Sleep(10 * time.Second)
		rounds := c.agree("s")
		c.counted("s", rounds)
		want := []string{digest(seed) + ".safetensors"}
		for _, r := range rounds {
			want = append(want, r.Model+".safetensors")
		}
		slices.Sort(want)
		for _, at := range c.running() {
			if got := c.blobs(at); !slices.Equal(got, want) {
				t.Errorf("%s keeps %v, not %v", at, got, want)
			}
		}
		if got := c.pull("c", "s", api.PullOptions{Round: new(uint64)}); !bytes.Equal(got, seed) {
			t.Error("round 0 is not the seed")
		}
	})
}
