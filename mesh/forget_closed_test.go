package mesh_test

import (
	"context"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// A session that is closed for good does not stand in the way of forgetting one peer after another.
func TestForgetBehindAClosedSession(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c", "d", "e")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 1 })
		c.push("a", "s", weighted("x", 1), file(1))
		c.close("a", "s")
		for _, name := range []string{"e", "d"} {
			log := c.logOf(name)
			c.kill(name)
			c.dead(name)
			c.forget("a", name)
			c.forgotten(log)
			c.final("s", 1)
		}
		info := c.session("b", "s")
		if info.State != api.SessionClosed || len(info.Members) != 3 {
			t.Errorf("the session is %s", text(info))
		}
	})
}

// Nor does one whose other members have left.
func TestForgetBehindASessionOfThoseWhoLeft(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 1 })
		c.close("a", "s")
		c.up("c", "d", "e")
		if err := c.nodes["b"].peer.Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.stop("b")
		time.Sleep(10 * time.Second)
		c.open("c", "t", file(0), nil)
		log := c.logOf("e")
		c.kill("e")
		c.dead("e")
		c.forget("a", "e")
		c.forgotten(log)
	})
}

// A joiner leaves proposals alone whose targets returned long ago.
func TestJoinerLeavesOldProposalsAlone(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 1 })
		log := c.logOf("c")
		c.kill("c")
		c.dead("c")
		c.forget("a", "c")
		c.forgotten(log)
		c.up("c")
		c.push("a", "s", weighted("x", 1), file(1))
		c.final("s", 1)
		ctx, cancel := context.WithCancel(t.Context())
		events := c.nodes["a"].peer.Subscribe(ctx)
		c.up("d")
		c.push("a", "s", weighted("y", 1), file(2))
		c.final("s", 2)
		if p := c.peerAt("d", log); p.State != api.PeerAlive {
			t.Errorf("d takes c for %s", text(p))
		}
		cancel()
		for e := range events {
			if e.Type == api.EventPeer && e.Peer == "c" {
				t.Errorf("when d joined: %s", text(e))
			}
		}
	})
}
