package gossip

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/hashicorp/memberlist"
)

// relayHeader is the length of a relayed frame's kind and number.
const relayHeader = 1 + 8

// relayMemory is how many frames are remembered, to pass each on once.
const relayMemory = 8192

// relay spreads frames by gossip. Memberlist sends a queued message from its
// origin to a handful of random members and no further: whoever receives a frame
// for the first time must queue it again. A random number tells frames apart.
type relay struct {
	queue   *memberlist.TransmitLimitedQueue
	most    int // frames queued
	fits    int // bytes of the longest frame that fits a packet
	metrics *metrics

	mu   sync.Mutex
	seen map[uint64]struct{}
	ring []uint64 // seen, the oldest at index at once it is full
	at   int
}

func newRelay(numNodes func() int, most, small int, m *metrics) *relay {
	return &relay{
		queue:   &memberlist.TransmitLimitedQueue{NumNodes: numNodes, RetransmitMult: retransmitMult},
		most:    most,
		fits:    relayHeader + 1 + small,
		metrics: m,
		seen:    map[uint64]struct{}{},
	}
}

// spread queues a frame of this member's.
func (r *relay) spread(frame []byte) {
	id := rand.Uint64()
	r.first(id)
	b := binary.BigEndian.AppendUint64([]byte{kindRelay}, id)
	r.enqueue(append(b, frame...))
}

// receive takes a relayed frame and returns what is in it, or nil when that was
// seen before. It copies b.
func (r *relay) receive(b []byte) []byte {
	if len(b) <= relayHeader || !r.first(binary.BigEndian.Uint64(b[1:])) {
		return nil
	}
	b = slices.Clone(b)
	// A longer one came some other way, and would stay queued for ever.
	if len(b) <= r.fits {
		r.enqueue(b)
	}
	return b[relayHeader:]
}

// first says whether a number is new, and remembers it.
func (r *relay) first(id uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.seen[id]; ok {
		return false
	}
	r.seen[id] = struct{}{}
	if len(r.ring) < relayMemory {
		r.ring = append(r.ring, id)
		return true
	}
	delete(r.seen, r.ring[r.at])
	r.ring[r.at] = id
	r.at = (r.at + 1) % relayMemory
	return true
}

// enqueue prunes the queue each time: nothing leaves it while this member is alone.
func (r *relay) enqueue(frame []byte) {
	r.queue.QueueBroadcast(broadcast(frame))
	if over := r.queue.NumQueued() - r.most; over > 0 {
		r.queue.Prune(r.most)
		r.metrics.drop("gossip", "full", over)
	}
}

// broadcast is a memberlist.UniqueBroadcast: none replaces another.
type broadcast []byte

func (b broadcast) Invalidates(memberlist.Broadcast) bool { return false }
func (b broadcast) Message() []byte                       { return b }
func (b broadcast) Finished()                             {}
func (b broadcast) UniqueBroadcast()                      {}
