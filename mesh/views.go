package mesh

import (
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// Sessions implements api.Backend.
func (p *Peer) Sessions() []api.SessionInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []api.SessionInfo
	for _, s := range p.replica.Ledger().Sessions() {
		out = append(out, p.describe(s, nil))
	}
	return out
}

// Session implements api.Backend.
func (p *Peer) Session(ref string) (api.SessionInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, clash, err := p.resolve(ref)
	if err != nil {
		return api.SessionInfo{}, err
	}
	return p.describe(s, clash), nil
}

// describe is called with p.mu held.
func (p *Peer) describe(s *ledger.Session, clash []ledger.SessionKey) api.SessionInfo {
	info := api.SessionInfo{
		Name: s.Name(), Key: s.Key().String(), Config: fromConfig(s.Config()), Seed: s.Seed().String(), State: sessionState(s),
		Round: s.Open(), Members: p.names(p.speakers(s, s.Open(), s.Members(s.Open()))), Divergent: p.local(s.Key()).reported.divergent, Privacy: privacyOf(s),
	}
	if info.State == api.SessionClosed {
		info.Round = s.Open() - 1
	}
	if round, d, ok := p.replica.Current(s); ok {
		info.Model, info.ModelRound = d.String(), round
	}
	for _, key := range clash {
		info.Clash = append(info.Clash, key.String())
	}
	return info
}

// sessionState tells whether a session is over: its last round is sealed and nothing is left for a further one.
func sessionState(s *ledger.Session) string {
	if closing, _ := s.Closing(); !closing {
		return api.SessionOpen
	}
	if !s.Over() {
		return api.SessionClosing
	}
	return api.SessionClosed
}

// Mesh implements api.Backend.
func (p *Peer) Mesh() api.MeshInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.replica.Ledger()
	info := api.MeshInfo{Self: p.cfg.Name, Mesh: p.cfg.Mesh, Agreed: true, Disk: p.dir.Blobs().Usage()}
	sessions := l.Sessions()
	held := holdings(sessions)
	for _, s := range sessions {
		info.Agreed = info.Agreed && len(s.Divergences()) == 0
	}
	listed := map[ledger.LogID]bool{}
	for _, q := range l.Peers() {
		listed[q.Log] = true
		m := p.members[q.Log]
		pi := api.PeerInfo{Name: q.Name, Log: q.Log.String(), State: api.PeerDead, API: m.api, Rounds: map[string]api.RoundModel{}}
		pi.Held, pi.HeldBytes = held[q.Log].updates, held[q.Log].bytes
		switch {
		case q.Left || m.left:
			pi.State = api.PeerLeft
		case q.Log == p.self:
			pi.State, pi.API = api.PeerAlive, p.cfg.API
		case m.alive:
			pi.State = api.PeerAlive
		case p.mayBeNamed(q.Log):
			pi.State = api.PeerSuspect
		}
		if pi.State != api.PeerAlive && !q.Left {
			if state, waiting := p.forgetState(q.Log); state != "" {
				pi.State, pi.WaitingFor = state, waiting
			}
		}
		if q.Log != p.self {
			pi.VectorLag = p.vectors[q.Log].Missing(l.Vector())
		}
		for _, s := range sessions {
			r, ok := newest(s, q.Log)
			if !ok {
				continue
			}
			pi.Rounds[s.Name()] = r
			if want, ok := s.Model(r.Round); ok && pi.State == api.PeerAlive && want.String() != r.Model {
				info.Agreed = false
			}
		}
		info.Peers = append(info.Peers, pi)
	}
	for log, m := range p.members { // seen, but with nothing said yet
		if !listed[log] && m.alive {
			info.Peers = append(info.Peers, api.PeerInfo{Name: m.name, Log: log.String(), State: api.PeerAlive, API: m.api, Rounds: map[string]api.RoundModel{}})
		}
	}
	slices.SortFunc(info.Peers, func(a, b api.PeerInfo) int {
		if c := compareText(a.Name, b.Name); c != 0 {
			return c
		}
		return compareText(a.Log, b.Log)
	})
	return info
}

// maxCounted bounds the work of counting what peers hold: rounds that are not final pile up while a peer is dead.
const maxCounted = 20_000

type holding struct {
	updates int
	bytes   int64
}

// holdings counts the updates of rounds that are not final by who holds them, from the newest on.
func holdings(sessions []*ledger.Session) map[ledger.LogID]holding {
	out := map[ledger.LogID]holding{}
	left := maxCounted
	count := func(s *ledger.Session, content []*ledger.UpdateHeld) {
		for _, u := range content[:min(len(content), left)] {
			for _, log := range s.HoldersOf(u) {
				h := out[log]
				out[log] = holding{h.updates + 1, h.bytes + int64(u.Bytes)}
			}
		}
		left -= min(len(content), left)
	}
	for _, s := range sessions {
		pending, _ := s.Pending()
		count(s, pending)
	}
	for _, s := range sessions {
		for n := s.Open() - 1; n > s.Final() && left > 0; n-- {
			count(s, s.Round(n).Content)
		}
	}
	return out
}

// newest returns the last round whose model a peer says it has: it computed the round from what are its inputs now, or skipped
// it, which it does only once it has taken the model from another.
func newest(s *ledger.Session, log ledger.LogID) (api.RoundModel, bool) {
	for n := s.Open() - 1; n > s.Compacted(); n-- {
		if d, ok := s.ModelAt(log, n); ok {
			return api.RoundModel{Round: n, Model: d.String()}, true
		}
	}
	return api.RoundModel{}, false
}

// learnVector takes from another peer's entry what that peer held when it wrote it. It is called with p.mu held.
func (p *Peer) learnVector(e *ledger.Entry) {
	if e.Log == p.self {
		return
	}
	v := p.vectors[e.Log].Clone()
	v.Join(ledger.Vector{e.Log: e.Seq})
	switch b := e.Body.(type) {
	case *ledger.RoundSealed:
		v.Join(b.Cut)
	case *ledger.RoundsSkipped:
		v.Join(b.Seen)
	}
	p.vectors[e.Log] = v
}

// reported is what of a session was last told as events.
type reported struct {
	open, final, model uint64
	digest             string
	state              string
	opened             time.Time // when open became so here
	divergent          int
	conflicts          int
}

// report tells what the last decisions changed. It is called with p.mu held.
func (p *Peer) report() {
	for _, s := range p.replica.Ledger().Sessions() {
		st := p.local(s.Key())
		was := st.reported
		now := reported{open: s.Open(), final: s.Final(), state: sessionState(s), divergent: was.divergent, conflicts: was.conflicts}
		if !st.counted { // that goes through all updates and rounds of the session, and this is called for each entry
			now.divergent, now.conflicts, st.counted = len(s.Divergences()), len(s.Conflicts()), true
		}
		if round, d, ok := p.replica.Current(s); ok {
			now.model, now.digest = round, d.String()
		}
		if now.opened = was.opened; now.open != was.open {
			now.opened = time.Now()
		}
		st.reported = now
		p.tell(s, was, now)
		p.timeRounds(s, &st.times, was, now)
	}
	p.reportForgettings()
}

func (p *Peer) tell(s *ledger.Session, was, now reported) {
	name := s.Name()
	if was.state != now.state {
		p.events.add(api.Event{Type: api.EventSession, Session: name, State: now.state})
	}
	if was.open != now.open && now.state != api.SessionClosed {
		p.events.add(api.Event{Type: api.EventRound, Session: name, Round: now.open, State: api.RoundOpen})
	}
	if was.digest != now.digest || was.model != now.model {
		p.notify() // the decisions made it the current one, whatever there was to say of it
		p.events.add(api.Event{Type: api.EventModel, Session: name, Round: now.model, Digest: now.digest})
	}
	for n := was.final + 1; n <= now.final; n++ {
		d, _ := s.Model(n)
		p.events.add(api.Event{Type: api.EventRound, Session: name, Round: n, State: api.RoundFinal, Digest: d.String()})
	}
	if now.divergent > was.divergent {
		p.log.Error().Str("session", name).Interface("divergence", s.Divergences()).Msg("two peers computed different models from the same inputs")
		p.events.warn(name, "divergence: two peers computed different models from the same inputs")
	}
	if now.conflicts > was.conflicts {
		p.log.Warn().Str("session", name).Msg("one key was accepted with two contents at two peers; the smaller counts")
		p.events.warn(name, "one key was accepted with two contents at two peers; the smaller counts")
	}
}

// reactTo tells an entry's news. It is called with p.mu held.
func (p *Peer) reactTo(e *ledger.Entry) {
	p.metrics.entries.Inc()
	p.learnVector(e)
	peer := p.nameOf(e.Log)
	session := p.nameOfSession
	switch b := e.Body.(type) {
	case *ledger.PeerJoined:
		p.membership = true
		p.events.add(api.Event{Type: api.EventPeer, Peer: peer, State: "joined"})
	case *ledger.PeerForgotten:
		p.membership = true
		for _, name := range p.names(b.Targets) {
			p.log.Info().Str("peer", name).Str("by", peer).Msg("it is proposed to forget a peer")
			p.events.add(api.Event{Type: api.EventPeer, Peer: name, State: api.PeerForgetting})
		}
	case *ledger.ForgetAcknowledged:
		p.membership = true
	case *ledger.PeerLeft:
		p.membership = true
		p.events.add(api.Event{Type: api.EventPeer, Peer: peer, State: api.PeerLeft})
	case *ledger.UpdateHeld:
		if s := p.replica.Ledger().Session(b.Session); s != nil && s.Conflicted(b.Key()) {
			p.local(b.Session).counted = false
		}
		p.events.add(api.Event{Type: api.EventUpdate, Session: session(b.Session), Peer: peer, Combiner: b.Combiner, ID: b.ID, State: "held", Digest: b.Model.String()})
	case *ledger.UpdateLost:
		p.metrics.lost.Inc()
		p.events.add(api.Event{Type: api.EventUpdate, Session: session(b.Session), Peer: peer, Combiner: b.Combiner, ID: b.ID, Round: b.Round, State: "lost"})
	case *ledger.RoundSealed:
		p.events.add(api.Event{Type: api.EventRound, Session: session(b.Session), Peer: peer, Round: b.Round, State: api.RoundSealed})
	case *ledger.RoundComputed:
		ev := api.Event{Type: api.EventRound, Session: session(b.Session), Peer: peer, Round: b.Round, State: api.RoundSettled, Digest: b.Model.String()}
		if s := p.replica.Ledger().Session(b.Session); s != nil && b.Round < s.Open() {
			versions, divergent := s.Made(b.Round)
			if versions > 1 {
				ev.State = api.RoundAmended
			}
			if divergent {
				p.local(b.Session).counted = false
			}
		}
		p.events.add(ev)
	}
}
