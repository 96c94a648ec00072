package gossip_test

import (
	"bytes"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fedmesh/fedmesh/mesh/gossip"
)

// FuzzFrame sends a member arbitrary user messages. It must hand on those of kind
// 1, bare or relayed, a relayed one once, and survive the rest.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("\x01hello"))
	f.Add([]byte("\x02a"))
	f.Add([]byte("\x0312345678\x01hello"))
	f.Add([]byte("\x03short"))
	f.Add([]byte("\x0312345678\x0387654321\x01nested"))
	f.Add([]byte("\xffunknown"))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) > 60<<10 {
			return // no datagram
		}
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t, 1)
			a := start(t, n, "a", func(c *gossip.Config) { c.Join = nil })
			stranger := n.Transport("stranger")
			const userMessage, labelled = 8, 244 // memberlist's types
			packet := append([]byte{labelled, byte(len("fedmesh"))}, "fedmesh"...)
			packet = append(append(packet, userMessage), frame...)
			for range 2 {
				if _, err := stranger.WriteTo(packet, n.GossipAddr("a")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			want, times := []byte(nil), 0
			switch {
			case len(frame) > 0 && frame[0] == 1:
				want, times = frame[1:], 2
			case len(frame) > 9 && frame[0] == 3 && frame[9] == 1:
				want, times = frame[10:], 1
			}
			if a.count() != times || times > 0 && a.got(string(bytes.Clone(want))) != times {
				t.Errorf("frame %q: got %q, want %q %d times", frame, a.messages, want, times)
			}
		})
	})
}

// TestRace calls everything at once, and closes in the midst of it.
func TestRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		n.SetLink(lan())
		nodes := startFive(t, n, func(c *gossip.Config) { c.Fanout = 2 })
		var wg sync.WaitGroup
		for i, nd := range nodes {
			for _, call := range []func(){
				func() { nd.Broadcast([]byte("short")) },
				func() { nd.Broadcast(make([]byte, 5000)) },
				func() { nd.Send("a", make([]byte, 5000)) },
				func() { _ = nd.UpdateMeta([]byte(time.Now().String())) },
				func() { nd.Members(); nd.Addr() },
			} {
				wg.Go(func() {
					for range 50 {
						call()
						time.Sleep(10 * time.Millisecond)
					}
				})
			}
			wg.Go(func() {
				time.Sleep(300 * time.Millisecond)
				if i%2 == 0 {
					_ = nd.Leave(500 * time.Millisecond)
				}
			})
			wg.Go(func() {
				time.Sleep(time.Duration(300+i*50) * time.Millisecond)
				_ = nd.Close()
			})
		}
		wg.Wait()
	})
}
