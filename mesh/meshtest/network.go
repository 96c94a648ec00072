package meshtest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"time"
)

// GossipPort is the port every memberlist transport of a Network listens on.
const GossipPort = 7946

// backlog is how many streams wait for an Accept before dials are refused.
const backlog = 128

// Link says how the way between two hosts treats what passes. The zero Link is
// perfect and takes no time.
type Link struct {
	Loss      float64       // chance in 0..1 that a datagram vanishes
	Duplicate float64       // chance in 0..1 that a datagram arrives twice
	MinDelay  time.Duration // each datagram or stream write takes between MinDelay
	MaxDelay  time.Duration // and MaxDelay; datagrams may overtake each other, streams keep order
}

// Network is a network in memory. See the package documentation.
type Network struct {
	mu      sync.Mutex
	rng     *rand.Rand
	hosts   map[string]*host // by name and by address
	count   int
	cuts    map[[2]string]bool // from, to
	link    Link
	pairs   map[[2]string]Link
	stall   time.Duration
	streams map[*stream]struct{}
	changed chan struct{} // closed and replaced when a way opens or closes
	closed  bool
}

type host struct {
	name      string
	ip        net.IP
	down      bool
	packets   *transport // the running memberlist transport, if any
	listeners map[int]*backlogQueue
}

// NewNetwork returns an empty, perfect network whose chances come from seed.
func NewNetwork(seed uint64) *Network {
	return &Network{
		rng:     rand.New(rand.NewPCG(seed, 0x6d657368)),
		hosts:   map[string]*host{},
		cuts:    map[[2]string]bool{},
		pairs:   map[[2]string]Link{},
		stall:   30 * time.Second,
		streams: map[*stream]struct{}{},
		changed: make(chan struct{}),
	}
}

// Close resets every stream, closes every listener and transport, and refuses
// what comes later. It may be called more than once.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	var queues []*backlogQueue
	for _, h := range n.hosts {
		for _, q := range h.listeners {
			queues = append(queues, q)
		}
	}
	streams := make([]*stream, 0, len(n.streams))
	for s := range n.streams {
		streams = append(streams, s)
	}
	n.wakeLocked()
	n.mu.Unlock()
	for _, q := range queues {
		q.close()
	}
	for _, s := range streams {
		s.abort()
	}
}

// GossipAddr returns the address, "10.x.y.z:7946", under which the named host's
// memberlist transport is reached: what others put among their seeds.
func (n *Network) GossipAddr(name string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return net.JoinHostPort(n.hostLocked(name).ip.String(), strconv.Itoa(GossipPort))
}

// Partition cuts every host in a from every host in b, in both directions. Cuts
// add up until Heal.
func (n *Network) Partition(a, b []string) {
	n.PartitionOneWay(a, b)
	n.PartitionOneWay(b, a)
}

// PartitionOneWay drops what hosts in from send to hosts in to, and stalls the
// streams between them.
func (n *Network) PartitionOneWay(from, to []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range from {
		for _, t := range to {
			if f != t {
				n.cuts[[2]string{f, t}] = true
			}
		}
	}
	n.wakeLocked()
}

// Heal removes all cuts. Hosts that are down stay down.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
	n.wakeLocked()
}

// Down takes the named host off the network, as when its cable is pulled.
func (n *Network) Down(name string) { n.setDown(name, true) }

// Up brings the named host back.
func (n *Network) Up(name string) { n.setDown(name, false) }

func (n *Network) setDown(name string, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hostLocked(name).down = down
	n.wakeLocked()
}

// SetLink sets how all ways behave that SetPair has not set.
func (n *Network) SetLink(l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link = l
}

// SetPair sets how the way between two hosts behaves, in both directions.
func (n *Network) SetPair(a, b string, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pairs[[2]string{a, b}] = l
	n.pairs[[2]string{b, a}] = l
}

// SetStall sets how long a stream stalls before it is reset and a dial tries
// before it times out. It counts for stalls that begin afterwards.
func (n *Network) SetStall(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stall = d
}

// hostLocked returns the host of that name, making it when it is new.
func (n *Network) hostLocked(name string) *host {
	if h, ok := n.hosts[name]; ok {
		return h
	}
	n.count++
	h := &host{
		name:      name,
		ip:        net.IPv4(10, byte(n.count>>16), byte(n.count>>8), byte(n.count)).To4(),
		listeners: map[int]*backlogQueue{},
	}
	n.hosts[name] = h
	n.hosts[h.ip.String()] = h
	return h
}

// lookupLocked finds the host and port of an address, by name or number.
func (n *Network) lookupLocked(addr string) (*host, int, error) {
	name, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, 0, fmt.Errorf("meshtest: address %q: %w", addr, err)
	}
	p, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, 0, fmt.Errorf("meshtest: address %q: port: %w", addr, err)
	}
	h, ok := n.hosts[name]
	if !ok {
		return nil, 0, &net.DNSError{Err: "no such host in this network", Name: name, IsNotFound: true}
	}
	return h, int(p), nil
}

// openLocked says whether datagrams pass from one host to the other.
func (n *Network) openLocked(from, to *host) bool {
	return !n.closed && (from == to || !from.down && !to.down && !n.cuts[[2]string{from.name, to.name}])
}

// flowsLocked says whether streams between the two make progress.
func (n *Network) flowsLocked(a, b *host) bool {
	return n.openLocked(a, b) && n.openLocked(b, a)
}

func (n *Network) linkLocked(from, to *host) Link {
	if l, ok := n.pairs[[2]string{from.name, to.name}]; ok {
		return l
	}
	if from == to {
		return Link{}
	}
	return n.link
}

func (n *Network) delayLocked(l Link) time.Duration {
	if l.MaxDelay <= l.MinDelay {
		return max(l.MinDelay, 0)
	}
	return l.MinDelay + time.Duration(n.rng.Int64N(int64(l.MaxDelay-l.MinDelay)+1))
}

// delay draws how long one thing takes from one host to the other.
func (n *Network) delay(from, to *host) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.delayLocked(n.linkLocked(from, to))
}

// wakeLocked tells streams and dials that a way opened or closed.
func (n *Network) wakeLocked() {
	close(n.changed)
	n.changed = make(chan struct{})
	for s := range n.streams {
		s.setFlowing(n.flowsLocked(s.client.host, s.server.host), n.stall)
	}
}

func (n *Network) forget(s *stream) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.streams, s)
}
