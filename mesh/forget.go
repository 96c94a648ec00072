package mesh

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// Forget implements api.Backend: this peer proposes to go on without peers that will not come back. Whatever is proposed and pending
// already is not proposed again.
func (p *Peer) Forget(ctx context.Context, peers []string) (api.Forgetting, error) {
	alive, err := p.whoLives(ctx, peers)
	if err != nil {
		return api.Forgetting{}, err
	}
	var targets []ledger.LogID
	err = p.say(ctx, func() ([]ledger.Body, error) {
		if err := p.ready(); err != nil {
			return nil, api.NotReady(err)
		}
		var err error
		if targets, err = p.targets(peers, alive); err != nil {
			return nil, err
		}
		l := p.replica.Ledger()
		fresh := slices.DeleteFunc(slices.Clone(targets), func(log ledger.LogID) bool {
			f, ok := l.ForgettingOf(log)
			return ok && (f.Effect || covers(f.Targets, targets))
		})
		if len(fresh) == 0 {
			return nil, nil
		}
		for _, log := range fresh {
			if alive[log] {
				return nil, p.stillAlive(log)
			}
			if err := p.unmet(log); err != nil {
				return nil, err
			}
		}
		if o := p.replica.MayForget(fresh); o != nil {
			return nil, p.obstacle(o)
		}
		return []ledger.Body{&ledger.PeerForgotten{Targets: fresh}}, nil
	})
	if err != nil {
		return api.Forgetting{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.describeForgetting(targets), nil
}

// whoLives returns the logs of peers that are alive, this one's among them. Gossip may still tell the log that a peer had before it lost its
// disk; so where a name has several logs, its peer is asked which one it writes.
func (p *Peer) whoLives(ctx context.Context, peers []string) (map[ledger.LogID]bool, error) {
	p.mu.Lock()
	alive := map[ledger.LogID]bool{p.self: true}
	for log, m := range p.members {
		alive[log] = alive[log] || m.alive
	}
	state := encodeState(p.self, p.replica.Ledger().Vector())
	var doubtful []target
	for log, m := range p.members {
		mentioned := slices.ContainsFunc(peers, func(name string) bool {
			return slices.ContainsFunc(p.called(name), func(q ledger.Peer) bool { return q.Name == m.name })
		})
		if m.alive && mentioned && len(present(p.called(m.name))) > 1 {
			doubtful = append(doubtful, target{log: log, name: m.name, api: m.api})
		}
	}
	p.mu.Unlock()
	for _, t := range doubtful {
		a, err := p.ask(ctx, t, state)
		if err != nil {
			p.log.Debug().Err(err).Str("peer", t.name).Msg("a peer does not tell which log it writes")
			return nil, api.Unavailable(fmt.Sprintf("peer %q has several logs and does not tell which of them it writes now; ask again when it answers, or when it is taken for dead", t.name), time.Second)
		}
		delete(alive, t.log)
		alive[a.log] = true
	}
	return alive, nil
}

func covers(all, some []ledger.LogID) bool {
	return !slices.ContainsFunc(some, func(log ledger.LogID) bool { return !slices.Contains(all, log) })
}

// targets resolves names, or what log ids begin with, to logs, ascending. It is called with p.mu held.
func (p *Peer) targets(peers []string, alive map[ledger.LogID]bool) ([]ledger.LogID, error) {
	var out []ledger.LogID
	for _, name := range peers {
		log, err := p.target(name, alive)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, log) {
			out = append(out, log)
		}
	}
	slices.SortFunc(out, ledger.LogID.Compare)
	return out, nil
}

// shortestID is how many digits of a log id stand for it.
const shortestID = 8

// called returns the peers of a name, or where there are none those whose log's id begins like that. It is called with p.mu held.
func (p *Peer) called(name string) []ledger.Peer {
	var named, byID []ledger.Peer
	for _, q := range p.replica.Ledger().Peers() {
		if q.Name == name {
			named = append(named, q)
		}
		if len(name) >= shortestID && strings.HasPrefix(q.Log.String(), strings.ToLower(name)) {
			byID = append(byID, q)
		}
	}
	if len(named) > 0 {
		return named
	}
	return byID
}

func present(qs []ledger.Peer) []ledger.Peer {
	return slices.DeleteFunc(slices.Clone(qs), func(q ledger.Peer) bool { return q.Left })
}

// target resolves one name. A peer that lost its disk comes back with another log under its name; the dead one is meant then, and of several
// dead ones that which is not forgotten. It is called with p.mu held.
func (p *Peer) target(name string, alive map[ledger.LogID]bool) (ledger.LogID, error) {
	named := p.called(name)
	there := present(named)
	dead := slices.DeleteFunc(slices.Clone(there), func(q ledger.Peer) bool { return alive[q.Log] })
	pending := slices.DeleteFunc(slices.Clone(dead), func(q ledger.Peer) bool {
		f, ok := p.replica.Ledger().ForgettingOf(q.Log)
		return ok && f.Effect
	})
	for _, some := range [][]ledger.Peer{pending, dead, there} {
		switch len(some) {
		case 0:
			continue
		case 1:
			return some[0].Log, nil
		}
		var ids []string
		for _, q := range some {
			ids = append(ids, q.Log.String())
		}
		return ledger.LogID{}, api.AmbiguousPeer(name, ids)
	}
	if len(named) > 0 {
		return ledger.LogID{}, api.UnknownPeer(name, "it has left the mesh, and nobody waits for it")
	}
	return ledger.LogID{}, api.UnknownPeer(name, "no peer of this name was ever heard of here")
}

// unmet refuses to take for dead whom gossip may still name. It is called with p.mu held.
func (p *Peer) unmet(log ledger.LogID) error {
	if !p.mayBeNamed(log) {
		return nil
	}
	return api.Unavailable(fmt.Sprintf("this peer started a moment ago and has yet to find out whether %q lives; ask again, it knows within %v of its start",
		p.nameOf(log), introductions), time.Second)
}

// stillAlive is called with p.mu held.
func (p *Peer) stillAlive(log ledger.LogID) error {
	if log == p.self {
		return api.PeerLives(p.cfg.Name, "it is the peer that was asked; to take it out of the mesh use leave, or stop it and ask another")
	}
	return api.PeerLives(p.nameOf(log), "to take it out of the mesh use leave, or stop it first; the others notice within some seconds that a peer has stopped")
}

// obstacle is called with p.mu held.
func (p *Peer) obstacle(o *ledger.Obstacle) error {
	switch {
	case o.Other != nil:
		waits := "it has its effect once the rounds before are final"
		if s := o.Other.Short; s != nil {
			waits = "too few of its members remain for it: " + share(s)
		}
		if w := p.names(o.Other.Waiting); len(w) > 0 {
			waits = "it still waits for " + strings.Join(w, ", ")
		}
		return api.ForgettingInTheWay(p.names(o.Other.Targets), p.names(o.Other.Waiting),
			fmt.Sprintf("the forgetting of %s must take effect first, and %s", strings.Join(p.names(o.Other.Targets), ", "), waits))
	case o.Short != nil:
		return api.TooFewRemain(o.Short.Session.Name(), o.Short.Round, o.Short.Remain, o.Short.Members)
	default:
		silent := p.names(o.Silent)
		return api.SilentPeers(silent)
	}
}

func share(s *ledger.Share) string {
	return fmt.Sprintf("%d of %d members of round %d of session %s", s.Remain, s.Members, s.Round, s.Session.Name())
}

// describeForgetting is called with p.mu held.
func (p *Peer) describeForgetting(targets []ledger.LogID) api.Forgetting {
	out := api.Forgetting{Done: true}
	waiting := map[ledger.LogID]bool{}
	for _, log := range targets {
		out.Peers = append(out.Peers, p.nameOf(log))
		out.Logs = append(out.Logs, log.String())
		f, ok := p.replica.Ledger().ForgettingOf(log)
		out.Done = out.Done && ok && f.Effect
		for _, w := range p.awaitedBy(f) {
			waiting[w] = true
		}
	}
	var logs []ledger.LogID
	for log := range waiting {
		logs = append(logs, log)
	}
	out.WaitingFor = p.names(logs)
	return out
}

// awaitedBy returns who has yet to agree: this peer itself while nobody has. It is called with p.mu held.
func (p *Peer) awaitedBy(f ledger.Forgetting) []ledger.LogID {
	if len(f.Acknowledged) == 0 && len(f.Waiting) == 0 {
		return []ledger.LogID{p.self}
	}
	return f.Waiting
}

// forgetState returns how far a peer that is not alive is forgotten, if it is to be. It is called with p.mu held.
func (p *Peer) forgetState(log ledger.LogID) (state string, waiting []string) {
	f, ok := p.replica.Ledger().ForgettingOf(log)
	switch {
	case !ok:
		return "", nil
	case f.Effect:
		return api.PeerForgotten, nil
	default:
		return api.PeerForgetting, p.names(p.awaitedBy(f))
	}
}

// countForgotten is called with p.mu held.
func (p *Peer) countForgotten() (forgetting, forgotten int) {
	for _, q := range p.replica.Ledger().Peers() {
		if q.Left || q.Log == p.self || p.members[q.Log].alive {
			continue
		}
		switch state, _ := p.forgetState(q.Log); state {
		case api.PeerForgetting:
			forgetting++
		case api.PeerForgotten:
			forgotten++
		}
	}
	return forgetting, forgotten
}

// reportForgettings tells which forgettings have taken effect since the last time, if any entry may have changed that. It is
// called with p.mu held.
func (p *Peer) reportForgettings() {
	if p.forgotten != nil && !p.membership {
		return
	}
	first := p.forgotten == nil // after a start: what took effect before is no news
	now := map[ledger.LogID]bool{}
	for _, f := range p.replica.Ledger().Forgettings() {
		for _, log := range f.Targets {
			if g, ok := p.replica.Ledger().ForgettingOf(log); ok && g.Effect {
				now[log] = true
			}
		}
	}
	var news []ledger.LogID
	for log := range now {
		if !p.forgotten[log] && !first {
			news = append(news, log)
		}
	}
	p.forgotten, p.membership = now, false
	for _, name := range p.names(news) {
		p.log.Info().Str("peer", name).Msg("a peer is forgotten: nobody waits for it any more")
		p.events.add(api.Event{Type: api.EventPeer, Peer: name, State: api.PeerForgotten})
	}
}
