package mesh

import (
	"slices"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// Rounds implements api.Backend.
func (p *Peer) Rounds(ref string, from uint64, limit int) ([]api.RoundInfo, error) {
	return p.listRounds(ref, from, limit, true)
}

// Summaries is Rounds without the updates, which are most of the work and of the answer.
func (p *Peer) Summaries(ref string, from uint64, limit int) ([]api.RoundInfo, error) {
	return p.listRounds(ref, from, limit, false)
}

func (p *Peer) listRounds(ref string, from uint64, limit int, updates bool) ([]api.RoundInfo, error) {
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
		out = append(out, p.describeRound(s, n, updates))
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
	return p.describeRound(s, n, true), nil
}

// describeRound is called with p.mu held.
func (p *Peer) describeRound(s *ledger.Session, n uint64, updates bool) api.RoundInfo {
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
		info.Versions, info.Divergent = s.Made(n)
		p.describeWords(&info, s, n)
		for _, key := range s.LostIn(n) {
			info.Lost = append(info.Lost, api.UpdateRef{Combiner: key.Combiner, ID: key.ID})
		}
	} else {
		content, _ = s.Pending()
		if at := p.local(s.Key()).reported.opened; !at.IsZero() {
			info.Opened = &at
		}
	}
	for i, u := range content { // by key, so those of a combiner are together
		if i == 0 || u.Combiner != content[i-1].Combiner {
			info.Combiners++
		}
		info.Weight += int64(u.Weight)
		if !updates {
			continue
		}
		info.Updates = append(info.Updates, api.UpdateInfo{
			Combiner: u.Combiner, ID: u.ID, Digest: u.Model.String(), Weight: int64(u.Weight), Base: u.Base.String(), BaseRound: u.BaseRound,
			Copies: p.names(s.HoldersOf(u)),
		})
	}
	info.Metrics = meanMetrics(content)
	return info
}

// describeWords tells who sealed a round, and who took its model from another instead of computing it.
func (p *Peer) describeWords(info *api.RoundInfo, s *ledger.Session, n uint64) {
	if info.Compacted {
		return
	}
	var sealed, took []ledger.LogID
	for _, log := range s.Members(n) {
		if !s.Sealed(log, n) {
			continue
		}
		sealed = append(sealed, log)
		if s.Skipped(log, n) {
			took = append(took, log)
		}
	}
	info.Sealed, info.Took = p.names(sealed), p.names(took)
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
