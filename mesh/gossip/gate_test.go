package gossip_test

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/gossip"
)

// tap is a transport that keeps what is sent, as somebody on the wire could.
type tap struct {
	memberlist.NodeAwareTransport
	mu      sync.Mutex
	packets [][]byte
	streams []*bytes.Buffer
}

// on puts the tap into a member's configuration.
func (t *tap) on(tb testing.TB, c *gossip.Config) {
	tb.Helper()
	inner, ok := c.Transport.(memberlist.NodeAwareTransport)
	if !ok {
		tb.Fatal("not a transport to tap")
	}
	t.NodeAwareTransport, c.Transport = inner, t
}

func (t *tap) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	at, err := t.NodeAwareTransport.WriteToAddress(b, a)
	if err == nil { // after its end a member may still try
		t.mu.Lock()
		t.packets = append(t.packets, bytes.Clone(b))
		t.mu.Unlock()
	}
	return at, err
}

func (t *tap) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	c, err := t.NodeAwareTransport.DialAddressTimeout(a, timeout)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streams = append(t.streams, &bytes.Buffer{})
	return &tappedConn{Conn: c, t: t, b: t.streams[len(t.streams)-1]}, nil
}

type tappedConn struct {
	net.Conn
	t *tap
	b *bytes.Buffer
}

func (c *tappedConn) Write(p []byte) (int, error) {
	c.t.mu.Lock()
	c.b.Write(p)
	c.t.mu.Unlock()
	return c.Conn.Write(p)
}

// sent returns copies of what went by.
func (t *tap) sent() (packets, streams [][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.packets {
		packets = append(packets, bytes.Clone(p))
	}
	for _, s := range t.streams {
		streams = append(streams, bytes.Clone(s.Bytes()))
	}
	return packets, streams
}

func ring(t *testing.T, ks ...gossip.Key) *gossip.Keyring {
	t.Helper()
	k, err := gossip.NewKeyring(ks...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestEncrypted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		n.SetLink(lan())
		ks := keys(2)
		wire := &tap{}
		// With the same keys in another order they understand each other.
		nodes := startFive(t, n, func(c *gossip.Config) {
			c.Keyring = ring(t, ks...)
			c.Fanout = 2 // the gossip's queue carries messages too
			if c.Name == "b" {
				c.Keyring = ring(t, ks[1], ks[0])
				wire.on(t, c)
			}
		})
		short, long := strings.Repeat("0123456789", 120), strings.Repeat("abcdefghij", 30<<10)
		nodes[1].Send("c", []byte("datagram"))
		nodes[1].Broadcast([]byte(long))
		within(t, 5*time.Second, "messages arrive", func() bool {
			nodes[1].Broadcast([]byte(short)) // the queue may miss a member
			time.Sleep(time.Second / 2)
			for i, nd := range nodes {
				if i != 1 && (nd.got(short) == 0 || nd.got(long) != 1) {
					return false
				}
			}
			return nodes[2].got("datagram") == 1
		})
		packets, streams := wire.sent()
		for _, sent := range append(packets, streams...) {
			for _, secret := range []string{"0123456789", "abcdefghij", "datagram", "state of", "Node", "Addr"} {
				if bytes.Contains(sent, []byte(secret)) {
					t.Errorf("%q went over the wire", secret)
				}
			}
		}
		if len(packets) == 0 || len(streams) == 0 {
			t.Error("nothing was seen on the wire")
		}
		for _, nd := range nodes {
			if d := nd.metric(t, "dropped_total"); d != 0 {
				t.Errorf("%s dropped %v", nd.name, d)
			}
			if f := nd.metric(t, "joins_total", "result=failed"); f != 0 {
				t.Errorf("%s could not join %v times", nd.name, f)
			}
		}
	})
}

// TestReplayed sends again what went over the wire, from elsewhere: nothing happens but that it is counted.
func TestReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		wire := &tap{}
		var log buffer
		with := func(c *gossip.Config) {
			c.Keyring = ring(t, keys(1)...)
			if c.Name == "b" {
				wire.on(t, c)
			} else {
				c.Logger = zerolog.New(&log)
			}
		}
		a, b := start(t, n, "a", with), start(t, n, "b", with)
		within(t, 5*time.Second, "two join", allSee([]*node{a, b}, "a:alive b:alive"))
		const long = 5000
		for range 10 {
			b.Send("a", []byte("packet"))
			b.Send("a", bytes.Repeat([]byte("s"), long))
			time.Sleep(time.Second)
		}
		stream := strings.Repeat("s", long)
		if a.got("packet") != 10 || a.got(stream) != 10 {
			t.Fatalf("%d and %d messages", a.got("packet"), a.got(stream))
		}
		if err := b.Leave(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		within(t, 5*time.Second, "b left", allSee([]*node{a}, "a:alive b:left"))
		a.mu.Lock()
		states := a.states["state of b"]
		a.mu.Unlock()
		if drops := a.metric(t, "dropped_total"); drops != 0 {
			t.Fatalf("%v dropped before", drops)
		}

		packets, streams := wire.sent()
		stranger := n.Transport("stranger")
		for _, p := range packets {
			if _, err := stranger.WriteTo(p, n.GossipAddr("a")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		for _, s := range streams {
			say(t, stranger, n.GossipAddr("a"), s)
		}
		time.Sleep(10 * time.Second)
		if p, s := a.metric(t, "dropped_total", "queue=packet", "reason=replayed"), a.metric(t, "dropped_total", "queue=stream", "reason=replayed"); int(p) != len(packets) || int(s) != len(streams) {
			t.Errorf("of %d packets and %d streams %v and %v are counted as repeated", len(packets), len(streams), p, s)
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if len(a.messages) != 20 || a.states["state of b"] != states {
			t.Errorf("%d messages, %d states of b, before %d", len(a.messages), a.states["state of b"], states)
		}
		if v := a.view(); v != "a:alive b:left" {
			t.Error(v)
		}
		if c := log.count("repeats what was sent"); c == 0 || c > 3 {
			t.Errorf("said %d times", c)
		}
	})
}

// say opens a stream, sends bytes and waits until the other side is done with it.
func say(t *testing.T, from memberlist.Transport, to string, b []byte) {
	t.Helper()
	c, err := from.DialTimeout(to, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write(b); err != nil {
		return // refused already
	}
	_, _ = c.Read(make([]byte, 1))
}

// TestForged sends a member with keys what nobody with its keys has sent.
func TestForged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		ks := keys(3)
		a := start(t, n, "a", func(c *gossip.Config) { c.Join, c.Keyring = nil, ring(t, ks[0], ks[1]) })
		stranger := n.Transport("stranger")
		own, other := ring(t, ks[0]), ring(t, ks[2])
		mesh := []byte("fedmesh")
		const user = "\x08\x01forged" // memberlist's type, then ours
		seal := func(k *gossip.Keyring, plain string, context []byte) string {
			b, err := k.Seal([]byte(plain), context)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		altered := []byte(seal(own, user, mesh))
		altered[len(altered)-20] ^= 1
		for i, p := range []struct{ body, reason string }{
			{user, "plain"},
			{"\x00\x82\xa5SeqNo\x01\xa4Node\xa1a", "plain"},
			{seal(other, user, mesh), "unauthentic"},
			{seal(own, user, []byte("other")), "unauthentic"},
			{string(altered), "unauthentic"},
			{seal(own, user, mesh)[:25], "unauthentic"},
			{"\x00" + seal(own, user, mesh)[1:], "unauthentic"}, // memberlist's older format
			{"", "unauthentic"},
			{strings.Repeat("\xff", 1400), "unauthentic"},
			{"\x01\x80" + strings.Repeat("n", 60), "unauthentic"},                      // what is sealed may begin like a message
			{"\x01\x81\xa4Node\xa1a" + strings.Repeat("n", 60), "unauthentic"},         // however long that goes on
			{seal(own, "\x00\x81\xa4Node\xc9\xfd\x8e\xb4\xa3\xff", mesh), "malformed"}, // a member gone wrong
			{seal(own, "", mesh), "malformed"},
		} {
			before := a.metric(t, "dropped_total", "queue=packet", "reason="+p.reason)
			if _, err := stranger.WriteTo(append(bytes.Clone(label), p.body...), n.GossipAddr("a")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			if a.metric(t, "dropped_total", "queue=packet", "reason="+p.reason) != before+1 {
				t.Errorf("packet %d is not counted as %s", i, p.reason)
			}
		}

		frame := func(k *gossip.Keyring, plain string) string {
			size := len(plain) + 29
			head := "\x0a" + string([]byte{byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)})
			return head + seal(k, plain, append([]byte(head), mesh...))
		}
		const message = "\x08\x81\xaaUserMsgLen\x07\x01forged"
		bent := []byte(frame(own, message))
		bent[len(bent)-5] ^= 0x80
		for i, s := range []struct{ body, reason string }{
			{message, "plain"},
			{"\x06\x81\xa5Nodes\x00", "plain"},
			{"\x09\x81", "plain"},
			{frame(other, message), "unauthentic"},
			{string(bent), "unauthentic"},
			{"\x0a\xff\xff\xff\xff" + user, "unauthentic"},
			{"\x0a\x00\x00\x00\x05" + user, "unauthentic"},
			{"\x0a\x00\x00\x00\x40" + strings.Repeat("x", 64), "unauthentic"},
			{frame(own, "\x08\x81\xaaUserMsgLen\xc9\xfd\x8e\xb4\xa3\xff"), "malformed"},
			{frame(own, ""), "malformed"},
			{frame(own, "\xf4\x01x"+message), "malformed"},
		} {
			before := a.metric(t, "dropped_total", "queue=stream", "reason="+s.reason)
			say(t, stranger, n.GossipAddr("a"), append(bytes.Clone(label), s.body...))
			if a.metric(t, "dropped_total", "queue=stream", "reason="+s.reason) != before+1 {
				t.Errorf("stream %d is not counted as %s", i, s.reason)
			}
		}
		// Another mesh's, and what breaks off.
		for _, s := range []string{"", "\xf4", "\xf4\x07fedm", "\xf4\x07fedmesh", "\xf4\x05other\x08", "\x08\x81", string(label) + "\x0a\x00", string(label) + frame(own, message)[:40]} {
			say(t, stranger, n.GossipAddr("a"), []byte(s))
		}
		time.Sleep(20 * time.Second)
		if a.count() != 0 {
			t.Errorf("messages %q", a.messages)
		}
		if _, err := stranger.WriteTo([]byte(string(label)+seal(ring(t, ks[1]), user, mesh)), n.GossipAddr("a")); err != nil {
			t.Fatal(err)
		}
		say(t, stranger, n.GossipAddr("a"), []byte(string(label)+frame(own, message)))
		time.Sleep(time.Second)
		if a.got("forged") != 2 {
			t.Errorf("what has a right key is refused: %q", a.messages)
		}
	})
}

// buffer is a log that tests read.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) count(s string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.b.String(), s)
}

// TestStrangers starts members with keys, without, and with others: they do not merge, and each says why, whoever of them looks for the
// other.
func TestStrangers(t *testing.T) {
	ks := keys(2)
	const (
		plain   = "its sender has no keys"
		sealed  = "this peer has no keys"
		unknown = "a key that this peer does not have"
	)
	for _, tc := range []struct {
		name         string
		a, b         []gossip.Key
		aSays, bSays string
	}{
		{"b has none", ks[:1], nil, plain, sealed},
		{"a has none", nil, ks[:1], sealed, plain},
		{"others", ks[:1], ks[1:], unknown, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t, 1)
				var logs [2]buffer
				with := func(log *buffer, ks []gossip.Key) func(*gossip.Config) {
					return func(c *gossip.Config) {
						c.Logger = zerolog.New(log)
						if ks != nil {
							c.Keyring = ring(t, ks...)
						}
					}
				}
				a, b := start(t, n, "a", with(&logs[0], tc.a)), start(t, n, "b", with(&logs[1], tc.b)) // only b looks for a
				time.Sleep(time.Minute)
				if a.view() != "a:alive" || b.view() != "b:alive" {
					t.Errorf("they merged: %s | %s", a.view(), b.view())
				}
				for i, says := range []string{tc.aSays, tc.bSays} {
					if says != "" && logs[i].count(says) == 0 {
						t.Errorf("%c does not say %q:\n%s", 'a'+i, says, logs[i].b.String())
					}
				}
				if b.metric(t, "joins_total", "result=ok") != 0 {
					t.Error("a join is said to have worked")
				}
			})
		})
	}
}

// TestRotate changes the key of a mesh that goes on talking.
func TestRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		n.SetLink(lan())
		ks := keys(2)
		nodes := startFive(t, n, func(c *gossip.Config) { c.Keyring = ring(t, ks[0]) })
		lost := 0
		talk := func() {
			for i := range 20 {
				nodes[i%5].Broadcast([]byte("m"))
				nodes[i%5].Broadcast(make([]byte, 5000))
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(time.Second)
			for _, nd := range nodes {
				lost += 32 - nd.count() // of 40, eight are its own
				nd.mu.Lock()
				nd.messages = nil
				nd.mu.Unlock()
			}
		}
		rings := make([]*gossip.Keyring, 5)
		for i, nd := range nodes {
			rings[i] = nd.Keyring()
		}
		for _, change := range []func(*gossip.Keyring) error{
			func(k *gossip.Keyring) error { return k.Install(ks[1]) },
			func(k *gossip.Keyring) error { return k.Use(ks[1].Fingerprint()) },
			func(k *gossip.Keyring) error { return k.Remove(ks[0].Fingerprint()) },
		} {
			for _, k := range rings {
				if err := change(k); err != nil {
					t.Fatal(err)
				}
				talk() // while some have changed and others not
			}
		}
		if lost != 0 {
			t.Errorf("%d messages lost", lost)
		}
		within(t, time.Second, "all alive", allSee(nodes, allAlive))
		for _, nd := range nodes {
			if d := nd.metric(t, "dropped_total"); d != 0 {
				t.Errorf("%s dropped %v", nd.name, d)
			}
		}
		// The old key is worth nothing now.
		old := ring(t, ks[0])
		b, _ := old.Seal([]byte("\x08\x01forged"), []byte("fedmesh"))
		if _, err := n.Transport("stranger").WriteTo(append(bytes.Clone(label), b...), n.GossipAddr("a")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if nodes[0].got("forged") != 0 || nodes[0].metric(t, "dropped_total", "reason=unauthentic") != 1 {
			t.Error("the removed key is still good")
		}
	})
}
