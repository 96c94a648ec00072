package meshtest

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// inboxSize is how many datagrams a transport holds; more are lost, as they are
// by a socket's buffer.
const inboxSize = 1024

// transport is a memberlist.NodeAwareTransport.
type transport struct {
	net     *Network
	host    *host
	packets chan *memberlist.Packet
	streams *backlogQueue
	closed  atomic.Bool
}

// Transport starts a memberlist transport on the named host, at GossipAddr. A
// host has one at a time: an earlier one that still runs is closed.
func (n *Network) Transport(name string) memberlist.NodeAwareTransport {
	n.mu.Lock()
	h := n.hostLocked(name)
	old := h.packets
	n.mu.Unlock()
	if old != nil {
		_ = old.Shutdown()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	t := &transport{net: n, host: h, packets: make(chan *memberlist.Packet, inboxSize)}
	q, err := n.listenLocked(h, GossipPort)
	if err != nil {
		// The network is closed, or a plain listener has the port: a transport
		// that is cut off from the start.
		q = newBacklogQueue(func() {})
		t.closed.Store(true)
	}
	t.streams = q
	h.packets = t
	return t
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.host.ip, GossipPort, nil
}

// WriteTo implements memberlist.Transport.
func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	if t.closed.Load() {
		return time.Time{}, fmt.Errorf("meshtest: write from %s: %w", t.host.name, net.ErrClosed)
	}
	n := t.net
	n.mu.Lock()
	defer n.mu.Unlock()
	dst, port, err := n.lookupLocked(addr)
	if err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	if port != GossipPort || !n.openLocked(t.host, dst) {
		return now, nil
	}
	l := n.linkLocked(t.host, dst)
	if n.rng.Float64() < l.Loss {
		return now, nil
	}
	copies := 1
	if n.rng.Float64() < l.Duplicate {
		copies = 2
	}
	for range copies {
		p := &memberlist.Packet{
			Buf:  append([]byte(nil), b...),
			From: &net.UDPAddr{IP: t.host.ip, Port: GossipPort},
		}
		if d := n.delayLocked(l); d > 0 {
			time.AfterFunc(d, func() {
				n.mu.Lock()
				defer n.mu.Unlock()
				deliverLocked(dst, p)
			})
		} else {
			deliverLocked(dst, p)
		}
	}
	return now, nil
}

func deliverLocked(dst *host, p *memberlist.Packet) {
	if dst.down || dst.packets == nil || dst.packets.closed.Load() {
		return
	}
	p.Timestamp = time.Now()
	select {
	case dst.packets.packets <- p:
	default:
	}
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *transport) WriteToAddress(b []byte, a memberlist.Address) (time.Time, error) {
	return t.WriteTo(b, a.Addr)
}

// PacketCh implements memberlist.Transport.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout implements memberlist.Transport.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	if t.closed.Load() {
		return nil, fmt.Errorf("meshtest: dial from %s: %w", t.host.name, net.ErrClosed)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return t.net.Dialer(t.host.name)(ctx, "tcp", addr)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *transport) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return t.DialTimeout(a.Addr, timeout)
}

// StreamCh implements memberlist.Transport.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams.conns }

// Shutdown implements memberlist.Transport.
func (t *transport) Shutdown() error {
	t.closed.Store(true)
	t.streams.close()
	return nil
}
