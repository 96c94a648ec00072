package mesh_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// keeping has peers keep the models of so many final rounds.
func keeping(c *cluster, of map[string]int) {
	c.forgetful = true
	c.tune = func(cfg *mesh.Config) { cfg.KeepModels = of[cfg.Name] }
}

// models waits until a peer has the seed and the models of these rounds, and nothing else.
func (c *cluster) models(at string, rounds ...uint64) {
	c.t.Helper()
	all := c.rounds(at, "s")
	want := []string{c.session(at, "s").Seed + ".safetensors"}
	for _, n := range rounds {
		want = append(want, all[n-1].Model+".safetensors")
	}
	slices.Sort(want)
	c.eventually(time.Minute, func() error {
		if got := c.blobs(at); !slices.Equal(got, want) {
			return fmt.Errorf("%s keeps %v, not those of %v: %v", at, got, rounds, want)
		}
		return nil
	})
}

// tryPull pulls the model of a round.
func (c *cluster) tryPull(at string, round uint64) ([]byte, error) {
	var b bytes.Buffer
	_, err := c.ask(at).Pull(c.t.Context(), "s", api.PullOptions{Round: &round}, &b)
	return b.Bytes(), err
}

func TestConfigOfKeeping(t *testing.T) {
	cfg := mesh.DefaultConfig()
	cfg.Name, cfg.API, cfg.DataDir = "a", "a:80", "x"
	for n, ok := range map[int]bool{-1: false, 0: true, 1: true, 1 << 30: true} {
		cfg.KeepModels = n
		if err := cfg.Validate(); (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "KeepModels is -1") {
			t.Errorf("%d: %v", n, err)
		}
	}
}

func TestKeepModels(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(31, 32))
		const n = 20
		keeping(c, map[string]int{"a": 2, "b": 2, "c": 2})
		c.up("a", "b", "c")
		c.open("a", "s", random(rng, n), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		base := c.session("a", "s").Model
		early, bytes1 := named("early", from(base, "x", 3)), random(rng, n)
		c.push("a", "s", early, bytes1)
		c.push("b", "s", from(base, "y", 2), random(rng, n))
		c.settles("s", 1, "a", "b", "c")
		for range 5 {
			c.train(rng, n)
		}
		c.final("s", 6)
		for _, at := range c.running() {
			c.models(at, 5, 6)
		}
		rounds := c.agree("s")
		c.counted("s", rounds)
		for _, at := range c.running() {
			for round := uint64(0); round <= 6; round++ {
				b, err := c.tryPull(at, round)
				switch {
				case round >= 1 && round <= 4:
					if !api.TypeModelGone.Is(err) {
						t.Fatalf("round %d at %s: %v", round, at, err)
					}
					c.problem(err, http.StatusGone, "kept: last 2 of each session")
					c.problem(err, http.StatusGone, fmt.Sprintf("round %d's", round))
				case err != nil || round > 0 && digest(b) != rounds[round-1].Model:
					t.Errorf("round %d at %s: %v", round, at, err)
				}
			}
		}
		old := rounds[1].Model
		var p *api.Problem
		_, err := c.try("b", "s", from(old, "x", 1), random(rng, n))
		if !api.TypeBaseGone.Is(err) || !asProblem(err, &p) || p.RetryAfter != 0 {
			t.Fatalf("a base that is gone: %v", err)
		}
		c.problem(err, http.StatusGone, "pull the newest model and train from it")
		// What was counted long ago is still known, though its base may be gone.
		first := c.rounds("a", "s")[1].Updates[0]
		body := c.files[first.Digest]
		again, err := c.try("c", "s", named(first.ID, from(first.Base, first.Combiner, first.Weight)), body)
		if err != nil || !again.Duplicate {
			t.Errorf("a retry: %+v, %v", again, err)
		}
		if _, err := c.try("c", "s", named(first.ID, from(first.Base, first.Combiner, first.Weight)), random(rng, n)); !api.TypeUpdateConflict.Is(err) {
			t.Errorf("other bytes: %v", err)
		}
		if again, err := c.try("b", "s", early, bytes1); err != nil || !again.Duplicate {
			t.Errorf("a retry: %+v, %v", again, err)
		}
		if _, err := c.try("b", "s", weighted("x", 1), random(rng, n)); err != nil {
			t.Errorf("without a base: %v", err)
		}
		// All start again, with fewer, with more.
		c.kill("a", "b", "c")
		keeping(c, map[string]int{"a": 1, "b": 3, "c": 0})
		c.up("a", "b", "c")
		c.train(rng, n)
		c.train(rng, n)
		c.counts()
		last := uint64(len(c.rounds("a", "s")))
		c.models("a", last)
		c.models("b", last-2, last-1, last)
		// Rounds without content keep the model before them, and count for none.
		c.up("d")
		c.eventually(time.Minute, func() error {
			if info := c.session("a", "s"); len(info.Members) != 4 {
				return fmt.Errorf("members %v", info.Members)
			}
			return nil
		})
		c.counts()
		if all := c.rounds("a", "s"); uint64(len(all)) == last || len(all[last].Updates) > 0 {
			t.Fatalf("no round without content: %s", text(all))
		}
		time.Sleep(10 * time.Second)
		c.models("a", last)
		c.models("b", last-2, last-1, last)
		for _, r := range c.rounds("c", "s")[4:] {
			if !c.holds("c", r.Model) {
				t.Errorf("c, which keeps all that it has, has not that of round %d", r.Round)
			}
		}
		c.counted("s", c.agree("s"))
	})
}

// A peer that keeps few models has others deliver old ones, and keeps those that updates were trained from for as long as these wait.
func TestKeepDifferently(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(33, 34))
		const n = 20
		keeping(c, map[string]int{"a": 0, "b": 1, "c": 2})
		c.up("a", "b", "c")
		c.open("a", "s", random(rng, n), func(s *api.SessionConfig) { s.TargetCombiners, s.RoundTimeout = 2, seconds(3600) })
		for range 5 {
			c.train(rng, n)
		}
		c.final("s", 5)
		c.models("a", 1, 2, 3, 4, 5)
		c.models("b", 5)
		c.models("c", 4, 5)
		rounds := c.agree("s")
		for _, at := range c.running() {
			if b, err := c.tryPull(at, 2); err != nil || digest(b) != rounds[1].Model {
				t.Errorf("%s: %v", at, err)
			}
		}
		c.models("b", 5) // what it took to hand it out went again
		old := rounds[1].Model
		c.push("b", "s", from(old, "x", 5), random(rng, n))
		time.Sleep(time.Minute)
		held := 0
		for _, at := range []string{"b", "c"} {
			if c.holds(at, old) {
				held++
			}
		}
		if !c.holds("b", old) || held < 1 {
			t.Errorf("the base of an update that waits is at %d peers", held)
		}
		// Where all others are gone, nobody says that it is gone for ever.
		c.kill("a")
		c.dead("a")
		if b, err := c.tryPull("b", 2); err != nil || digest(b) != old {
			t.Errorf("of the waiting update: %v", err)
		}
		_, err := c.tryPull("b", 3)
		c.problem(err, http.StatusGone, "kept: last 1 of each session")
		c.kill("c")
		c.dead("c")
		_, err = c.tryPull("b", 3)
		c.problem(err, http.StatusGone, "kept: last 1 of each session")
		c.up("a", "c")
		if _, err := c.tryPull("b", 3); err != nil {
			t.Errorf("with a back: %v", err)
		}
		c.push("c", "s", from(c.session("c", "s").Model, "y", 2), random(rng, n))
		c.counts()
		rounds = c.agree("s")
		c.counted("s", rounds)
		last := uint64(len(rounds))
		c.models("b", last)
		c.models("c", last-1, last)
		if u := rounds[last-1].Updates[0]; u.Base != old {
			t.Errorf("the late update is not in the last round: %s", text(rounds[last-1]))
		}
	})
}

// Models of rounds that are not final stay, though nothing was trained from them.
func TestKeepModelsThatAreNotFinal(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		keeping(c, map[string]int{"a": 1, "b": 1, "c": 1})
		c.up("a", "b", "c")
		seed := c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 1 }).Seed
		c.kill("c")
		for round := 1; round <= 4; round++ {
			c.push("a", "s", named(fmt.Sprint(round), from(seed, "x", 1)), file(float32(round)))
			c.settles("s", round, "a", "b")
		}
		time.Sleep(time.Minute)
		for _, at := range c.running() {
			for _, r := range c.rounds(at, "s") {
				if r.State != api.RoundSettled || !c.holds(at, r.Model) {
					t.Errorf("%s: %s", at, text(r))
				}
			}
		}
		c.up("c")
		c.counts()
		for _, at := range c.running() {
			c.models(at, 4)
		}
		c.counted("s", c.agree("s"))
	})
}

// While a peer is away nothing is final, and nothing goes; forgotten, it finds a later model when it comes back. So does one that is new. Server
// states are had with the models.
func TestKeepModelsAndLongAbsence(t *testing.T) {
	for _, strategy := range []string{"fedavg", "fedadam"} {
		for _, compact := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s compact=%v", strategy, compact), func(t *testing.T) {
				bubble(t, func(t *testing.T, c *cluster) {
					rng := rand.New(rand.NewPCG(35, 36))
					const n = 20
					keeping(c, map[string]int{"a": 1, "b": 1, "c": 1, "d": 1})
					if tune := c.tune; compact {
						c.tune = func(cfg *mesh.Config) {
							tune(cfg)
							cfg.CompactAfter, cfg.KeepRounds = 2000, 3
						}
					}
					c.up("a", "b", "c")
					c.open("a", "s", random(rng, n), func(s *api.SessionConfig) { s.Strategy, s.TargetCombiners = strategy, 2 })
					for range 3 {
						c.train(rng, n)
					}
					c.final("s", 3)
					c.kill("c")
					for range 5 {
						c.train(rng, n)
					}
					c.dead("c")
					time.Sleep(time.Minute)
					for round := uint64(3); round <= 8; round++ {
						if _, err := c.tryPull("a", round); err != nil {
							t.Errorf("round %d, which is not final or the last that is: %v", round, err)
						}
					}
					if _, err := c.tryPull("a", 2); !api.TypeModelGone.Is(err) {
						t.Errorf("round 2: %v", err)
					}
					c.forget("a", "c")
					c.forgotten(c.logOf("c"))
					for range 15 {
						c.train(rng, n)
					}
					c.counts()
					time.Sleep(time.Minute)
					c.up("c", "d")
					c.train(rng, n)
					c.train(rng, n)
					c.counts()
					rounds := c.rounds("a", "s")
					if !compact {
						rounds = c.agree("s")
					}
					c.counted("s", rounds)
					for _, at := range c.running() {
						for i, r := range c.rounds(at, "s") {
							if essence(r) != essence(rounds[i]) {
								t.Errorf("%s: %s, a: %s", at, essence(r), essence(rounds[i]))
							}
						}
					}
					for _, at := range c.running() {
						c.eventually(time.Minute, func() error {
							var models []string
							for _, b := range c.blobs(at) {
								models = append(models, strings.TrimSuffix(b, ".safetensors"))
							}
							states := map[string]int{"fedavg": 0, "fedadam": 1}[strategy]
							if last := rounds[len(rounds)-1].Model; len(models) != 2+states || !slices.Contains(models, last) {
								return fmt.Errorf("%s keeps %v; the last model is %s", at, models, last)
							}
							return nil
						})
					}
				})
			})
		}
	}
}
