package gossip_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fedmesh/fedmesh/mesh/gossip"
	"github.com/fedmesh/fedmesh/mesh/meshtest"
)

func two(t *testing.T, n *meshtest.Network, change func(*gossip.Config)) (a, b *node) {
	t.Helper()
	a, b = start(t, n, "a", change), start(t, n, "b", change)
	within(t, 5*time.Second, "they meet", allSee([]*node{a, b}, "a:alive b:alive"))
	return a, b
}

// instantly fails when f takes simulated time.
func instantly(t *testing.T, what string, f func()) {
	t.Helper()
	begin := time.Now()
	f()
	if took := time.Since(begin); took > 0 {
		t.Errorf("%s blocked for %v", what, took)
	}
}

func TestSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		a, b := two(t, n, func(c *gossip.Config) { c.InboundMessages = 50 })
		b.hold = make(chan struct{})
		for i := range 300 {
			instantly(t, "send", func() { a.Send("b", fmt.Appendf(nil, "message %d", i)) })
			if i%20 == 0 {
				time.Sleep(10 * time.Millisecond)
			}
		}
		time.Sleep(5 * time.Minute)
		if !allSee([]*node{a, b}, "a:alive b:alive")() {
			t.Errorf("a slow handler broke membership: %s, %s", a.view(), b.view())
		}
		dropped := b.metric(t, "dropped_total", "queue=inbound")
		if dropped < 249 {
			t.Errorf("%v dropped, want 249 messages and some states", dropped)
		}
		close(b.hold)
		within(t, time.Second, "the rest is handled", func() bool { return b.count() > 0 && b.metric(t, "inbound_waiting") == 0 })
		if b.count() > 51 {
			t.Errorf("%d handled, want at most 51", b.count())
		}
	})
}

func TestInboundBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		a, b := two(t, n, func(c *gossip.Config) { c.InboundBytes = 1 << 20 })
		b.hold = make(chan struct{})
		for range 10 {
			a.Send("b", make([]byte, 300<<10))
		}
		time.Sleep(5 * time.Second)
		close(b.hold)
		time.Sleep(5 * time.Second)
		if got := b.count(); got != 4 { // one in hand and three waiting
			t.Errorf("%d messages of 300 KiB in 1 MiB", got)
		}
		// A message larger than the whole bound still passes when nothing waits.
		a.Send("b", make([]byte, 2<<20))
		within(t, 5*time.Second, "a large message", func() bool { return b.count() == 5 })
	})
}

func TestStreamsToStalledPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		a, b := two(t, n, func(c *gossip.Config) { c.PeerMessages = 10 })
		long := []byte(strings.Repeat("x", 1<<20))
		n.Down("b")
		for range 100 {
			instantly(t, "send", func() { a.Send("b", long) })
		}
		if got := a.metric(t, "dropped_total", "queue=stream", "reason=full"); got < 85 {
			t.Errorf("%v dropped, want about 89", got)
		}
		within(t, 30*time.Second, "the peer is taken for dead", func() bool { return a.view() == "a:alive b:dead" })
		if got := a.metric(t, "stream_waiting"); got != 0 {
			t.Errorf("%v messages wait for a dead peer", got)
		}
		within(t, 15*time.Second, "all are dropped, the one under way too", func() bool {
			return a.metric(t, "dropped_total", "queue=stream") == 100
		})
		n.Up("b")
		within(t, 30*time.Second, "it is back", allSee([]*node{a, b}, "a:alive b:alive"))
		a.Send("b", long)
		within(t, 5*time.Second, "streams work again", func() bool { return b.got(string(long)) == 1 })
	})
}

// A stream that stalls after its dial must not hold the peer's worker for ever:
// memberlist sets no deadline on it.
func TestStreamStallsMidway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		n.SetStall(time.Hour) // no reset saves us
		n.SetLink(meshtest.Link{MinDelay: 10 * time.Millisecond, MaxDelay: 10 * time.Millisecond})
		a, _ := two(t, n, nil)
		a.Send("b", make([]byte, 5<<20))
		time.Sleep(35 * time.Millisecond) // dialled, writing
		n.PartitionOneWay([]string{"b"}, []string{"a"})
		within(t, 15*time.Second, "the stream is given up", func() bool {
			return a.metric(t, "dropped_total", "queue=stream", "reason=failed") == 1
		})
	})
}

func TestGossipQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		nodes := startFive(t, n, func(c *gossip.Config) {
			c.Mesh = strings.Repeat("m", 255) // the least room
			c.Fanout = 2
			c.QueuedBroadcasts = 20
		})
		for _, size := range []int{0, 1, 1000, 1128, 1129, 1200, 1201} {
			msg := strings.Repeat("s", size)
			nodes[0].Broadcast([]byte(msg))
			within(t, 20*time.Second, fmt.Sprintf("%d bytes arrive", size), func() bool {
				for _, nd := range nodes[1:] {
					if nd.got(msg) == 0 {
						return false
					}
				}
				return true
			})
		}
		within(t, 20*time.Second, "the queue empties", func() bool { return nodes[0].metric(t, "relay_waiting") == 0 })
		if nodes[0].metric(t, "sent_messages_total", "way=gossip") < 4 {
			t.Error("nothing went by gossip")
		}
		instantly(t, "broadcast", func() {
			for range 1000 {
				nodes[0].Broadcast(make([]byte, 1000))
			}
		})
		if got := nodes[0].metric(t, "relay_waiting"); got != 20 {
			t.Errorf("%v wait, want 20", got)
		}
		if got := nodes[0].metric(t, "dropped_total", "queue=gossip"); got != 980 {
			t.Errorf("%v dropped, want 980", got)
		}
	})
}

func TestTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		a, b := two(t, n, nil)
		a.Broadcast(make([]byte, gossip.MaxMessage+1))
		if got := a.metric(t, "dropped_total", "reason=too_large"); got != 1 {
			t.Errorf("%v dropped", got)
		}
		a.Broadcast(make([]byte, gossip.MaxMessage))
		within(t, 5*time.Second, "the largest message", func() bool { return b.count() == 1 })
	})
}
