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
			const userMessage = 8 // memberlist's type
			packet := append(append(bytes.Clone(label), userMessage), frame...)
			for range 2 {
				if _, err := stranger.WriteTo(packet, n.GossipAddr("a")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			var want []byte
			times := 0
			switch {
			case len(frame) > 0 && frame[0] == 1:
				want, times = frame[1:], 2
			case len(frame) > 9 && frame[0] == 3 && frame[9] == 1:
				want, times = frame[10:], 1
			}
			if a.count() != times || times > 0 && a.got(string(want)) != times {
				t.Errorf("frame %q: got %q, want %q %d times", frame, a.messages, want, times)
			}
		})
	})
}

// label is what precedes packets and streams of the default mesh.
var label = append([]byte{244, byte(len("fedmesh"))}, "fedmesh"...)

// What claims far more than it brings must not reach memberlist's decoder, which
// would set aside up to 4 GiB for it.
func TestMalformed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		a := start(t, n, "a", func(c *gossip.Config) { c.Join = nil })
		stranger := n.Transport("stranger")
		refused := 0.0
		const claim = "\xc9\xfd\x8e\xb4\xa3\xff" // an extension of 4 GiB
		for _, body := range []string{
			"",
			"\x00\x81\xa4Node" + claim, // a ping
			"\x07\x01\x00\x0c\x00\x81\xa4Node" + claim,            // in a compound
			"\x0c\x00\x00\x00\x00\x00\x81\xa4Node" + claim,        // with a checksum
			"\x07\x01\x00\x03\x07\x00\x00",                        // compound in compound
			"\x02\x81\xa7Payload\xc6\xf0\x00\x00\x00",             // 4 GB of bytes
			"\x04\x81\xa3Vsn\xdd\xf0\x00\x00\x00",                 // an array of as many
			"\x04\x81\xa3Vsn\x91\x91\x91\x91\x91\x91\x91\x91\x00", // too deep
			"\x04\x91\x00",         // not a map
			"\x04\x81\xa4Node\xa1", // cut short
			"\x09\x00", "\x0a\x00", // compressed, encrypted
		} {
			packet := append(bytes.Clone(label), body...)
			if _, err := stranger.WriteTo(packet, n.GossipAddr("a")); err != nil {
				t.Fatal(err)
			}
			refused++
			time.Sleep(time.Millisecond)
			if got := a.metric(t, "dropped_total", "queue=packet", "reason=malformed"); got != refused {
				t.Errorf("packet %q passed", body)
				refused = got
			}
		}
		refused = 0
		for _, body := range []string{
			"\x00\x81\xa4Node" + claim,
			"\x06\x83\xa5Nodes\x02\xa4Join\xc2\xacUserStateLen\x00\x80\x81\xa4Name" + claim,
			"\x06\x81\xa5Nodes\xce\x00\x0f\x00\x00",               // a million members
			"\x06\x82\xa5Nodes\xcd\x7f\xff\xa5Nodes\x00",          // said twice
			"\x06\x82\xa5Nodes\xcd\x7f\xff\xa1x\xa5Nodes\x05\x00", // and hidden
			"\x06\x81\x95\x4e\x6f\x64\x65\x73\xcd\x7f\xff",        // in a key of numbers
			"\x08\x81\xaaUserMsgLen" + claim,
			"\x09\x81\xa3Buf\xc6\xf0\x00\x00\x00",
		} {
			c, err := stranger.DialTimeout(n.GossipAddr("a"), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(append(bytes.Clone(label), body...)); err != nil {
				t.Fatal(err)
			}
			refused++
			time.Sleep(time.Millisecond)
			if got := a.metric(t, "dropped_total", "queue=stream", "reason=malformed"); got != refused {
				t.Errorf("stream %q passed", body)
				refused = got
			}
			_ = c.Close()
		}
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
