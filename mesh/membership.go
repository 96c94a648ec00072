package mesh

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/gossip"
	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// protocol is the version of everything peers say to each other; peers of another one are not talked to.
const protocol = 1

// The first byte of a gossiped message.
const (
	msgEntry   = 1 // one ledger entry
	msgPartial = 2 // one sum state
)

// member is another peer as gossip sees it.
type member struct {
	name  string
	api   string // host:port
	alive bool
	left  bool
}

func (p *Peer) meta() []byte {
	return encodeMeta(&meta{Protocol: protocol, Log: p.self, API: p.cfg.API, Secret: checkOf(p.cfg.Secret), TLS: p.cfg.TLS != nil})
}

func (p *Peer) gossipConfig() gossip.Config {
	c := gossip.DefaultConfig()
	c.Mesh, c.Name = p.cfg.Mesh, p.cfg.Name
	c.Bind, c.Advertise, c.Join, c.Transport = p.cfg.Gossip, p.cfg.AdvertiseGossip, p.cfg.Join, p.cfg.Transport
	c.Meta, c.Keyring = p.meta(), p.cfg.Keyring
	c.Logger, c.Registry = p.log, p.cfg.Registerer
	if p.cfg.Probe > 0 {
		c.ProbeInterval, c.ProbeTimeout = p.cfg.Probe, p.cfg.Probe/2
	}
	c.LoadPeers = func() []string {
		var addrs []string
		if err := p.dir.LoadJSON("peers", &addrs); err != nil {
			return nil
		}
		return addrs
	}
	c.SavePeers = func(addrs []string) {
		if err := p.dir.SaveJSON("peers", addrs); err != nil {
			p.log.Warn().Err(err).Msg("the addresses of the other peers could not be saved")
		}
	}
	c.Conflict = func(name, known, claimed string) {
		p.log.Error().Str("peer", name).Str("known", known).Str("claimed", claimed).Msg("two peers use one name; rename one of them")
		p.events.warn("peer "+name, fmt.Sprintf("two peers use this name: %s and %s", known, claimed))
	}
	return c
}

// gossipHandler receives what gossip brings; it is a Peer under another name, so that Peer does not export its methods.
type gossipHandler Peer

// Message implements gossip.Handler.
func (h *gossipHandler) Message(b []byte) {
	p := (*Peer)(h)
	if len(b) < 2 {
		return
	}
	switch b[0] {
	case msgEntry:
		e, err := ledger.DecodeEntry(b[1:])
		if err != nil {
			p.refuseEntry(err)
			return
		}
		if err := p.admit([]*ledger.Entry{e}); err == nil && p.missing(e) {
			p.exchangeSoon(e.Log)
		}
	case msgPartial:
		p.receivePartial(b[1:])
	}
}

// missing reports whether an entry waits for something this peer does not hold.
func (p *Peer) missing(e *ledger.Entry) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.replica.Ledger().Vector().Holds(e.Ref())
}

// LocalState implements gossip.Handler: the log's id and the vector that others may see.
func (h *gossipHandler) LocalState() []byte {
	p := (*Peer)(h)
	p.mu.Lock()
	defer p.mu.Unlock()
	return encodeState(p.self, p.visible())
}

// RemoteState implements gossip.Handler.
func (h *gossipHandler) RemoteState(b []byte) {
	p := (*Peer)(h)
	log, v, err := decodeState(b)
	if err != nil {
		if skipped, due := p.said.again("state"); due {
			p.log.Warn().Err(err).Int("skipped", skipped).Msg("a peer's state was refused")
		}
		return
	}
	p.mu.Lock()
	p.remember(log, v)
	behind := !p.replica.Ledger().Vector().Covers(v)
	p.mu.Unlock()
	if behind {
		p.exchangeSoon(log)
	}
}

// Changed implements gossip.Handler.
func (h *gossipHandler) Changed() { (*Peer)(h).look() }

// visible is the vector that others may see: own entries only when they are durable. It is called with p.mu held.
func (p *Peer) visible() ledger.Vector {
	v := p.replica.Ledger().Vector().Clone()
	if p.own > 0 {
		v[p.self] = p.own
	} else {
		delete(v, p.self)
	}
	return v
}

// look takes over gossip's view of who is alive.
func (p *Peer) look() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gossip == nil {
		return
	}
	p.expire()
	before := p.members
	p.members = map[ledger.LogID]member{}
	var alive, back []ledger.LogID
	for _, m := range p.gossip.Members() {
		if m.Name == p.cfg.Name {
			continue
		}
		about, err := decodeMeta(m.Meta)
		if err == nil && about.Secret != checkOf(p.cfg.Secret) {
			err = errors.New("mesh: it has another secret than this peer, or only one of the two has any; give all peers of the mesh the same")
			p.events.warn("peer "+m.Name, err.Error())
		}
		if err == nil && about.TLS != (p.cfg.TLS != nil) {
			err = errors.New("mesh: of it and this peer one speaks TLS and the other does not; give all peers of the mesh certificates (--tls-cert), or none")
			p.events.warn("peer "+m.Name, err.Error())
		}
		if err != nil {
			if skipped, due := p.said.again("member " + m.Name); due {
				p.log.Warn().Err(err).Str("peer", m.Name).Int("skipped", skipped).Msg("a member is ignored")
			}
			continue
		}
		log, now := about.Log, member{name: m.Name, api: about.API, alive: m.State == gossip.Alive, left: m.State == gossip.Left}
		if _, heard := p.heard[log]; heard && m.State == gossip.Dead {
			now.alive = true
		} else {
			delete(p.heard, log)
		}
		p.members[log] = now
		if _, refused := p.refused[log]; now.alive && !refused {
			alive = append(alive, log)
		}
		if was := before[log]; was.alive != now.alive || was.left != now.left {
			p.http.CloseIdleConnections() // those to it may be dead, or asleep between retransmissions
			if now.alive {
				back = append(back, log)
			} else {
				p.breakOff(log)
			}
			p.events.peer(now)
			p.log.Info().Str("peer", now.name).Str("state", string(m.State)).Msg("a peer changed")
		}
	}
	slices.SortFunc(alive, ledger.LogID.Compare)
	p.replica.SetAlive(alive)
	for _, log := range back {
		p.urgent[log] = true
	}
	if len(back) > 0 {
		p.hasten()
	}
	p.notify()
	p.wake()
}

// introductions is how long after a start gossip may take to name all that live: one exchange of states with each of some others.
const introductions = 20 * time.Second

// mayBeNamed reports whether gossip, after a start, has yet to tell of a peer: the ledger, which comes over another way, knows everybody at
// once. A peer that lost its disk is named with its new log only. It is called with p.mu held.
func (p *Peer) mayBeNamed(log ledger.LogID) bool {
	if log == p.self || time.Since(p.started) >= introductions {
		return false
	}
	name := p.nameOf(log)
	for _, m := range p.members {
		if m.name == name {
			return false
		}
	}
	return true
}

// target is a peer to talk to.
type target struct {
	log  ledger.LogID
	name string
	api  string
}

// living returns the other peers that gossip takes for alive and that refused no connection, ascending by log. It is called with p.mu held.
func (p *Peer) living() []target {
	var out []target
	for log, m := range p.members {
		if _, refused := p.refused[log]; m.alive && !refused {
			out = append(out, target{log: log, name: m.name, api: m.api})
		}
	}
	slices.SortFunc(out, func(a, b target) int { return a.log.Compare(b.log) })
	return out
}

// others is living for callers that do not hold p.mu.
func (p *Peer) others() []target {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.living()
}

// among returns the living peers with one of these logs, in the order of the logs. It is called with p.mu held.
func (p *Peer) among(logs []ledger.LogID) []target {
	var out []target
	for _, log := range logs {
		_, refused := p.refused[log]
		if m, ok := p.members[log]; ok && m.alive && !refused {
			out = append(out, target{log: log, name: m.name, api: m.api})
		}
	}
	return out
}

// nameOf returns a peer's human name. It is called with p.mu held.
func (p *Peer) nameOf(log ledger.LogID) string {
	if peer, ok := p.replica.Ledger().Peer(log); ok {
		return peer.Name
	}
	if m, ok := p.members[log]; ok {
		return m.name
	}
	return log.Short()
}

// names returns the sorted names of peers. It is called with p.mu held.
func (p *Peer) names(logs []ledger.LogID) []string {
	out := make([]string, 0, len(logs))
	for _, log := range logs {
		out = append(out, p.nameOf(log))
	}
	slices.Sort(out)
	return out
}
