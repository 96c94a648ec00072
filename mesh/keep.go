package mesh

import (
	"errors"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// finalHere returns the last round that is final and whose model, or that of a later one, is here: a peer that is behind goes on from the
// model that it has until it has a later one. It is called with p.mu held.
func (p *Peer) finalHere(s *ledger.Session) uint64 {
	have, _, ok := p.replica.Current(s)
	if !ok {
		return 0
	}
	return min(s.Final(), have)
}

// keptModels returns the models of a session that are kept as models, whatever else they may be needed for: the seed, and every version of
// the rounds from keptFrom on. It is called with p.mu held.
func (p *Peer) keptModels(s *ledger.Session) []model.Digest {
	from := p.keptFrom(s)
	if from == 0 {
		return s.Models()
	}
	out := []model.Digest{s.Seed()}
	for _, res := range s.Results(from) {
		out = append(out, res.Model)
	}
	return out
}

// keptFrom returns the first round whose model is kept: of the last Config.KeepModels final rounds that have content, since the others
// keep the model before them. It is called with p.mu held.
func (p *Peer) keptFrom(s *ledger.Session) uint64 {
	if p.cfg.KeepModels == 0 {
		return 0
	}
	kept, n := 0, p.finalHere(s)
	for ; n > 0; n-- {
		if s.ContentSince(n-1, n) {
			kept++
		}
		if kept == p.cfg.KeepModels {
			break
		}
	}
	return n
}

// isGone reports whether a model that could not be fetched is one that peers delete: of a round that was final before the one whose
// model is current here. Either all who live have deleted it, or this peer has, and the others cannot be asked.
func (p *Peer) isGone(key ledger.SessionKey, round uint64, fetched error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.replica.Ledger().Session(key)
	if s == nil || round >= p.finalHere(s) {
		return false
	}
	return errors.Is(fetched, errAbsent) || errors.Is(fetched, errNoHolder) && round < p.keptFrom(s)
}
