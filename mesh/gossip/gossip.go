package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/rs/zerolog"
)

// Handler receives what the mesh brings. Message, RemoteState and Changed are
// called one at a time, from one goroutine; while one of them runs the rest
// waits in a bounded queue, whose overflow is dropped and counted. They must not
// call Leave or Close.
type Handler interface {
	// Message takes a message that another member sent. b is the callee's to keep.
	Message(b []byte)
	// LocalState returns what to hand another member in a state exchange, at most
	// MaxMessage bytes. It may be called from any goroutine and several at once,
	// must return soon, and must not change the bytes later.
	LocalState() []byte
	// RemoteState takes another member's LocalState. b is the callee's to keep.
	RemoteState(b []byte)
	// Changed says that Members has changed. Several changes may come as one.
	Changed()
}

// ErrClosed is returned by methods of a Gossip that was closed.
var ErrClosed = errors.New("gossip: closed")

// retransmitMult times the logarithm of the number of members is how often a member passes on each piece of news. With memberlist's 4 one start of
// five members in 240 left one of them unknown to another until their next exchange of states, up to 19 s; with 6 none of 8,000.
const retransmitMult = 6

// deadNodeReclaim is how long a name stays tied to a dead member's address. It need not be long: that a member is dead has been found out with patience.
const deadNodeReclaim = 3 * time.Second

// Gossip is one member of a mesh. Its methods may be called from any goroutine.
type Gossip struct {
	cfg     Config
	handler Handler
	log     zerolog.Logger
	metrics *metrics
	members *table
	inbox   *inbox
	outbox  *outbox
	relay   *relay
	small   int // longest message that goes by datagram or gossip
	dirty   chan struct{}
	meeting sync.Map // names of members that are being met

	returned chan struct{} // a member that was dead lives
	meta     atomic.Pointer[[]byte]
	running  atomic.Bool // messages are taken

	list      *memberlist.Memberlist // set by Start
	transport *transport
	run       context.Context //nolint:containedctx // of the tasks, until Close
	cancel    context.CancelFunc
	tasks     sync.WaitGroup

	metaMu sync.Mutex   // one UpdateMeta at a time
	leave  sync.RWMutex // held to read while memberlist leaves: it must not shut down meanwhile
	mu     sync.Mutex
	state  lifecycle
	left   bool
	done   chan struct{} // closed when Close is done
}

type lifecycle uint8

const (
	fresh lifecycle = iota
	started
	closed
)

// New returns a member that has not started. It reports all that is wrong with cfg.
func New(cfg Config, h Handler) (*Gossip, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if h == nil {
		return nil, errors.New("gossip: no handler")
	}
	m := newMetrics(cfg.Registry)
	g := &Gossip{
		cfg:     cfg,
		handler: h,
		log:     quiet(cfg.Logger),
		metrics: m,
		members: newTable(cfg.Name),
		inbox:   newInbox(cfg.InboundMessages, cfg.InboundBytes, m),
		outbox:  newOutbox(cfg.PeerMessages, cfg.PeerBytes, m),
		// Memberlist never sends what does not fit a packet beside its framing.
		small: min(smallMessage, packetSize-2-(2+len(cfg.Mesh))-2-1-relayHeader-1),
		dirty: make(chan struct{}, 1), returned: make(chan struct{}, 1),
		done: make(chan struct{}),
	}
	if cfg.Keyring != nil {
		g.small = min(g.small, packetSize-2-(2+len(cfg.Mesh))-2-1-relayHeader-1-sealOverhead-5) // 5 for the checksum
	}
	g.relay = newRelay(g.members.numAlive, cfg.QueuedBroadcasts, g.small, m)
	meta := bytes.Clone(cfg.Meta)
	g.meta.Store(&meta)
	for _, s := range []State{Alive, Dead, Left} {
		m.gauge("members", "Members known, by state, this one included.",
			map[string]string{"state": string(s)}, func() int { return g.members.count(s) })
	}
	m.gauge("inbound_waiting", "Messages and states that wait for the handler.", nil, g.inbox.len)
	m.gauge("stream_waiting", "Messages that wait for a stream.", nil, g.outbox.waiting)
	m.gauge("relay_waiting", "Messages that spread by gossip, waiting for the next round of it.", nil, g.relay.queue.NumQueued)
	return g, nil
}

// Start listens and looks for the mesh in the background: it does not wait for
// another member. ctx bounds the lookup of host names and nothing later.
func (g *Gossip) Start(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch g.state {
	case started:
		return errors.New("gossip: already started")
	case closed:
		return ErrClosed
	}
	mc, tr, err := g.prepare(ctx)
	if err != nil {
		return err
	}
	if err := g.metrics.register(); err != nil {
		return errors.Join(err, tr.Shutdown())
	}
	list, err := memberlist.Create(mc)
	if err != nil {
		g.metrics.unregister()
		return errors.Join(fmt.Errorf("gossip: start: %w", err), tr.Shutdown())
	}
	g.list, g.transport = list, tr
	run, cancel := context.WithCancel(context.Background())
	g.run, g.cancel = run, cancel
	g.tasks.Go(func() { g.dispatch(run) })
	g.tasks.Go(func() { g.write(run) })
	g.tasks.Go(func() { g.rejoin(run) })
	if g.cfg.RejoinEvery > 0 {
		g.tasks.Go(func() { g.greet(run) })
	}
	if g.cfg.SavePeers != nil {
		g.tasks.Go(func() { g.save(run) })
	}
	g.state = started
	g.running.Store(true)
	g.log.Info().Str("mesh", g.cfg.Mesh).Str("address", g.Addr()).Msg("gossip started")
	return nil
}

// prepare opens the transport and writes memberlist's configuration.
func (g *Gossip) prepare(ctx context.Context) (*memberlist.Config, *transport, error) {
	mc := memberlist.DefaultLANConfig()
	mc.Name = g.cfg.Name
	mc.Label = g.cfg.Mesh
	mc.Logger = log.New(newLineWriter(g.log), "", 0)
	mc.ProbeInterval, mc.ProbeTimeout = g.cfg.ProbeInterval, g.cfg.ProbeTimeout
	mc.SuspicionMult = g.cfg.SuspicionMult
	mc.GossipInterval = g.cfg.GossipInterval
	mc.PushPullInterval = g.cfg.PushPullInterval
	mc.RetransmitMult = retransmitMult
	mc.TCPTimeout = g.cfg.StreamTimeout
	mc.DeadNodeReclaimTime = deadNodeReclaim
	mc.UDPBufferSize = packetSize
	// Its compression is slow and inflates what does not compress.
	mc.EnableCompression = false
	d := delegate{g}
	mc.Delegate, mc.Events, mc.Conflict, mc.Alive, mc.Ping = d, d, d, d, d

	inner := g.cfg.Transport
	if inner == nil {
		nt, err := listen(ctx, g.cfg.Bind, mc.Logger)
		if err != nil {
			return nil, nil, err
		}
		inner = nt
		mc.BindPort = nt.GetAutoBindPort()
		mc.AdvertisePort = mc.BindPort
	}
	if g.cfg.Keyring != nil {
		mc.Keyring = g.cfg.Keyring.ring
	}
	tr := newTransport(inner, g.cfg.StreamTimeout, g.metrics, newGate(g.cfg.Keyring, g.cfg.Mesh, g.metrics, g.log))
	mc.Transport = tr
	if g.cfg.Transport == nil && g.cfg.Advertise != "" {
		host, port, err := splitAddr(g.cfg.Advertise)
		if err == nil {
			ips, lookup := resolve(ctx, host, g.cfg.Lookup)
			if err = lookup; err == nil {
				mc.AdvertiseAddr = ips[0].String()
			}
		}
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("gossip: advertise %q: %w", g.cfg.Advertise, err), tr.Shutdown())
		}
		if port != 0 {
			mc.AdvertisePort = int(port)
		}
	}
	if ip, port, err := tr.FinalAdvertiseAddr(mc.AdvertiseAddr, mc.AdvertisePort); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("gossip: no address to advertise, set Advertise: %w", err), tr.Shutdown())
	} else if ip.IsUnspecified() {
		addr := net.JoinHostPort(ip.String(), strconv.Itoa(port))
		return nil, nil, errors.Join(fmt.Errorf("gossip: nobody can reach %s, set Advertise", addr), tr.Shutdown())
	}
	return mc, tr, nil
}

// Addr returns the host:port that others reach this member at, or "" before Start.
func (g *Gossip) Addr() string {
	self, _ := g.members.selfEntry()
	return self.Addr
}

// Members returns the members known, this one included, sorted by name. Those
// dead or left stay listed until a thousand others push them out, or they return.
// It is empty before Start.
func (g *Gossip) Members() []Member { return g.members.list() }

// changed tells the handler and the saver that membership changed.
func (g *Gossip) changed() {
	g.inbox.pushChanged()
	select {
	case g.dirty <- struct{}{}:
	default:
	}
}

// UpdateMeta changes what others see of this member, at most MaxMeta bytes. It
// copies meta and does not wait until others have heard.
func (g *Gossip) UpdateMeta(meta []byte) error {
	if len(meta) > MaxMeta {
		return fmt.Errorf("gossip: metadata has %d bytes, the most is %d", len(meta), MaxMeta)
	}
	g.metaMu.Lock()
	defer g.metaMu.Unlock()
	meta = bytes.Clone(meta)
	// Under mu, so that Start either has taken the old or takes the new.
	g.mu.Lock()
	state := g.state
	if state != closed {
		g.meta.Store(&meta)
	}
	g.mu.Unlock()
	if state != started {
		if state == closed {
			return ErrClosed
		}
		return nil
	}
	// Memberlist drops the update, silently, when it refutes a suspicion of us at
	// the same time: look, and try again.
	for range 10 {
		_ = g.list.UpdateNode(time.Nanosecond) // it only reports that nobody has heard yet
		if self, ok := g.members.selfEntry(); !ok || self.State != Alive || bytes.Equal(self.Meta, meta) {
			return nil
		}
	}
	return errors.New("gossip: metadata not updated, try again")
}

// Leave sends what waits, tells the others that this member leaves, lingers a
// little so that they tell each other, and closes. timeout bounds all but the
// lingering, which takes at most a second. A member that left does not come back:
// make a new one. After Close it does nothing.
func (g *Gossip) Leave(timeout time.Duration) error {
	g.mu.Lock()
	if g.state != started || g.left {
		g.mu.Unlock()
		return g.Close()
	}
	g.left = true
	g.mu.Unlock()
	by := time.Now().Add(timeout)
	run, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(g.transport.ctx, cancel) // Close ends the waiting
	defer stop()
	defer cancel()
	for time.Until(by) > timeout/2 && (!g.outbox.idle() || g.relay.queue.NumQueued() > 0) {
		if !sleep(run, 10*time.Millisecond) {
			break
		}
	}
	g.running.Store(false)
	frame := append([]byte{kindLeave}, g.cfg.Name...)
	for _, name := range g.members.others() {
		g.outbox.datagram(name, frame)
	}
	g.relay.spread(frame)
	err := g.announce(time.Until(by))
	sleep(run, min(time.Second, timeout))
	return errors.Join(err, g.Close())
}

// Stop tells the others that this member stops answering, so that they need not find out, and closes. To them it is dead, not one that left: they look
// for it, and it may come back at another address at once. timeout bounds the telling.
func (g *Gossip) Stop(timeout time.Duration) error {
	g.mu.Lock()
	if g.state != started || g.left {
		g.mu.Unlock()
		return g.Close()
	}
	g.left = true
	g.mu.Unlock()
	g.running.Store(false)
	// Without our own word that this member leaves, memberlist's only ends its probing.
	if err := g.announce(timeout); err != nil {
		g.log.Debug().Err(err).Msg("not everybody may have heard that this member stops")
	}
	return g.Close()
}

// announce makes memberlist leave.
func (g *Gossip) announce(timeout time.Duration) error {
	g.leave.RLock()
	defer g.leave.RUnlock()
	g.mu.Lock()
	state := g.state
	g.mu.Unlock()
	if state == closed {
		return nil // memberlist panics when it is made to leave after its shutdown
	}
	if err := g.list.Leave(max(timeout, time.Millisecond)); err != nil {
		return fmt.Errorf("gossip: leave: %w", err)
	}
	return nil
}

// Close stops without a word to the others, who will take this member for dead.
// It waits for all goroutines of Gossip's. Memberlist does not wait for those of
// its own: a probe under way may end a few probe intervals later, without effect.
// It may be called more than once.
func (g *Gossip) Close() error {
	g.mu.Lock()
	was := g.state
	g.state = closed
	g.mu.Unlock()
	switch was {
	case closed:
		<-g.done
		return nil
	case fresh:
		close(g.done)
		return nil
	}
	defer close(g.done)
	g.running.Store(false)
	g.outbox.close()
	g.cancel()
	g.leave.Lock()
	err := g.list.Shutdown()
	g.leave.Unlock()
	g.tasks.Wait()
	g.metrics.unregister()
	if err != nil {
		return fmt.Errorf("gossip: close: %w", err)
	}
	return nil
}

// Keyring returns the keys in use, nil when nothing is encrypted.
func (g *Gossip) Keyring() *Keyring { return g.cfg.Keyring }
