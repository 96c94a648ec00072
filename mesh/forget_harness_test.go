package mesh_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// dead waits until all that run take these peers for dead.
func (c *cluster) dead(names ...string) {
	c.t.Helper()
	c.eventually(2*time.Minute, func() error {
		for _, at := range c.running() {
			if seen := c.alive(at); slices.ContainsFunc(names, func(n string) bool { return slices.Contains(seen, n) }) {
				return fmt.Errorf("%s takes %v for alive", at, seen)
			}
		}
		return nil
	})
}

// forget proposes and must not be refused.
func (c *cluster) forget(at string, names ...string) api.Forgetting {
	c.t.Helper()
	f, err := c.ask(at).Forget(c.t.Context(), names)
	if err != nil {
		c.t.Fatalf("%s forgets %v: %v", at, names, err)
	}
	return f
}

// forgotten waits until all that run say so of these logs.
func (c *cluster) forgotten(logs ...string) {
	c.t.Helper()
	c.eventually(time.Minute, func() error {
		for _, at := range c.running() {
			for _, log := range logs {
				if p := c.peerAt(at, log); p.State != api.PeerForgotten {
					return fmt.Errorf("%s: %s", at, text(p))
				}
			}
		}
		return nil
	})
}

// peerAt returns what one peer says of the peer with a log.
func (c *cluster) peerAt(at, log string) api.PeerInfo {
	c.t.Helper()
	for _, p := range c.nodes[at].peer.Mesh().Peers {
		if p.Log == log {
			return p
		}
	}
	c.t.Fatalf("%s knows no log %s", at, log)
	return api.PeerInfo{}
}
