package gossip

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/memberlist"
)

// The first byte of a user message says what it is.
const (
	kindUser  = 1 // the rest is the message
	kindLeave = 2 // the rest is the name of a member that leaves
	kindRelay = 3 // eight bytes that tell it from others, then a frame of kind 1 or 2 to pass on
)

// delegate receives memberlist's callbacks. Most are made while memberlist holds
// its node lock or its only packet goroutine waits: they copy, enqueue and return.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate         = delegate{}
	_ memberlist.EventDelegate    = delegate{}
	_ memberlist.ConflictDelegate = delegate{}
	_ memberlist.AliveDelegate    = delegate{}
	_ memberlist.PingDelegate     = delegate{}
)

// NodeMeta implements memberlist.Delegate.
func (d delegate) NodeMeta(int) []byte { return *d.g.meta.Load() }

// NotifyMsg implements memberlist.Delegate.
func (d delegate) NotifyMsg(b []byte) {
	if len(b) > 0 && b[0] == kindRelay {
		b = d.g.relay.receive(b)
	}
	if len(b) == 0 {
		return
	}
	switch b[0] {
	case kindUser:
		d.g.metrics.received.Inc()
		d.g.metrics.receivedBytes.Add(float64(len(b) - 1))
		d.g.inbox.push(item{kind: itemMessage, data: bytes.Clone(b[1:])})
	case kindLeave:
		if d.g.members.notice(string(b[1:])) {
			d.g.changed()
		}
	}
}

// GetBroadcasts implements memberlist.Delegate.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.g.relay.queue.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate.
func (d delegate) LocalState(bool) []byte {
	s := d.g.handler.LocalState()
	if len(s) > MaxMessage {
		d.g.metrics.drop("state", "too_large", 1)
		return nil
	}
	return s
}

// MergeRemoteState implements memberlist.Delegate.
func (d delegate) MergeRemoteState(b []byte, _ bool) {
	if len(b) > 0 {
		d.g.inbox.push(item{kind: itemState, data: bytes.Clone(b)})
	}
}

// NotifyJoin implements memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node) {
	if d.g.members.joined(n) {
		select {
		case d.g.returned <- struct{}{}:
		default:
		}
	}
	d.g.changed()
}

// NotifyLeave implements memberlist.EventDelegate.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	d.g.members.gone(n)
	d.g.outbox.gone(n.Name)
	d.g.changed()
}

// NotifyUpdate implements memberlist.EventDelegate.
func (d delegate) NotifyUpdate(n *memberlist.Node) {
	d.g.members.updated(n)
	d.g.changed()
}

// NotifyConflict implements memberlist.ConflictDelegate.
func (d delegate) NotifyConflict(known, claimed *memberlist.Node) {
	d.g.metrics.conflicts.Inc()
	d.g.log.Error().Str("peer", known.Name).Str("known", known.Address()).Str("claimed", claimed.Address()).
		Msg("two members use one name: rename one of them")
	d.g.inbox.push(item{kind: itemConflict, name: known.Name, known: known.Address(), claimed: claimed.Address()})
}

var errFull = errors.New("gossip: too many members")

// NotifyAlive implements memberlist.AliveDelegate: it refuses what would exceed
// our limits.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	switch {
	case n.Name == d.g.cfg.Name:
		return nil
	case !validName(n.Name):
		return fmt.Errorf("gossip: member name %.*q refused", maxName, n.Name)
	case len(n.Meta) > MaxMeta:
		return fmt.Errorf("gossip: member %s has %d bytes of metadata, the most is %d", n.Name, len(n.Meta), MaxMeta)
	case len(n.Addr) != 4 && len(n.Addr) != 16 || n.Addr.IsUnspecified() || n.Port == 0:
		return fmt.Errorf("gossip: member %s has no usable address", n.Name)
	case !d.g.members.admit(n.Name):
		return errFull
	}
	return nil
}

// AckPayload implements memberlist.PingDelegate.
func (delegate) AckPayload() []byte { return nil }

// NotifyPingComplete implements memberlist.PingDelegate.
func (d delegate) NotifyPingComplete(_ *memberlist.Node, rtt time.Duration, _ []byte) {
	d.g.metrics.rtt.Observe(rtt.Seconds())
}
