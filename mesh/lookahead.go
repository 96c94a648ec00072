package mesh

import (
	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/mesh/ledger"
)

const (
	roundsAhead  = 16 // for how many rounds beyond the last whose model is here bytes are fetched
	roundsAtOnce = 3  // so that one transfer that stands still does not hold up the others
)

// lookAhead fetches, while a round is computed, what the rounds after it are computed from.
func (p *Peer) lookAhead(w ledger.Work) {
	p.mu.Lock()
	defer p.mu.Unlock()
	st := p.local(w.Session)
	if st.looking || p.ctx.Err() != nil {
		return
	}
	st.looking = true
	p.wg.Go(func() {
		var g errgroup.Group
		g.SetLimit(roundsAtOnce)
		defer func() { _ = g.Wait() }()
		for n := w.Round.Number + 1; ; n++ {
			next, ok := p.upcoming(w.Session, n)
			if !ok {
				return
			}
			n = next.Round.Number
			g.Go(func() error {
				if st, err := p.prepare(w.Session); err == nil {
					_, _, _ = p.fetchFor(p.ctx, st, next) // or else it is tried again when the round is computed
				}
				return nil
			})
		}
	})
}

// upcoming waits until this peer is near a round and returns it, or a later one when this peer has passed it; ok is false when it is not
// among several that are computed in a row.
func (p *Peer) upcoming(key ledger.SessionKey, n uint64) (w ledger.Work, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, st := p.replica.Ledger().Session(key), p.local(key)
	for p.ctx.Err() == nil {
		have, _, _ := p.replica.Current(s)
		n = max(n, have+1)
		if n > st.turn.goal || n >= s.Open() {
			break
		}
		if n <= have+roundsAhead {
			return ledger.Work{Session: key, Round: s.Round(n)}, true
		}
		changed := p.observe()
		p.mu.Unlock()
		select {
		case <-changed:
		case <-p.ctx.Done():
		}
		p.mu.Lock()
	}
	st.looking = false
	return w, false
}
