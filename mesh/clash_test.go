package mesh_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestOpeningAgain(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		first := c.open("a", "s", file(0), nil)
		again, created, err := c.ask("b").CreateSession(t.Context(), "s", api.DefaultSessionConfig(), api.Bytes(file(0)))
		if err != nil || created || again.Key != first.Key {
			t.Errorf("the same again: %+v, %v, %v", again, created, err)
		}
		_, _, err = c.ask("b").CreateSession(t.Context(), "s", api.DefaultSessionConfig(), api.Bytes(file(1)))
		c.problem(err, http.StatusConflict, "seed")
		other := api.DefaultSessionConfig()
		other.MinCombiners = 2
		_, _, err = c.ask("a").CreateSession(t.Context(), "s", other, api.Bytes(file(0)))
		c.problem(err, http.StatusConflict, "config")
		if c.holds("b", digest(file(1))) {
			t.Error("the refused seed is still on the disk")
		}
	})
}

// Who has opened a session may push at once.
func TestPushRightAfterOpening(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a") // alone it waits for nobody
		for i := range 30 {
			seed := file(float32(i))
			info, _, err := c.ask("a").CreateSession(t.Context(), fmt.Sprint("s", i), api.DefaultSessionConfig(), api.Bytes(seed))
			if err != nil || info.Model != digest(seed) {
				t.Fatalf("opened %+v, %v", info, err)
			}
			c.push("a", info.Key, weighted("x", 1), file(1))
		}
	})
}

// One name opened on both sides of a partition makes two sessions, which never mix.
func TestOneNameOpenedTwice(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		c.net.Partition([]string{"a"}, []string{"b"})
		time.Sleep(30 * time.Second)
		keys := map[string]string{}
		for i, at := range []string{"a", "b"} {
			seed := file(float32(i))
			c.keep(seed)
			info, created, err := c.ask(at).CreateSession(t.Context(), "s", api.DefaultSessionConfig(), api.Bytes(seed))
			if err != nil || !created {
				t.Fatalf("%s: %v, %v", at, created, err)
			}
			keys[at] = info.Key
			c.push(at, info.Key, weighted("x", 1), file(float32(10+i)))
		}
		c.net.Heal()
		c.together()
		winner := min(keys["a"], keys["b"])
		c.eventually(time.Minute, func() error {
			for _, at := range c.running() {
				if info := c.session(at, "s"); info.Key != winner || len(info.Clash) != 1 || info.Clash[0] != max(keys["a"], keys["b"]) {
					return fmt.Errorf("%s: %s", at, text(info))
				}
			}
			return nil
		})
		// By their keys both go on.
		for _, at := range []string{"a", "b"} {
			c.push("a", keys[at], weighted("y", 1), file(20))
			c.close("b", keys[at])
			rounds := c.agree(keys[at])
			if len(rounds[0].Updates) != 2 {
				t.Errorf("session of %s: %s", at, text(rounds))
			}
		}
	})
}

// One key accepted with two contents on the two sides of a partition: one counts, the same everywhere.
func TestOneKeyWithTwoContents(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		seed := file(0)
		c.open("a", "s", seed, nil)
		c.net.Partition([]string{"a"}, []string{"b", "c"})
		time.Sleep(30 * time.Second)
		c.push("a", "s", from(digest(seed), "x", 1), file(1))
		c.push("b", "s", from(digest(seed), "x", 1), file(2))
		c.push("b", "s", from(digest(seed), "y", 1), file(4))
		c.net.Heal()
		c.together()
		c.close("c", "s")
		rounds := c.agree("s")
		if len(rounds[0].Updates) != 2 || rounds[0].Updates[0].Combiner != "x" {
			t.Fatalf("%s", text(rounds))
		}
		// From then on the one that counts is known, and the other is a conflict everywhere.
		counts := rounds[0].Updates[0].Digest
		for _, at := range c.running() {
			for _, b := range [][]byte{file(1), file(2)} {
				r, err := c.try(at, "s", from(digest(seed), "x", 1), b)
				if digest(b) == counts {
					if err != nil || !r.Duplicate {
						t.Errorf("%s: the one that counts: %+v, %v", at, r, err)
					}
					continue
				}
				c.problem(err, http.StatusConflict, "other bytes")
			}
		}
		if err := c.gone(digest(file(1))); err != nil && digest(file(1)) != rounds[0].Model {
			c.eventually(time.Minute, func() error { return errors.Join(c.gone(digest(file(1))), c.gone(digest(file(2)))) })
		}
	})
}
