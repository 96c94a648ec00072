package mesh_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// readyz asks a peer over HTTP whether it is ready, and why not.
func (c *cluster) readyz(name string) (int, string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+name+":80/readyz", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: c.dialer("client"), DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text strings.Builder
	if err := resp.Write(&text); err != nil {
		c.t.Fatal(err)
	}
	return resp.StatusCode, text.String()
}

// A peer that joins is not ready before it knows what the others know, however long that takes to begin.
func TestJoinerIsReadyOnceItKnows(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 1 })
		for round := range 3 {
			c.push("a", "s", from(c.session("a", "s").Model, "x", 1), file(float32(round+1)))
			c.settles("s", round+1, "a", "b")
		}
		c.mu.Lock()
		c.untold["a"], c.untold["b"] = true, true
		c.mu.Unlock()
		c.start("c")
		for _, after := range []time.Duration{time.Second, 5 * time.Second} { // the second beyond the time in which others are looked for
			time.Sleep(after)
			status, body := c.readyz("c")
			if status != http.StatusServiceUnavailable || !strings.Contains(body, "0 of the 2 peers in reach") || !strings.Contains(body, "Retry-After") {
				t.Fatalf("after %v: %d %s", after, status, body)
			}
			if _, err := c.ask("c").Push(t.Context(), "s", from(c.session("a", "s").Model, "y", 1), api.Bytes(file(9))); !api.TypeNotReady.Is(err) {
				t.Fatalf("it takes updates: %v", err)
			}
		}
		c.mu.Lock()
		clear(c.untold)
		c.mu.Unlock()
		c.eventually(2*time.Second, func() error {
			if status, body := c.readyz("c"); status != http.StatusOK {
				return fmt.Errorf("%d %s", status, body)
			}
			return nil
		})
		if n := len(c.rounds("c", "s")); n < 3 { // and perhaps one that takes note of it
			t.Errorf("it is ready and knows %d rounds of 3", n)
		}
	})
}

// A peer that finds nobody goes on alone, and one that reaches others of whom none tells anything does so later.
func TestReadyAlone(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		var wait time.Duration
		c.tune = func(cfg *mesh.Config) { wait = cfg.AloneAfter }
		ready := func(name string) time.Duration {
			began := time.Now()
			c.eventually(time.Minute, c.nodes[name].peer.Ready)
			return time.Since(began)
		}
		c.start("b") // it was told of a
		time.Sleep(time.Second)
		if status, body := c.readyz("b"); status != http.StatusServiceUnavailable || !strings.Contains(body, "looks for the others") || !strings.Contains(body, "alone in 2") {
			t.Errorf("%d %s", status, body)
		}
		if took := ready("b"); took < wait-2*time.Second || took > wait+time.Second {
			t.Errorf("alone after %v and a second", took)
		}
		c.mu.Lock()
		c.untold["b"] = true
		c.mu.Unlock()
		c.start("a")
		if took := ready("a"); took < wait+time.Second || took > wait+15*time.Second {
			t.Errorf("beside one that tells nothing after %v", took)
		}
	})
}
