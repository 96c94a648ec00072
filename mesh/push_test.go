package mesh_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest"
)

func TestPushIsHeldByCopies(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0, 0), func(s *api.SessionConfig) { s.Copies = 2; s.TargetCombiners = 3 })
		for i, at := range []string{"a", "b"} {
			r := c.push(at, "s", weighted(combiner(i), 1), file(float32(i), 2))
			if len(r.Copies) != 2 || !slices.Contains(r.Copies, at) || !slices.IsSorted(r.Copies) {
				t.Fatalf("copies %v of an update pushed to %s", r.Copies, at)
			}
			for _, name := range r.Copies {
				if !c.holds(name, r.Digest) {
					t.Errorf("%s does not hold %s", name, r.Digest)
				}
			}
			// Each of them says so in the ledger, and nobody else.
			for _, name := range c.running() {
				c.eventually(time.Second, func() error {
					open, err := c.nodes[name].peer.Round("s", 1)
					if err != nil || len(open.Updates) <= i || open.Updates[i].ID != r.ID || !slices.Equal(open.Updates[i].Copies, r.Copies) {
						return fmt.Errorf("%s: %s, %w", name, text(open), err)
					}
					return nil
				})
			}
		}
		c.push("c", "s", weighted("c2", 1), file(2, 2))
		c.final("s", 1)
		c.counted("s", c.agree("s"))
	})
}

func TestPushWithOneCopyStaysWhereItIs(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.Copies = 1 })
		r := c.push("b", "s", weighted("x", 1), file(1))
		if !slices.Equal(r.Copies, []string{"b"}) {
			t.Fatalf("copies %v", r.Copies)
		}
		time.Sleep(5 * time.Second)
		if c.holds("a", r.Digest) || c.holds("c", r.Digest) {
			t.Error("one copy was asked for, and more were made")
		}
	})
}

func TestWeightedMeanIsExact(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		c.push("b", "s", weighted("x", 1), file(1))
		c.push("c", "s", weighted("y", 3), file(5))
		c.final("s", 1)
		c.agree("s")
		if got := values(c.pull("a", "s", api.PullOptions{})); got[0] != 4 {
			t.Fatalf("got %v", got)
		}
	})
}

func TestRetryIsDuplicate(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		seed := file(0)
		c.open("a", "s", seed, nil)
		first := c.push("a", "s", from(digest(seed), "x", 7), file(1))
		c.push("b", "s", from(digest(seed), "y", 1), file(2))
		for _, at := range []string{"b", "c", "a"} {
			r, err := c.try(at, "s", from(digest(seed), "x", 7), file(1))
			if err != nil || !r.Duplicate || r.ID != first.ID || r.Digest != first.Digest || len(r.Copies) < 2 {
				t.Fatalf("retry at %s: %+v, %v", at, r, err)
			}
		}
		// The status tells it too.
		url := "http://b:80/v1/sessions/s/updates/x?weight=7&base=" + digest(seed)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(string(file(1))))
		if err != nil {
			t.Fatal(err)
		}
		client := c.net.HTTPClient("client")
		defer client.CloseIdleConnections()
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("a retry is answered with %s", resp.Status)
		}
		c.close("a", "s")
		c.counted("s", c.agree("s"))
		// And after the round is final, when the bytes are gone.
		c.eventually(time.Minute, func() error { return c.gone(first.Digest) })
		r, err := c.try("b", "s", from(digest(seed), "x", 7), file(1))
		if err != nil || !r.Duplicate {
			t.Errorf("retry of a final update: %+v, %v", r, err)
		}
	})
}

// The copies may be made, and heard of, before the acceptor itself is done.
func TestFirstPushIsNoDuplicate(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.Copies = 3 })
		for i := range 80 {
			o := weighted(combiner(i), 1)
			if i%2 == 0 {
				o.ID = "u"
			}
			c.push("a", "s", o, file(float32(i)))
			if r, err := c.try("a", "s", o, file(float32(i))); err != nil || !r.Duplicate {
				t.Errorf("the second time: %+v, %v", r, err)
			}
		}
	})
}

func TestOtherBytesUnderAKeyConflict(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		seed := file(0)
		c.open("a", "s", seed, nil)
		c.push("a", "s", from(digest(seed), "x", 7), file(1))
		time.Sleep(time.Second)
		for _, at := range []string{"a", "b", "c"} {
			_, err := c.try(at, "s", from(digest(seed), "x", 7), file(2))
			c.problem(err, http.StatusConflict, "other bytes")
			_, err = c.try(at, "s", from(digest(seed), "x", 8), file(1))
			c.problem(err, http.StatusConflict, "weight")
			if c.holds(at, digest(file(2))) {
				t.Errorf("%s keeps what it refused", at)
			}
		}
		c.close("a", "s")
		c.counted("s", c.agree("s"))
	})
}

func TestFewerPeersMeanFewerCopies(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.Copies = 3 })
		if r := c.push("a", "s", weighted("x", 1), file(1)); !slices.Equal(r.Copies, []string{"a", "b", "c"}) {
			t.Fatalf("copies %v of 3", r.Copies)
		}
		c.kill("b")
		// Nobody may have noticed yet; the connection is refused.
		if r := c.push("a", "s", weighted("y", 1), file(2)); !slices.Equal(r.Copies, []string{"a", "c"}) {
			t.Fatalf("copies %v with two alive", r.Copies)
		}
		c.kill("c")
		time.Sleep(20 * time.Second)
		if r := c.push("a", "s", weighted("z", 1), file(3)); !slices.Equal(r.Copies, []string{"a"}) {
			t.Fatalf("copies %v with one alive", r.Copies)
		}
		c.up("b", "c")
		c.close("b", "s")
		c.counted("s", c.agree("s"))
	})
}

// A peer that hangs rather than dies delays an acknowledgement, and does not prevent it.
func TestPushGoesAroundAPeerThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), nil)
		c.net.Down("b")
		for i := range 4 {
			began := time.Now()
			r := c.push("a", "s", weighted(combiner(i), 1), file(1))
			if took := time.Since(began); took > 5*time.Second || !slices.Equal(r.Copies, []string{"a", "c"}) {
				t.Errorf("push %d took %v, copies %v", i, took, r.Copies)
			}
		}
		c.net.Up("b")
		c.together()
		c.close("b", "s")
		c.counted("s", c.agree("s"))
	})
}

func TestNothingIsAcceptedBeforeReady(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		c.open("a", "s", file(0), nil)
		c.kill("b")
		n, err := c.create("b", "b")
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.try("b", "s", weighted("x", 1), file(1))
		c.problem(err, http.StatusServiceUnavailable, "not yet")
		if err := c.ask("b").Ready(t.Context()); err == nil {
			t.Error("a peer that has not started says that it is ready")
		}
		if err := n.peer.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.together()
		c.push("b", "s", weighted("x", 1), file(1))
		c.close("a", "s")
		c.counted("s", c.agree("s"))
	})
}

func TestUnknownBase(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 1; s.Copies = 1 })
		_, err := c.try("a", "s", named("u", from(digest(nil), "x", 1)), file(1))
		c.problem(err, http.StatusServiceUnavailable, "base")
		var p *api.Problem
		if !asProblem(err, &p) || p.RetryAfter <= 0 {
			t.Errorf("no Retry-After in %v", err)
		}
		// Cut off, c misses a round, and is then given an update that was trained from it.
		c.net.Partition([]string{"c"}, []string{"a", "b"})
		c.push("a", "s", weighted("x", 1), file(8))
		c.settles("s", 1, "a", "b")
		base := c.session("a", "s").Model
		_, err = c.try("c", "s", named("v", from(base, "y", 1)), file(16))
		c.problem(err, http.StatusServiceUnavailable, "base")
		c.net.Heal()
		c.together()
		c.push("c", "s", named("v", from(base, "y", 1)), file(16))
		c.close("a", "s")
		c.counted("s", c.agree("s"))
	})
}

// A peer that has not heard of the base asks the others before it refuses.
func TestBaseIsFetched(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.tune = func(cfg *mesh.Config) { cfg.ExchangeEvery = time.Hour }
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 1; s.Copies = 1 })
		for _, other := range []string{"a", "b"} {
			c.net.SetPair("c", other, meshtest.Link{Loss: 1}) // of datagrams: streams pass
		}
		c.mu.Lock()
		c.untold["c"] = true
		c.mu.Unlock()
		c.push("a", "s", weighted("x", 1), file(8))
		c.settles("s", 1, "a", "b")
		base := c.session("a", "s").Model
		if info := c.session("c", "s"); info.Round != 1 {
			t.Fatalf("c has heard already: %s", text(info))
		}
		r := c.push("c", "s", named("v", from(base, "y", 1)), file(16))
		if r.BaseRound != 1 || r.Base != base || !c.holds("c", base) {
			t.Errorf("the base of %+v is of round 1", r)
		}
		c.mu.Lock()
		clear(c.untold)
		c.mu.Unlock()
		c.close("c", "s")
		c.counted("s", c.agree("s"))
	})
}
