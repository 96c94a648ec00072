package gossip

import (
	"context"
	"slices"
	"sync"
)

const (
	// smallMessage is the longest message that goes by datagram: it fits an
	// Ethernet frame with the longest label.
	smallMessage = 1200
	// packetSize is memberlist's UDPBufferSize, what a gossiped packet may hold.
	packetSize = 1400
	// datagramQueue is how many datagrams wait to be written.
	datagramQueue = 4096
)

// outbox holds what waits to be sent, so that sending never waits. Its lock is a
// leaf: nothing is called while it is held.
type outbox struct {
	maxItems  int
	maxBytes  int64
	metrics   *metrics
	datagrams chan outgoing

	mu     sync.Mutex
	peers  map[string]*peerQueue // those with a running worker
	closed bool
}

type outgoing struct {
	name  string
	frame []byte
}

type peerQueue struct {
	frames [][]byte
	bytes  int64
}

func newOutbox(maxItems int, maxBytes int64, m *metrics) *outbox {
	return &outbox{
		maxItems:  maxItems,
		maxBytes:  maxBytes,
		metrics:   m,
		datagrams: make(chan outgoing, datagramQueue),
		peers:     map[string]*peerQueue{},
	}
}

// datagram queues a frame for one datagram.
func (o *outbox) datagram(name string, frame []byte) {
	select {
	case o.datagrams <- outgoing{name, frame}:
	default:
		o.metrics.drop("datagram", "full", 1)
	}
}

// stream queues a frame for a peer's worker, which start starts when there is none.
func (o *outbox) stream(name string, frame []byte, start func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.peers[name]
	switch {
	case o.closed:
		o.metrics.drop("stream", "closed", 1)
		return
	case q == nil:
		q = &peerQueue{}
		o.peers[name] = q
		start()
	case len(q.frames) >= o.maxItems || len(q.frames) > 0 && q.bytes+int64(len(frame)) > o.maxBytes:
		o.metrics.drop("stream", "full", 1)
		return
	}
	q.frames = append(q.frames, frame)
	q.bytes += int64(len(frame))
}

// next returns the next frame for a peer. Without one its worker must end.
func (o *outbox) next(name string) ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	q := o.peers[name]
	if o.closed || len(q.frames) == 0 {
		delete(o.peers, name)
		return nil, false
	}
	f := q.frames[0]
	q.frames[0] = nil
	q.frames = q.frames[1:]
	q.bytes -= int64(len(f))
	return f, true
}

// gone drops what waits for a peer.
func (o *outbox) gone(name string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if q := o.peers[name]; q != nil {
		o.metrics.drop("stream", "gone", len(q.frames))
		q.frames, q.bytes = nil, 0
	}
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
}

func (o *outbox) idle() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.datagrams) == 0 && len(o.peers) == 0
}

// waiting returns how many frames wait for streams.
func (o *outbox) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, q := range o.peers {
		n += len(q.frames)
	}
	return n
}

// Broadcast sends msg to the other members that are alive. Messages up to 1200
// bytes (about 1130 when the mesh's name is long) go by datagram, directly or, in meshes larger than Config.Fanout, by
// gossip; longer ones go by stream to each. It copies msg and never blocks. What
// arrives may be late, twice, in another order, or not at all.
func (g *Gossip) Broadcast(msg []byte) {
	frame, ok := g.frame(msg)
	if !ok {
		return
	}
	others := g.members.others()
	if len(msg) <= g.small && len(others) > g.cfg.Fanout {
		g.metrics.sent.WithLabelValues("gossip").Inc()
		g.relay.spread(frame)
		return
	}
	for _, name := range others {
		g.send(name, frame)
	}
}

// Send sends msg to one other member. It copies msg and never blocks. It is
// dropped when the member is not alive, and may be lost like a broadcast.
func (g *Gossip) Send(name string, msg []byte) {
	frame, ok := g.frame(msg)
	if !ok {
		return
	}
	if _, ok := g.members.node(name); !ok || name == g.cfg.Name {
		g.metrics.drop("send", "gone", 1)
		return
	}
	g.send(name, frame)
}

func (g *Gossip) frame(msg []byte) ([]byte, bool) {
	if len(msg) > MaxMessage {
		g.metrics.drop("send", "too_large", 1)
		g.log.Error().Int("bytes", len(msg)).Int("limit", MaxMessage).Msg("message dropped: too large")
		return nil, false
	}
	if !g.running.Load() {
		g.metrics.drop("send", "closed", 1)
		return nil, false
	}
	return slices.Concat([]byte{kindUser}, msg), true
}

func (g *Gossip) send(name string, frame []byte) {
	if len(frame)-1 <= g.small {
		g.outbox.datagram(name, frame)
		return
	}
	g.outbox.stream(name, frame, func() { g.tasks.Go(func() { g.stream(name) }) })
}

// write sends the queued datagrams until ctx ends.
func (g *Gossip) write(ctx context.Context) {
	for {
		select {
		case d := <-g.outbox.datagrams:
			node, ok := g.members.node(d.name)
			if !ok {
				g.metrics.drop("datagram", "gone", 1)
				continue
			}
			if err := g.list.SendBestEffort(&node, d.frame); err != nil {
				g.metrics.drop("datagram", "failed", 1)
				g.log.Debug().Err(err).Str("peer", d.name).Msg("datagram not sent")
				continue
			}
			g.metrics.sent.WithLabelValues("datagram").Inc()
			g.metrics.sentBytes.Add(float64(len(d.frame) - 1))
		case <-ctx.Done():
			return
		}
	}
}

// stream is a peer's worker: it sends what waits for the peer, each frame in a
// stream of its own, and ends when nothing does.
func (g *Gossip) stream(name string) {
	for {
		frame, ok := g.outbox.next(name)
		if !ok {
			return
		}
		node, ok := g.members.node(name)
		if !ok {
			g.metrics.drop("stream", "gone", 1)
			continue
		}
		if err := g.list.SendReliable(&node, frame); err != nil {
			g.metrics.drop("stream", "failed", 1)
			g.log.Debug().Err(err).Str("peer", name).Int("bytes", len(frame)-1).Msg("stream message not sent")
			continue
		}
		g.metrics.sent.WithLabelValues("stream").Inc()
		g.metrics.sentBytes.Add(float64(len(frame) - 1))
	}
}
