package meshtest

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// window is how many bytes a stream holds in each direction before a writer
// waits for the reader.
const window = 256 << 10

// stream is a connection: two ends and the way between them.
type stream struct {
	net            *Network
	client, server *conn

	mu      sync.Mutex
	stalled bool
	reset   bool
	timer   *time.Timer // resets a stream that stalls too long
}

// conn is one end of a stream. Unlike the ends of net.Pipe it buffers, so two
// ends that both write before they read do not lock each other out. All fields
// below host are guarded by the stream's mutex.
type conn struct {
	*stream
	host          *host
	peer          *conn
	local, remote net.Addr

	in       []segment // what the peer wrote and this end has not read
	size     int       // bytes in in
	last     time.Time // when the last of in arrives
	fin      bool      // the peer closed, seen at finAt
	finAt    time.Time
	closed   bool
	readBy   time.Time
	writeBy  time.Time
	progress chan struct{} // closed and replaced when a waiting call should look again
}

type segment struct {
	data []byte
	at   time.Time // not readable before
}

func newStream(n *Network, client, server *host, clientAddr, serverAddr net.Addr) *stream {
	s := &stream{net: n}
	s.client = &conn{stream: s, host: client, local: clientAddr, remote: serverAddr, progress: make(chan struct{})}
	s.server = &conn{stream: s, host: server, local: serverAddr, remote: clientAddr, progress: make(chan struct{})}
	s.client.peer, s.server.peer = s.server, s.client
	return s
}

// setFlowing stalls the stream or lets it go on.
func (s *stream) setFlowing(flows bool, stall time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stalled == !flows {
		return
	}
	s.stalled = !flows
	if s.stalled {
		s.timer = time.AfterFunc(stall, func() {
			s.mu.Lock()
			expired := s.stalled
			s.mu.Unlock()
			if expired {
				s.abort()
			}
		})
	} else {
		s.timer.Stop()
	}
	s.client.wake()
	s.server.wake()
}

// abort resets the stream: both ends fail from now on.
func (s *stream) abort() {
	s.mu.Lock()
	s.reset = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.client.wake()
	s.server.wake()
	s.mu.Unlock()
	s.net.forget(s)
}

// wake makes waiting calls of this end look again. The mutex is held.
func (c *conn) wake() {
	close(c.progress)
	c.progress = make(chan struct{})
}

// failed returns why this end cannot go on, or nil. The mutex is held.
func (c *conn) failed(op string, by, now time.Time) error {
	var err error
	switch {
	case c.closed:
		err = net.ErrClosed
	case c.reset:
		err = syscall.ECONNRESET
	case !by.IsZero() && !now.Before(by):
		err = os.ErrDeadlineExceeded
	default:
		return nil
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	for {
		c.mu.Lock()
		now := time.Now()
		if err := c.failed("read", c.readBy, now); err != nil {
			c.mu.Unlock()
			return 0, err
		}
		if len(p) == 0 {
			c.mu.Unlock()
			return 0, nil
		}
		var next time.Time
		if !c.stalled {
			if n := c.take(p, now); n > 0 {
				c.peer.wake()
				c.mu.Unlock()
				return n, nil
			}
			switch {
			case len(c.in) > 0:
				next = c.in[0].at
			case c.fin && !c.finAt.After(now):
				c.mu.Unlock()
				return 0, io.EOF
			case c.fin:
				next = c.finAt
			}
		}
		progress, by := c.progress, c.readBy
		c.mu.Unlock()
		wait(progress, next, by)
	}
}

// take moves what has arrived into p. The mutex is held.
func (c *conn) take(p []byte, now time.Time) int {
	n := 0
	for n < len(p) && len(c.in) > 0 && !c.in[0].at.After(now) {
		k := copy(p[n:], c.in[0].data)
		n += k
		c.size -= k
		if k < len(c.in[0].data) {
			c.in[0].data = c.in[0].data[k:]
			break
		}
		c.in[0].data = nil
		c.in = c.in[1:]
	}
	return n
}

// Write implements net.Conn. It returns when all of p is on its way.
func (c *conn) Write(p []byte) (int, error) {
	delay := c.net.delay(c.host, c.peer.host)
	written := 0
	for {
		c.mu.Lock()
		now := time.Now()
		err := c.failed("write", c.writeBy, now)
		if err == nil && c.peer.closed && !c.stalled {
			err = &net.OpError{Op: "write", Net: "tcp", Source: c.local, Addr: c.remote, Err: syscall.EPIPE}
		}
		if err != nil || written == len(p) {
			c.mu.Unlock()
			return written, err
		}
		if k := min(window-c.peer.size, len(p)-written); k > 0 {
			at := now.Add(delay)
			if at.Before(c.peer.last) {
				at = c.peer.last
			}
			c.peer.last = at
			c.peer.in = append(c.peer.in, segment{append([]byte(nil), p[written:written+k]...), at})
			c.peer.size += k
			written += k
			c.peer.wake()
		}
		done := written == len(p)
		progress, by := c.progress, c.writeBy
		c.mu.Unlock()
		if done {
			return written, nil
		}
		wait(progress, time.Time{}, by)
	}
}

// Close implements net.Conn. The peer reads what was written, then io.EOF.
func (c *conn) Close() error {
	delay := c.net.delay(c.host, c.peer.host)
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	c.in, c.size = nil, 0
	c.peer.fin = true
	c.peer.finAt = time.Now().Add(delay)
	if c.peer.finAt.Before(c.peer.last) {
		c.peer.finAt = c.peer.last
	}
	gone := c.peer.closed
	if gone && c.timer != nil {
		c.timer.Stop()
	}
	c.wake()
	c.peer.wake()
	c.mu.Unlock()
	if gone {
		c.net.forget(c.stream)
	}
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.setDeadline(t, true, true) }

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.setDeadline(t, true, false) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(t, false, true) }

func (c *conn) setDeadline(t time.Time, read, write bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	if read {
		c.readBy = t
	}
	if write {
		c.writeBy = t
	}
	c.wake()
	return nil
}

// wait returns when progress closes or the earlier of the two times, of which
// zero means never, has come.
func wait(progress <-chan struct{}, a, b time.Time) {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		a = b
	}
	if a.IsZero() {
		<-progress
		return
	}
	t := time.NewTimer(time.Until(a))
	defer t.Stop()
	select {
	case <-progress:
	case <-t.C:
	}
}
