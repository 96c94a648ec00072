package mesh

import (
	"context"
	"strconv"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// Model implements api.Backend. A model that the ledger knows and this peer has not is taken from another first.
func (p *Peer) Model(ctx context.Context, ref string, which api.ModelRef) (api.Model, error) {
	var none api.Model
	p.mu.Lock()
	s, _, err := p.resolve(ref)
	if err != nil {
		p.mu.Unlock()
		return none, err
	}
	round, d, ok := p.find(s, which)
	key, others := s.Key(), p.living()
	p.mu.Unlock()
	if !ok {
		if which.Kind == api.RefLatest {
			return none, api.Unavailable("this peer does not hold the session's model yet", time.Second)
		}
		return none, api.UnknownModel(ref, which)
	}
	release := p.pin(d)
	defer release()
	if err := p.fetchModel(ctx, d, others); err != nil {
		if which.Kind != api.RefLatest && p.isGone(key, round, err) {
			return none, api.ModelGone(ref, which, round, p.cfg.KeepModels)
		}
		return none, api.Unavailable("the model is not here, and no peer in reach has it", time.Second)
	}
	st, err := p.prepare(key)
	if err != nil {
		return none, api.Unavailable(err.Error(), time.Second)
	}
	b, err := p.open(d)
	if err != nil {
		return none, err
	}
	return api.Model{Digest: d, Round: round, Layout: st.spec.Layout(), Blob: b, Size: b.Size()}, nil
}

// find resolves a reference to a model. It is called with p.mu held.
func (p *Peer) find(s *ledger.Session, which api.ModelRef) (round uint64, d model.Digest, ok bool) {
	switch which.Kind {
	case api.RefRound:
		if which.Round >= s.Open() {
			return 0, d, false
		}
		if res, ok := p.replica.ResultOf(s, which.Round); ok {
			return which.Round, res.Model, true
		}
		d, ok = s.Model(which.Round)
		return which.Round, d, ok
	case api.RefDigest:
		round, ok = p.roundOf(s, which.Digest)
		return round, which.Digest, ok
	default:
		return p.replica.Current(s)
	}
}

// roundOf returns the round that made a model: as the ledger says, or, as long as nobody has given a word for it, as this peer
// computed it, for it serves the model already. It is called with p.mu held.
func (p *Peer) roundOf(s *ledger.Session, d model.Digest) (uint64, bool) {
	if n, ok := s.RoundOf(d); ok {
		return n, true
	}
	if m, ok := p.made[d]; ok && m.Session == s.Key() {
		return m.Round, true
	}
	for n := s.Final() + 1; n < s.Open(); n++ {
		if here, ok := p.replica.ResultOf(s, n); ok && here.Model == d {
			return n, true
		}
	}
	return 0, false
}

// WaitModel implements api.Backend.
func (p *Peer) WaitModel(ctx context.Context, ref, after string) error {
	for {
		p.mu.Lock()
		s, _, err := p.resolve(ref)
		if err != nil {
			p.mu.Unlock()
			return err
		}
		newer, err := p.newer(s, after)
		changed := p.observe()
		p.mu.Unlock()
		if newer || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// newer reports whether the current model here is newer than the one a client has: of a later round (rounds without content do not
// make it one, where the client names a round), or another version of the
// same round than the one that counts now. A digest that is not known here is taken for newer than anything. It is called with
// p.mu held.
func (p *Peer) newer(s *ledger.Session, after string) (bool, error) {
	round, d, ok := p.replica.Current(s)
	if n, err := strconv.ParseUint(after, 10, 64); err == nil && len(after) < 2*len(d) {
		return ok && s.ContentSince(n, round), nil
	}
	theirs, err := model.ParseDigest(after)
	if err != nil {
		return false, api.InvalidRequest("after", err)
	}
	if !ok || theirs == d {
		return false, nil
	}
	n, known := p.roundOf(s, theirs)
	if !known || n > round {
		return false, nil
	}
	if present, ok := s.Model(round); n == round && ok && present == theirs {
		return false, nil // they have the version that counts, and this peer does not have it yet
	}
	return true, nil
}
