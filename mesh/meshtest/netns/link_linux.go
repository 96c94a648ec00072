package netns

import (
	"bytes"
	"io"
	"math/rand/v2"
	"sync"
	"time"
)

// Link is one direction between two hosts. The zero Link is whole.
type Link struct {
	Cut    bool          // nothing gets through
	CutTCP bool          // no TCP gets through
	Loss   float64       // the share of packets that is lost
	Delay  time.Duration // of each packet; their order stays
}

// queue is how many delayed packets are under way at most, as in netem; more are lost.
const queue = 4096

// link is a direction, its state and what went through.
type link struct {
	to io.Writer

	mu        sync.Mutex
	now       Link
	dice      *rand.Rand
	delivered int
	dropped   int
	contact   time.Time
	delayed   chan parcel // nil until something was delayed
}

// parcel is a packet under way.
type parcel struct {
	p   packet
	due time.Time
}

func newLink(to io.Writer, seed, number uint64) *link {
	return &link{to: to, dice: rand.New(rand.NewPCG(seed, number))}
}

func (x *link) set(l Link) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.now, x.delivered, x.dropped, x.contact = l, 0, 0, time.Time{}
}

func (x *link) contacted() time.Time {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.contact
}

func (x *link) counts() (delivered, dropped int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.delivered, x.dropped
}

func (x *link) late() time.Duration {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.now.Delay
}

// admit decides whether a packet gets through.
func (x *link) admit(p packet) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.blocks(p) || x.now.Loss > 0 && x.dice.Float64() < x.now.Loss {
		x.dropped++
		return false
	}
	return true
}

// blocks is called with x.mu held.
func (x *link) blocks(p packet) bool { return x.now.Cut || x.now.CutTCP && p.tcp() }

// deliver hands a packet to the receiver's kernel, unless the link was cut while it was under way.
func (x *link) deliver(p packet) {
	x.mu.Lock()
	if x.blocks(p) {
		x.dropped++
		x.mu.Unlock()
		return
	}
	x.delivered++
	if x.contact.IsZero() && p.answers() {
		x.contact = time.Now()
	}
	x.mu.Unlock()
	_, _ = x.to.Write(p) // what the kernel does not take is lost, as on any network
}

// post delivers a packet later. It is called by the one goroutine that forwards for the sender.
func (x *link) post(n *Network, p packet, due time.Time) {
	if x.delayed == nil {
		x.delayed = make(chan parcel, queue)
		n.forwarding.Go(func() { x.carry(n.closing) })
	}
	select {
	case x.delayed <- parcel{bytes.Clone(p), due}:
	default:
		x.mu.Lock()
		x.dropped++
		x.mu.Unlock()
	}
}

// carry delivers the delayed packets when they are due.
func (x *link) carry(closing <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-closing:
			return
		case l := <-x.delayed:
			timer.Reset(time.Until(l.due))
			select {
			case <-closing:
				return
			case <-timer.C:
				x.deliver(l.p)
			}
		}
	}
}

// packet is an IP packet.
type packet []byte

const (
	ipv4     = 4
	minIPv4  = 20
	protoTCP = 6
	protoUDP = 17
	synAck   = 0x12
)

// ours says whether the packet is one of IPv4 between hosts of a network.
func (p packet) ours() bool {
	return len(p) >= minIPv4 && p[0]>>4 == ipv4 && p[16] == 10 && p[17] == 77
}

// last is the last byte of the receiver's address.
func (p packet) last() byte {
	if len(p) < minIPv4 {
		return 0
	}
	return p[19]
}

func (p packet) tcp() bool { return p[9] == protoTCP }

// answers says whether the packet shows that both sides are there: the answer to an
// opened connection, or a datagram, which may be the first word or the answer.
func (p packet) answers() bool {
	head := int(p[0]&15) * 4
	switch p[9] {
	case protoUDP:
		return true
	case protoTCP:
		return len(p) > head+13 && p[head+13]&synAck == synAck
	}
	return false
}
