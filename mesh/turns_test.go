package mesh_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// apart has both sides of a cut train for some rounds, from the models that each of them makes, and heals the cut.
func (c *cluster) apart(rounds int, change func(*api.SessionConfig)) {
	c.t.Helper()
	rng := rand.New(rand.NewPCG(5, 6))
	const n = 100
	c.up("a", "b", "c", "d", "e")
	c.open("a", "s", random(rng, n), func(s *api.SessionConfig) {
		s.TargetCombiners, s.RoundTimeout, s.SettleTimeout, s.LostAfter = 2, seconds(3600), seconds(0.1), seconds(3600)
		if change != nil {
			change(s)
		}
	})
	c.train(rng, n)
	c.final("s", 1)
	sides := [][]string{{"a", "b", "c"}, {"d", "e"}}
	c.net.Partition(sides[0], sides[1])
	before := len(c.rounds("a", "s"))
	for round := range rounds {
		for _, side := range sides {
			base := c.session(side[0], "s").Model
			for i, at := range side[:2] {
				c.push(at, "s", named(fmt.Sprint("cut", round), from(base, side[0]+combiner(i), 1+rng.Int64N(1000))), random(rng, n))
			}
		}
		for _, side := range sides {
			c.settles("s", before+round+1, side...)
		}
	}
	c.net.Heal()
}

// computed counts the rounds that all peers have computed, each as often as it was.
func (c *cluster) computed() (n int) {
	for _, at := range c.running() {
		n += int(c.metric(at, "rounds_total", "computed"))
	}
	return n
}

// What a healed cut amends need not be computed by everybody: one peer goes ahead, and the others take the last of its models.
func TestHealedRoundsAreComputedByFew(t *testing.T) {
	for _, strategy := range []string{"fedavg", "fedadam"} {
		t.Run(strategy, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				const rounds = 20
				c.apart(rounds, func(s *api.SessionConfig) { s.Strategy = strategy })
				before := c.computed()
				c.together()
				c.settles("s", rounds, c.running()...)
				c.final("s", rounds)
				work := c.computed() - before
				t.Logf("%d rounds amended, %d computed", rounds, work)
				if work < rounds/2 || work > rounds*5/2 { // two who are neck and neck, and some
					t.Errorf("five peers computed %d rounds, of which %d were amended", work, rounds)
				}
				c.close("a", "s")
				c.counted("s", c.agree("s"))
			})
		})
	}
}

// hung is a connection over which nothing arrives while a switch is on.
type hung struct {
	net.Conn
	on *atomic.Bool
}

func (h hung) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	for h.on.Load() && err == nil {
		time.Sleep(50 * time.Millisecond)
	}
	return n, err
}

// Whoever goes ahead may be alive and yet get nothing done: the others wait for it, but not long.
func TestNobodyWaitsLongForWhoGoesAhead(t *testing.T) {
	for _, stuck := range []string{"a", "b", "c", "d", "e"} {
		t.Run(stuck, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				var on atomic.Bool
				c.tune = func(cfg *mesh.Config) {
					if cfg.Name != stuck {
						return
					}
					dial := cfg.Dial
					cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
						conn, err := dial(ctx, network, addr)
						return hung{conn, &on}, err
					}
				}
				const rounds = 8
				c.apart(rounds, nil)
				on.Store(true)
				c.together()
				var others []string
				for _, at := range c.running() {
					if at != stuck {
						others = append(others, at)
					}
				}
				began := time.Now()
				c.eventually(time.Minute, func() error {
					for _, at := range others {
						if a, b := c.session(at, "s"), c.session(others[0], "s"); a.Model != b.Model || a.ModelRound < rounds {
							return fmt.Errorf("%s has %+v, %s %+v", at, a, others[0], b)
						}
					}
					return nil
				})
				if took := time.Since(began); took > time.Second {
					t.Errorf("the others had one model after %v", took)
				}
				on.Store(false)
				c.final("s", rounds)
				c.close(others[0], "s")
				c.counted("s", c.agree("s"))
			})
		})
	}
}
