package meshtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// backlogQueue holds streams that wait to be accepted.
type backlogQueue struct {
	conns chan net.Conn
	done  chan struct{}

	mu     sync.Mutex
	closed bool
	onDone func()
}

func newBacklogQueue(onDone func()) *backlogQueue {
	return &backlogQueue{conns: make(chan net.Conn, backlog), done: make(chan struct{}), onDone: onDone}
}

// offer queues a stream, or says that it must be refused.
func (q *backlogQueue) offer(c net.Conn) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	select {
	case q.conns <- c:
		return true
	default:
		return false
	}
}

// close refuses new streams and drops those that wait.
func (q *backlogQueue) close() {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return
	}
	q.closed = true
	close(q.done)
	q.mu.Unlock()
	for {
		select {
		case c := <-q.conns:
			_ = c.Close()
		default:
			q.onDone()
			return
		}
	}
}

type listener struct {
	*backlogQueue
	addr listenAddr
}

// listenAddr is a host's name and a port, as in "a:80".
type listenAddr string

// Network implements net.Addr.
func (listenAddr) Network() string { return "tcp" }

// String implements net.Addr.
func (a listenAddr) String() string { return string(a) }

// Listen opens a stream listener on a host. addr is a name, for port 80, or
// "name:port", where port 0 takes a free one. The listener's Addr is "name:port".
func (n *Network) Listen(addr string) (net.Listener, error) {
	if !strings.Contains(addr, ":") {
		addr += ":80"
	}
	name, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("meshtest: listen on %q: %w", addr, err)
	}
	p, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("meshtest: listen on %q: port: %w", addr, err)
	}
	port := int(p)
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hostLocked(name)
	if port == 0 {
		for port = 30000; h.listeners[port] != nil; port++ {
		}
	}
	l := &listener{addr: listenAddr(net.JoinHostPort(h.name, strconv.Itoa(port)))}
	if l.backlogQueue, err = n.listenLocked(h, port); err != nil {
		return nil, err
	}
	return l, nil
}

func (n *Network) listenLocked(h *host, port int) (*backlogQueue, error) {
	if n.closed {
		return nil, fmt.Errorf("meshtest: listen on %s:%d: network %w", h.name, port, net.ErrClosed)
	}
	if h.listeners[port] != nil {
		return nil, fmt.Errorf("meshtest: listen on %s:%d: %w", h.name, port, syscall.EADDRINUSE)
	}
	var q *backlogQueue
	q = newBacklogQueue(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if h.listeners[port] == q {
			delete(h.listeners, port)
		}
	})
	h.listeners[port] = q
	return q, nil
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
	}
}

// Close implements net.Listener. Accepted streams live on.
func (l *listener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }

// Dialer returns a function that opens streams from the named host, fit for
// http.Transport's DialContext. Its network argument is ignored.
func (n *Network) Dialer(from string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		c, err := n.dial(ctx, from, addr)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: listenAddr(addr), Err: err}
		}
		return c, nil
	}
}

// HTTPClient returns a client whose requests leave from the named host. It has
// no timeout of its own.
func (n *Network) HTTPClient(from string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: n.Dialer(from)}}
}

func (n *Network) dial(ctx context.Context, from, addr string) (net.Conn, error) {
	n.mu.Lock()
	stall := n.stall
	n.mu.Unlock()
	giveUp := time.NewTimer(stall)
	defer giveUp.Stop()
	for first := true; ; first = false {
		n.mu.Lock()
		src := n.hostLocked(from)
		dst, port, err := n.lookupLocked(addr)
		if err == nil && n.closed {
			err = net.ErrClosed
		}
		if err != nil {
			n.mu.Unlock()
			return nil, err
		}
		if n.flowsLocked(src, dst) {
			if trip := n.delayLocked(n.linkLocked(src, dst)) + n.delayLocked(n.linkLocked(dst, src)); first && trip > 0 {
				n.mu.Unlock()
				if err := sleep(ctx, trip); err != nil {
					return nil, err
				}
				continue
			}
			c, err := n.connectLocked(src, dst, port)
			n.mu.Unlock()
			return c, err
		}
		changed := n.changed
		n.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctxError(ctx)
		case <-giveUp.C:
			return nil, syscall.ETIMEDOUT
		}
	}
}

func (n *Network) connectLocked(src, dst *host, port int) (net.Conn, error) {
	q := dst.listeners[port]
	if q == nil {
		return nil, syscall.ECONNREFUSED
	}
	s := newStream(n, src, dst,
		&net.TCPAddr{IP: src.ip, Port: 49152 + n.rng.IntN(16384)}, &net.TCPAddr{IP: dst.ip, Port: port})
	if !q.offer(s.server) {
		return nil, syscall.ECONNREFUSED
	}
	n.streams[s] = struct{}{}
	return s.client, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctxError(ctx)
	}
}

// ctxError turns an expired context into the timeout that package net reports.
func ctxError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return ctx.Err()
}
