package mesh_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"
)

// calls sends a request of a peer to a.
func (c *cluster) calls(from, at string) {
	c.t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: c.dialer("client"), DisableKeepAlives: true}}
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://a:80/v1/peer/blobs/none", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Fedmesh-Mesh", "fedmesh/1")
	r.Header.Set("Fedmesh-Peer", from+" "+at)
	resp, err := client.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
}

func (c *cluster) sees(at string, within time.Duration, want ...string) {
	c.t.Helper()
	c.eventually(within, func() error {
		if got := c.alive(at); !slices.Equal(got, want) {
			return fmt.Errorf("%s takes %v for alive", at, got)
		}
		return nil
	})
}

// Gossip may know for a while on one side only that a cut is over. Who calls is alive then, for as long as he goes on calling.
func TestCallersLive(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		var log string
		for _, p := range c.nodes["a"].peer.Mesh().Peers {
			if p.Name == "b" {
				log = p.Log
			}
		}
		c.net.Partition([]string{"a"}, []string{"b"})
		c.sees("a", time.Minute, "a")
		time.Sleep(time.Minute)
		c.calls(log, "b:80")
		c.sees("a", time.Millisecond, "a", "b")
		time.Sleep(2 * time.Second)
		c.calls(log, "b:80")
		time.Sleep(2 * time.Second)
		c.sees("a", time.Millisecond, "a", "b")
		c.sees("a", 5*time.Second, "a")

		c.calls(log, "c:80") // it came back elsewhere: where it was nobody is
		c.sees("a", time.Millisecond, "a")
		for _, stranger := range []string{"", "b", "00000000000000000000000000000000"} {
			c.calls(stranger, "b:80")
			c.sees("a", time.Millisecond, "a")
		}
		c.net.Heal()
		c.sees("a", 3*time.Second, "a", "b")
		c.sees("b", 3*time.Second, "a", "b")
	})
}
