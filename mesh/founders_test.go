package mesh_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest"
)

// A session has all peers for founders that live and are ready, also one that just became so and whose word for it was not heard
// yet where the session is opened: else its first round would be one without content, which takes note of that peer.
func TestFoundersAreAllThatLive(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.tune = func(cfg *mesh.Config) { cfg.ExchangeEvery = time.Minute }
		c.up("a", "b")
		for _, name := range c.running() {
			c.net.SetPair(name, "c", meshtest.Link{Loss: 1}) // of datagrams, in which new entries come
		}
		c.up("c")
		info, _, err := c.ask("a").CreateSession(t.Context(), "s", api.DefaultSessionConfig(), api.Bytes(file(0)))
		if err != nil || !slices.Equal(info.Members, []string{"a", "b", "c"}) {
			t.Fatalf("founders %v, %v", info.Members, err)
		}
		time.Sleep(5 * time.Second)
		if n := c.session("a", "s").Round; n != 1 {
			t.Errorf("round %d is open, nothing was pushed", n)
		}
	})
}

// A peer that does not answer keeps no session from being opened.
func TestFoundersAreNotWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.tune = func(cfg *mesh.Config) { cfg.ExchangeEvery = time.Minute }
		c.up("a", "b")
		c.stands("entries", 0, "a", "b", "c") // so c is not ready before it goes on alone
		c.start("c")
		c.eventually(time.Minute, func() error {
			if len(c.alive("a")) != 3 {
				return errors.New("c is not seen")
			}
			return nil
		})
		began := time.Now()
		info, _, err := c.ask("a").CreateSession(t.Context(), "s", api.DefaultSessionConfig(), api.Bytes(file(0)))
		if err != nil || !slices.Equal(info.Members, []string{"a", "b"}) {
			t.Fatalf("founders %v, %v", info.Members, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("opening took %v", took)
		}
	})
}
