package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// Limits of what is carried.
const (
	MaxMeta    = memberlist.MetaMaxSize // bytes of a member's metadata
	MaxMessage = 20<<20 - 1             // bytes of a message or of a local state; longer ones are dropped and counted
	maxName    = 128                    // bytes of a member's name
)

// Config says how a member takes part in its mesh. Start from DefaultConfig.
type Config struct {
	// Mesh names the mesh, 1 to 255 bytes. It labels every packet and stream:
	// members of meshes with other names ignore each other, even when one
	// mesh's addresses are reused by the next.
	Mesh string
	// Name is this member's, unique in the mesh and the same after a restart:
	// 1 to 128 letters, digits, '.', '_' or '-'.
	Name string
	// Bind is the host:port listened on, with UDP and TCP. Port 0 takes a free
	// one, see Gossip.Addr. An IPv6 host stands in brackets. Not used with Transport.
	Bind string
	// Advertise is the host:port under which others reach this member. Port 0
	// stands for the bound one. Empty means Bind; when Bind's host is empty or
	// 0.0.0.0, the first private IPv4 address of the machine. Not used with Transport.
	Advertise string
	// Join lists the host:port of members to find the mesh by. One that answers
	// is enough. Without any, and without LoadPeers, this is a mesh of one that
	// others may join. This member's own address may be among them.
	Join []string
	// Meta is what others see of this member, at most MaxMeta bytes.
	Meta []byte
	// Keyring encrypts and authenticates all that is sent, and refuses what is not encrypted. Nil: nothing is encrypted. Members with and without
	// do not talk to each other.
	Keyring *Keyring
	// Transport replaces real sockets when it is not nil. Gossip shuts it down.
	Transport memberlist.Transport

	// ProbeInterval is how often one other member is probed, ProbeTimeout how long
	// a probe waits before it asks others and TCP. A member that fails is suspected
	// for SuspicionMult·ProbeInterval (more in meshes beyond ten members, up to six
	// times that until others confirm) before it is taken for dead.
	ProbeInterval, ProbeTimeout time.Duration
	SuspicionMult               int
	// GossipInterval is how often queued news goes to three random members.
	GossipInterval time.Duration
	// PushPullInterval is how often states are exchanged with one random member.
	PushPullInterval time.Duration
	// StreamTimeout bounds each stream from its dial to its last byte.
	StreamTimeout time.Duration
	// RejoinEvery is how often, ±50%, members that are not alive are looked for
	// again, for ever: a mesh that was split does not heal by itself. While no
	// other member is seen it is done more often. Negative stops once another
	// member has been seen; that is for tests.
	RejoinEvery time.Duration

	// Fanout is the largest number of other members that a small broadcast is
	// sent to directly; in larger meshes it spreads by gossip.
	Fanout int
	// InboundMessages and InboundBytes bound what waits for the Handler,
	// PeerMessages and PeerBytes what waits for a stream to one peer, and
	// QueuedBroadcasts what waits to spread by gossip. What exceeds a bound is
	// dropped and counted; from QueuedBroadcasts the oldest is.
	InboundMessages, PeerMessages, QueuedBroadcasts int
	InboundBytes, PeerBytes                         int64

	// LoadPeers returns addresses known from earlier runs, SavePeers keeps those
	// known now. Either may be nil. They are called from goroutines of Gossip's,
	// one call of each at a time, and may block.
	LoadPeers func() []string
	SavePeers func(addrs []string)
	// Lookup returns the addresses of a host; nil: the system's resolver. Names are looked up anew each time they are tried.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	// Conflict, when not nil, is told that a second member, at claimed, uses the
	// name of the one at known. It is called like a Handler.
	Conflict func(name, known, claimed string)

	// Logger receives Gossip's and memberlist's log lines. The zero Logger is silent.
	Logger zerolog.Logger
	// Registry receives the metrics, from Start to Close. Nil keeps none.
	Registry prometheus.Registerer
}

// DefaultConfig returns settings for a small mesh in one network whose machines
// may be short of CPU. Name, and mostly Join, remain to be set.
func DefaultConfig() Config {
	return Config{
		Mesh:             "fedmesh",
		Bind:             "0.0.0.0:7946",
		ProbeInterval:    500 * time.Millisecond,
		ProbeTimeout:     300 * time.Millisecond,
		SuspicionMult:    4,
		GossipInterval:   200 * time.Millisecond,
		PushPullInterval: 10 * time.Second,
		StreamTimeout:    10 * time.Second,
		RejoinEvery:      15 * time.Second,
		Fanout:           32,
		InboundMessages:  4096,
		InboundBytes:     64 << 20,
		PeerMessages:     128,
		PeerBytes:        32 << 20,
		QueuedBroadcasts: 1024,
		Logger:           zerolog.Nop(),
	}
}

// Validate returns all that is wrong with c, or nil.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("gossip: config: "+format, args...))
	}
	if len(c.Mesh) == 0 || len(c.Mesh) > memberlist.LabelMaxSize {
		bad("Mesh has %d bytes: it labels every packet, use 1 to %d", len(c.Mesh), memberlist.LabelMaxSize)
	}
	if !validName(c.Name) {
		bad("Name %q: use 1 to %d letters, digits, '.', '_' or '-'", c.Name, maxName)
	}
	if len(c.Meta) > MaxMeta {
		bad("Meta has %d bytes, the most is %d", len(c.Meta), MaxMeta)
	}
	if c.Transport == nil {
		if err := checkBind(c.Bind, c.Advertise); err != nil {
			errs = append(errs, err)
		}
	}
	for _, a := range c.Join {
		if host, port, err := splitAddr(a); err != nil {
			bad("Join: %w", err)
		} else if host == "" || port == 0 {
			bad("Join: %q needs a host and a port", a)
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"ProbeInterval", c.ProbeInterval},
		{"ProbeTimeout", c.ProbeTimeout},
		{"GossipInterval", c.GossipInterval},
		{"PushPullInterval", c.PushPullInterval},
		{"StreamTimeout", c.StreamTimeout},
	} {
		if d.value <= 0 {
			bad("%s is %v, use more than 0", d.name, d.value)
		}
	}
	if c.ProbeTimeout >= c.ProbeInterval && c.ProbeInterval > 0 {
		bad("ProbeTimeout %v must be less than ProbeInterval %v: the rest is for asking others", c.ProbeTimeout, c.ProbeInterval)
	}
	if c.RejoinEvery == 0 {
		bad("RejoinEvery is 0: a split mesh would not heal, use for example 15s")
	}
	for _, v := range []struct {
		name  string
		value int64
	}{
		{"SuspicionMult", int64(c.SuspicionMult)},
		{"Fanout", int64(c.Fanout)},
		{"InboundMessages", int64(c.InboundMessages)},
		{"InboundBytes", c.InboundBytes},
		{"PeerMessages", int64(c.PeerMessages)},
		{"PeerBytes", c.PeerBytes},
		{"QueuedBroadcasts", int64(c.QueuedBroadcasts)},
	} {
		if v.value < 1 {
			bad("%s is %d, use at least 1", v.name, v.value)
		}
	}
	return errors.Join(errs...)
}

func checkBind(bind, advertise string) error {
	host, _, err := splitAddr(bind)
	if err != nil {
		return fmt.Errorf("gossip: config: Bind: %w", err)
	}
	if advertise == "" {
		if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() && ip.Is6() {
			return fmt.Errorf("gossip: config: Bind %q listens on every address: set Advertise to the one others reach", bind)
		}
		return nil
	}
	host, _, err = splitAddr(advertise)
	if err != nil {
		return fmt.Errorf("gossip: config: Advertise: %w", err)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return fmt.Errorf("gossip: config: Advertise %q: nobody can reach that, name one host or address", advertise)
	}
	return nil
}

func splitAddr(addr string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("%q is not host:port", addr)
	}
	p, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("%q: the port must be a number from 0 to 65535", addr)
	}
	return host, uint16(p), nil
}

func validName(name string) bool {
	for _, r := range name {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '_', r == '-':
		default:
			return false
		}
	}
	return 0 < len(name) && len(name) <= maxName
}
