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

// train has two combiners push updates from session s's present model to random peers, and waits until all serve the next.
func (c *cluster) train(rng *rand.Rand, n int) {
	c.t.Helper()
	names := c.running()
	info := c.session(names[0], "s")
	for i := range 2 {
		o := from(info.Model, combiner(i), 1+rng.Int64N(100))
		c.push(names[rng.IntN(len(names))], "s", named(fmt.Sprint("u", info.Round), o), random(rng, n))
	}
	c.eventually(2*time.Minute, func() error {
		for _, name := range c.running() {
			if c.session(name, "s").Model == info.Model {
				return fmt.Errorf("%s serves no newer model", name)
			}
		}
		return nil
	})
}

// Server state is part of what peers agree on: one that was killed, one that joined late and one that saw a round amended have the same.
func TestServerState(t *testing.T) {
	for _, strategy := range []string{"fedavgm", "fedadam", "fedyogi", "fedadagrad"} {
		t.Run(strategy, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				rng := rand.New(rand.NewPCG(7, 8))
				const n = 50
				c.up("a", "b", "c")
				c.open("a", "s", random(rng, n), func(s *api.SessionConfig) {
					s.Strategy, s.TargetCombiners = strategy, 2
					if strategy == "fedavgm" {
						s.Params = map[string]string{"server_momentum": "0.9"}
					}
				})
				c.train(rng, n)
				c.train(rng, n)
				c.final("s", 2)
				c.kill("b")
				c.train(rng, n)
				c.up("d") // it takes model and state from others
				c.train(rng, n)
				c.up("b")
				c.train(rng, n)
				// Each side goes on from its own version of a round; in the end both have the state of the common one.
				c.net.Partition([]string{"a", "b"}, []string{"c", "d"})
				time.Sleep(30 * time.Second)
				base := c.session("a", "s").Model
				for i, at := range []string{"a", "b", "c", "d"} {
					c.push(at, "s", named("apart", from(base, combiner(i), 1)), random(rng, n))
				}
				time.Sleep(10 * time.Second)
				c.net.Heal()
				c.together()
				c.kill("a", "b", "c", "d")
				c.up("a", "b", "c", "d")
				c.train(rng, n)
				c.close("c", "s")
				rounds := c.agree("s")
				c.counted("s", rounds)
				if !slices.ContainsFunc(rounds, func(r api.RoundInfo) bool { return len(r.Updates) == 4 }) {
					t.Errorf("no round has the work of both sides: %s", text(rounds))
				}
			})
		})
	}
}

// A peer leaves with the only state of a round that everybody else has yet to take.
func TestLeaverHandsOverServerState(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(9, 10))
		c.up("a")
		c.open("a", "s", random(rng, 20), func(s *api.SessionConfig) { s.Strategy, s.TargetCombiners = "fedadam", 2 })
		c.train(rng, 20)
		c.up("b")
		c.eventually(time.Minute, func() error {
			if m := c.session("a", "s").Members; !slices.Equal(m, []string{"a", "b"}) {
				return fmt.Errorf("members %v", m)
			}
			return nil
		})
		if err := c.ask("a").Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.kill("a")
		c.train(rng, 20)
		c.counts()
		c.counted("s", c.agree("s"))
	})
}

// Bytes of states before the last final round go.
func TestOldStatesAreDeleted(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(11, 12))
		c.up("a", "b")
		c.open("a", "s", random(rng, 20), func(s *api.SessionConfig) { s.Strategy, s.TargetCombiners = "fedadam", 2 })
		for range 6 {
			c.train(rng, 20)
		}
		c.final("s", 6)
		c.eventually(time.Minute, func() error {
			for _, name := range c.running() {
				if blobs := c.blobs(name); len(blobs) != 7+1 { // the seed's and the rounds' models, and one state
					return fmt.Errorf("%s has %d blobs", name, len(blobs))
				}
			}
			return nil
		})
	})
}

func TestNoise(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(13, 14))
		noisy := func(s *api.SessionConfig) {
			s.TargetCombiners = 2
			s.Params = map[string]string{"clip_norm": "1", "dp_noise_multiplier": "0.5"}
		}
		c.up("a")
		seed := random(rng, 30)
		cfg := api.DefaultSessionConfig()
		noisy(&cfg)
		_, _, err := c.ask("a").CreateSession(t.Context(), "s", cfg, api.Bytes(seed))
		c.problem(err, http.StatusBadRequest, "secret")
		c.kill("a")

		c.secret = bytes.Repeat([]byte("secret "), 10)
		c.up("a", "b", "c")
		c.open("a", "s", seed, noisy)
		if p := c.session("b", "s").Privacy; p == nil || p.Epsilon != 0 || p.Published != 0 {
			t.Errorf("before the first round: %s", text(p))
		}
		for range 3 {
			c.train(rng, 30)
		}
		c.final("s", 3)
		c.counted("s", c.agree("s"))
		var epsilon float64
		for _, name := range c.running() {
			p := c.session(name, "s").Privacy
			if p == nil || p.Published != 3 || p.Rho != 3*2 { // each round: (1/0.5)²/2
				t.Fatalf("%s: %s", name, text(p))
			}
			epsilon = p.Epsilon
		}
		// Versions that were served and then amended have cost something too.
		c.net.Partition([]string{"a", "b"}, []string{"c"})
		time.Sleep(30 * time.Second)
		base := c.session("a", "s").Model
		for i, at := range []string{"a", "b", "c", "c"} {
			c.push(at, "s", named("apart", from(base, combiner(i), 1)), random(rng, 30))
		}
		c.settles("s", 4, "a", "b", "c")
		c.net.Heal()
		c.together()
		c.final("s", 4)
		c.agree("s")
		c.eventually(time.Minute, func() error {
			for _, name := range c.running() {
				if p := c.session(name, "s").Privacy; p.Published != 6 || p.Rho != 6*2 || p.Epsilon <= epsilon {
					return fmt.Errorf("%s: four rounds, the last in three versions: %s; epsilon was %v after three", name, text(p), epsilon)
				}
			}
			return nil
		})
	})
}

// Peers with different secrets would draw different noise: they do not go together, and say why.
func TestOtherSecret(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.secret = bytes.Repeat([]byte("one "), 10)
		c.up("a")
		c.secret = bytes.Repeat([]byte("two "), 10)
		c.start("b")
		time.Sleep(time.Minute)
		for _, name := range c.running() {
			if seen := c.alive(name); !slices.Equal(seen, []string{name}) {
				t.Errorf("%s sees %v", name, seen)
			}
		}
	})
	cfg := mesh.DefaultConfig()
	cfg.Secret = []byte("short")
	if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), "guessed") {
		t.Errorf("a short secret: %v", err)
	}
}
