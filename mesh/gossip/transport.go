package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// dialTimeout bounds the dial of a stream, within Config.StreamTimeout.
	dialTimeout = 3 * time.Second
	// maxStreams bounds the streams open at a time, in each direction: a stranger
	// may make memberlist set aside 20 MiB for each.
	maxStreams = 128
)

// transport stands between memberlist and its real transport and adds what
// memberlist leaves out: it sets a deadline on streams that carry messages out,
// closes all streams at shutdown, bounds their number, and refuses what would make
// memberlist allocate without bound.
type transport struct {
	memberlist.Transport
	timeout time.Duration
	dial    func(ctx context.Context, a memberlist.Address) (net.Conn, error)
	metrics *metrics
	gate    *gate
	packets chan *memberlist.Packet
	streams chan net.Conn
	ctx     context.Context // ends at shutdown; memberlist's interface passes none
	cancel  context.CancelFunc
	tasks   sync.WaitGroup

	stopping chan struct{} // closed when shutdown begins

	mu     sync.Mutex
	open   map[*trackedConn]struct{}
	counts [2]int // of open: accepted, dialled
	closed bool
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

func newTransport(inner memberlist.Transport, timeout time.Duration, m *metrics, g *gate) *transport {
	t := &transport{
		Transport: inner,
		timeout:   timeout,
		metrics:   m,
		gate:      g,
		packets:   make(chan *memberlist.Packet),
		streams:   make(chan net.Conn),
		stopping:  make(chan struct{}),
		open:      map[*trackedConn]struct{}{},
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	switch inner := inner.(type) {
	case *memberlist.NetTransport:
		t.dial = func(ctx context.Context, a memberlist.Address) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", a.Addr)
		}
	case memberlist.NodeAwareTransport:
		t.dial = func(ctx context.Context, a memberlist.Address) (net.Conn, error) {
			return inner.DialAddressTimeout(a, remaining(ctx))
		}
	default:
		t.dial = func(ctx context.Context, a memberlist.Address) (net.Conn, error) {
			return inner.DialTimeout(a.Addr, remaining(ctx))
		}
	}
	t.tasks.Go(t.accept)
	t.tasks.Go(t.receive)
	return t
}

func remaining(ctx context.Context) time.Duration {
	by, _ := ctx.Deadline()
	return time.Until(by)
}

// accept hands incoming streams on to memberlist.
func (t *transport) accept() {
	for {
		select {
		case c := <-t.Transport.StreamCh():
			tc, err := t.track(c, 0)
			if err != nil {
				continue
			}
			select {
			case t.streams <- tc:
			case <-t.stopping:
				_ = tc.Close()
			}
		case <-t.ctx.Done():
			return
		}
	}
}

// receive hands incoming packets on to memberlist.
func (t *transport) receive() {
	for {
		select {
		case p := <-t.Transport.PacketCh():
			t.metrics.wireReceived.WithLabelValues(wayDatagram).Add(float64(len(p.Buf)))
			if !t.gate.packet(p.Buf, p.From) {
				continue
			}
			select {
			case t.packets <- p:
			case <-t.stopping:
			}
		case <-t.ctx.Done():
			return
		}
	}
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	t.metrics.wireSent.WithLabelValues(wayDatagram).Add(float64(len(b)))
	if aware, ok := t.Transport.(memberlist.NodeAwareTransport); ok {
		return aware.WriteToAddress(b, a)
	}
	return t.WriteTo(b, a.Addr)
}

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(t.ctx, min(timeout, dialTimeout))
	defer cancel()
	c, err := t.dial(ctx, a)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(t.timeout)); err != nil {
		_ = c.Close()
		return nil, err
	}
	return t.track(c, 1)
}

// Shutdown implements memberlist.Transport. It may be called more than once.
func (t *transport) Shutdown() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	close(t.stopping)
	// The inner transport waits for its goroutines, which wait until what they
	// have is taken: accept and receive must run until it is done.
	err := t.Transport.Shutdown()
	t.cancel()
	t.mu.Lock()
	open := make([]*trackedConn, 0, len(t.open))
	for c := range t.open {
		open = append(open, c)
	}
	t.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
	t.tasks.Wait()
	return err
}

var errStreams = errors.New("gossip: too many streams, or shut down")

func (t *transport) track(c net.Conn, direction int) (net.Conn, error) {
	tc := &trackedConn{Conn: meter{c, t.metrics}, t: t, direction: direction}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.counts[direction] >= maxStreams {
		_ = c.Close()
		return nil, errStreams
	}
	t.counts[direction]++
	t.open[tc] = struct{}{}
	return tc, nil
}

// trackedConn is a stream that the transport closes at shutdown.
type trackedConn struct {
	net.Conn
	t         *transport
	direction int
	guard     streamGuard // without keys
	told      bool        // that it is encrypted, and this member has no keys

	opened bool   // with keys: the message was read
	rest   []byte // of it
	end    error  // after it
}

// Read implements net.Conn. Only memberlist's one reader uses the guard and what was opened.
func (c *trackedConn) Read(b []byte) (int, error) {
	if c.t.gate.keys != nil {
		return c.readSealed(b)
	}
	n, err := c.Conn.Read(b)
	if bad := c.guard.scan(b[:n]); bad != nil {
		c.t.metrics.drop("stream", reasonMalformed, 1)
		_ = c.Close()
		return 0, bad
	}
	if c.guard.kind == typeSealed && !c.told {
		c.told = true
		c.t.gate.refuse("stream", reasonSealed, c.RemoteAddr())
	}
	return n, err
}

// readSealed reads the stream's one message as a whole before memberlist sees any of it.
func (c *trackedConn) readSealed(b []byte) (int, error) {
	if !c.opened {
		c.opened = true
		var reason string
		if c.rest, reason, c.end = c.t.gate.stream(c.Conn, c.direction == 1); reason != "" {
			c.t.gate.refuse("stream", reason, c.RemoteAddr())
			if reason != reasonPlain {
				_ = c.Close()
			}
		}
	}
	if len(c.rest) == 0 {
		return 0, c.end
	}
	n := copy(b, c.rest)
	if c.rest = c.rest[n:]; len(c.rest) == 0 {
		c.rest = nil
	}
	return n, nil
}

// Write implements net.Conn. A failed write closes the stream: memberlist forgets
// to when its label cannot be written.
func (c *trackedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil && c.direction == 1 {
		_ = c.Close()
	}
	return n, err
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.t.mu.Lock()
	if _, ok := c.t.open[c]; ok {
		delete(c.t.open, c)
		c.t.counts[c.direction]--
	}
	c.t.mu.Unlock()
	return c.Conn.Close()
}

// listen opens memberlist's transport over real sockets. Memberlist parses the
// host as an address and takes any other text for "every address", so names are
// resolved here.
func listen(ctx context.Context, bind string, logger *log.Logger) (*memberlist.NetTransport, error) {
	host, port, err := splitAddr(bind)
	if err != nil {
		return nil, fmt.Errorf("gossip: bind: %w", err)
	}
	if host == "" {
		host = "0.0.0.0"
	}
	ips, err := resolve(ctx, host, nil)
	if err != nil {
		return nil, fmt.Errorf("gossip: bind %q: %w", bind, err)
	}
	// A port that is free for TCP may be taken for UDP: try others.
	for try := 0; ; try++ {
		nt, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
			BindAddrs: []string{ips[0].String()}, BindPort: int(port), Logger: logger,
		})
		if err == nil {
			return nt, nil
		}
		if port != 0 || try == 9 {
			if errors.Is(err, syscall.EADDRINUSE) {
				return nil, fmt.Errorf("gossip: bind %q: %w: choose another port, or 0", bind, err)
			}
			return nil, fmt.Errorf("gossip: bind %q: %w", bind, err)
		}
	}
}
