package gossip_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fedmesh/fedmesh/mesh/gossip"
)

// TestStop stops a member for a while: the others know at once, wait for it, and take it back at another address without a conflict.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		nodes := startFive(t, n, nil)
		if err := nodes[1].Stop(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		rest := []*node{nodes[0], nodes[2], nodes[3], nodes[4]}
		within(t, time.Second, "the others know, and do not take it for one that left", allSee(rest, strings.Replace(allAlive, "b:alive", "b:dead", 1)))
		if err := nodes[1].Stop(5 * time.Second); err != nil {
			t.Error(err)
		}
		nodes[1] = start(t, n, "b at another address", func(c *gossip.Config) { c.Name = "b" })
		within(t, 3*time.Second, "it is back", allSee(nodes, allAlive))
		for _, nd := range rest {
			if got := nd.metric(t, "name_conflicts_total"); got != 0 {
				t.Errorf("%v conflicts", got)
			}
		}
	})
}

// TestJoinByName gives a member one name that has more addresses than a round tries, only the last of them alive, and later another one.
func TestJoinByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		a := start(t, n, "a", nil)
		host, port, err := net.SplitHostPort(n.GossipAddr("a"))
		if err != nil {
			t.Fatal(err)
		}
		alive := netip.MustParseAddr(host)
		asked := 0
		lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
			if host != "mesh.internal" {
				t.Errorf("looked up %q", host)
			}
			var addrs []netip.Addr
			for i := range byte(9) {
				addrs = append(addrs, netip.AddrFrom4([4]byte{192, 0, 2, 1 + i}))
			}
			switch asked++; asked {
			case 1:
				return nil, errors.New("no such host")
			case 2:
				return nil, nil
			}
			return append(addrs, alive), nil
		}
		b := start(t, n, "b", func(c *gossip.Config) {
			c.Join, c.Lookup = []string{"mesh.internal:" + port}, lookup
		})
		within(t, 5*time.Minute, "they meet", allSee([]*node{a, b}, "a:alive b:alive"))
	})
}
