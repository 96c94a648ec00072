package mesh

import (
	"slices"

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
		Round: s.Open(), Members: p.names(p.speakers(s, s.Open(), s.Members(s.Open()))), Privacy: privacyOf(s),
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

// Rounds implements api.Backend.
func (p *Peer) Rounds(ref string, from uint64, limit int) ([]api.RoundInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, _, err := p.resolve(ref)
	if err != nil {
		return nil, err
	}
	last := p.lastRound(s)
	if from == 0 {
		from = 1
		if last > uint64(limit) {
			from = last - uint64(limit) + 1
		}
	}
	var out []api.RoundInfo
	for n := from; n <= last && len(out) < limit; n++ {
		out = append(out, p.describeRound(s, n))
	}
	return out, nil
}

// lastRound is the open round, or the last one of a session that is over.
func (p *Peer) lastRound(s *ledger.Session) uint64 {
	if sessionState(s) == api.SessionClosed {
		return s.Open() - 1
	}
	return s.Open()
}

// Round implements api.Backend.
func (p *Peer) Round(ref string, n uint64) (api.RoundInfo, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, _, err := p.resolve(ref)
	if err != nil {
		return api.RoundInfo{}, err
	}
	if n == 0 || n > p.lastRound(s) {
		return api.RoundInfo{}, api.UnknownRound(ref, n)
	}
	return p.describeRound(s, n), nil
}

// describeRound is called with p.mu held.
func (p *Peer) describeRound(s *ledger.Session, n uint64) api.RoundInfo {
	info := api.RoundInfo{Round: n, State: api.RoundOpen, Compacted: n <= s.Compacted(), Computed: map[string]string{}, WaitingFor: p.names(p.speakers(s, n, s.WaitingFor(n)))}
	var content []*ledger.UpdateHeld
	if n < s.Open() {
		r := s.Round(n)
		content = r.Content
		info.State, info.Inputs = api.RoundSealed, r.Inputs.String()
		switch _, served := p.replica.ResultOf(s, n); {
		case n <= s.Final():
			info.State = api.RoundFinal
		case served:
			info.State = api.RoundSettled
		}
		if res, ok := p.replica.ResultOf(s, n); ok {
			info.Model = res.Model.String()
		} else if d, ok := s.Model(n); ok {
			info.Model = d.String()
		}
		for _, c := range s.ComputedBy(n) {
			info.Computed[p.nameOf(c.Log)] = c.Model.String()
		}
		for _, key := range s.LostIn(n) {
			info.Lost = append(info.Lost, api.UpdateRef{Combiner: key.Combiner, ID: key.ID})
		}
	} else {
		content, _ = s.Pending()
	}
	for _, u := range content {
		info.Weight += int64(u.Weight)
		info.Updates = append(info.Updates, api.UpdateInfo{
			Combiner: u.Combiner, ID: u.ID, Digest: u.Model.String(), Weight: int64(u.Weight), Base: u.Base.String(), BaseRound: u.BaseRound,
			Copies: p.names(s.HoldersOf(u)),
		})
	}
	info.Metrics = meanMetrics(content)
	return info
}

// speakers returns those who have a say in a round: who was forgotten has none, before it is no member either.
func (p *Peer) speakers(s *ledger.Session, n uint64, logs []ledger.LogID) []ledger.LogID {
	return slices.DeleteFunc(slices.Clone(logs), func(log ledger.LogID) bool { return !s.Speaks(log, n) })
}

// meanMetrics averages, by weight, the metrics that updates report, each over the updates that report it.
func meanMetrics(us []*ledger.UpdateHeld) map[string]float64 {
	sums, weights := map[string]float64{}, map[string]float64{}
	for _, u := range us { // in key order, so that every peer rounds alike
		for _, m := range u.Metrics {
			sums[m.Name] += float64(m.Value * float64(u.Weight))
			weights[m.Name] += float64(u.Weight)
		}
	}
	out := map[string]float64{}
	for name, sum := range sums {
		out[name] = sum / weights[name]
	}
	return out
}

// Mesh implements api.Backend.
func (p *Peer) Mesh() api.MeshInfo {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.replica.Ledger()
	info := api.MeshInfo{Self: p.cfg.Name, Mesh: p.cfg.Mesh, Agreed: true}
	sessions := l.Sessions()
	for _, s := range sessions {
		info.Agreed = info.Agreed && len(s.Divergences()) == 0
	}
	listed := map[ledger.LogID]bool{}
	for _, q := range l.Peers() {
		listed[q.Log] = true
		m := p.members[q.Log]
		pi := api.PeerInfo{Name: q.Name, Log: q.Log.String(), State: api.PeerDead, API: m.api, Rounds: map[string]api.RoundModel{}}
		switch {
		case q.Left || m.left:
			pi.State = api.PeerLeft
		case q.Log == p.self:
			pi.State, pi.API = api.PeerAlive, p.cfg.API
		case m.alive:
			pi.State = api.PeerAlive
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
	divergent          int
	conflicts          int
}

// report tells what the last decisions changed. It is called with p.mu held.
func (p *Peer) report() {
	for _, s := range p.replica.Ledger().Sessions() {
		st := p.local(s.Key())
		was := st.reported
		now := reported{open: s.Open(), final: s.Final(), state: sessionState(s), divergent: len(s.Divergences()), conflicts: len(s.Conflicts())}
		if round, d, ok := p.replica.Current(s); ok {
			now.model, now.digest = round, d.String()
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
	if was.digest != now.digest || was.model != now.model {
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
		p.events.add(api.Event{Type: api.EventUpdate, Session: session(b.Session), Peer: peer, Combiner: b.Combiner, ID: b.ID, State: "held", Digest: b.Model.String()})
	case *ledger.UpdateLost:
		p.metrics.lost.Inc()
		p.events.add(api.Event{Type: api.EventUpdate, Session: session(b.Session), Peer: peer, Combiner: b.Combiner, ID: b.ID, Round: b.Round, State: "lost"})
	case *ledger.RoundSealed:
		p.events.add(api.Event{Type: api.EventRound, Session: session(b.Session), Peer: peer, Round: b.Round, State: api.RoundSealed})
	case *ledger.RoundComputed:
		p.events.add(api.Event{Type: api.EventRound, Session: session(b.Session), Peer: peer, Round: b.Round, State: api.RoundSettled, Digest: b.Model.String()})
	}
}
