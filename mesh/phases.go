package mesh

import (
	"time"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// wordsLate is how many rounds after one is final a peer's word for it is waited for no longer.
const wordsLate = 16

// roundTimes is when the rounds of a session came as far as they are, as this peer saw it. Only rounds that it saw pass one by one are
// timed: what it learns of others all at once says nothing of how long it took. It is guarded by Peer.mu.
type roundTimes struct {
	known    bool
	opened   time.Time // the open round
	last     time.Time // a round was last sealed; at first, when this peer began to look
	sealed   map[uint64]time.Time
	settled  map[uint64]time.Time
	computed map[uint64]time.Time
	inputs   map[uint64]model.Digest // of settled rounds, which change when one is amended
	newest   uint64                  // of inputs
}

// timeRounds notes what became of a session's rounds since the last look. It is called with p.mu held.
func (p *Peer) timeRounds(s *ledger.Session, t *roundTimes, was, now reported) {
	at := time.Now()
	if !t.known { // after a start: what came to pass before is no news
		*t = roundTimes{
			known: true, opened: at, last: at, computed: t.computed,
			sealed: map[uint64]time.Time{}, settled: map[uint64]time.Time{}, inputs: map[uint64]model.Digest{},
		}
		return
	}
	if now.open > was.open {
		p.metrics.rounds.WithLabelValues("sealed").Add(float64(now.open - was.open))
		if now.open == was.open+1 {
			p.metrics.round.WithLabelValues("open").Observe(at.Sub(t.opened).Seconds())
			t.sealed[was.open] = at
		}
		t.opened, t.last = at, at
	}
	for n, sealed := range t.sealed {
		if n > now.model {
			continue
		}
		delete(t.sealed, n)
		if n == now.model {
			p.metrics.round.WithLabelValues("settle").Observe(at.Sub(sealed).Seconds())
			t.settled[n] = at
		}
	}
	p.countAmended(s, t, now)
	if now.final > was.final {
		p.metrics.rounds.WithLabelValues("final").Add(float64(now.final - was.final))
		p.tellFinal(s, t, was.final, now.final)
	}
	for n, settled := range t.settled {
		if n <= now.final {
			p.metrics.round.WithLabelValues("final").Observe(at.Sub(settled).Seconds())
			delete(t.settled, n)
		}
	}
	for n := range t.inputs {
		if n <= now.final {
			delete(t.inputs, n)
		}
	}
	for n := range t.computed { // this peer's own word may have made it final, and is on its way to the disk
		if n+wordsLate <= now.final {
			delete(t.computed, n)
		}
	}
}

// countAmended counts the rounds whose inputs are others than when their model was first served. It is called with p.mu held.
func (p *Peer) countAmended(s *ledger.Session, t *roundTimes, now reported) {
	// The inputs of a round name those of the round before, so it is enough to look at the newest.
	if d, ok := t.inputs[t.newest]; ok && t.newest < now.open && s.Round(t.newest).Inputs != d {
		for n, d := range t.inputs {
			if n >= now.open {
				continue
			}
			if inputs := s.Round(n).Inputs; inputs != d {
				p.metrics.rounds.WithLabelValues("amended").Inc()
				t.inputs[n] = inputs
			}
		}
	}
	for n := max(t.newest, now.final) + 1; n <= now.model && n < now.open; n++ {
		t.inputs[n] = s.Round(n).Inputs
		t.newest = n
	}
}

// tellFinal logs that rounds became final, in one line. It is called with p.mu held.
func (p *Peer) tellFinal(s *ledger.Session, t *roundTimes, from, to uint64) {
	d, _ := s.Model(to)
	e := p.log.Info().Str("session", s.Name()).Uint64("round", to).Stringer("model", d).Int("updates", len(s.Round(to).Content))
	if settled, ok := t.settled[to]; ok {
		e = e.Dur("took", time.Since(settled))
	}
	if to-from > 1 {
		e = e.Uint64("rounds", to-from)
	}
	e.Msg("a round is final")
}

// noteComputed keeps when a model was made. It is called with p.mu held.
func (p *Peer) noteComputed(key ledger.SessionKey, round uint64) {
	t := &p.local(key).times
	if t.computed == nil {
		t.computed = map[uint64]time.Time{}
	}
	t.computed[round] = time.Now()
}

// timeWords notes how long it took this peer to give its word for models that it made. It is called with p.mu held, once that is durable.
func (p *Peer) timeWords(es []*ledger.Entry) {
	for _, e := range es {
		word, ok := e.Body.(*ledger.RoundComputed)
		if !ok {
			continue
		}
		computed := p.local(word.Session).times.computed
		if made, ok := computed[word.Round]; ok {
			p.metrics.round.WithLabelValues("publish").Observe(time.Since(made).Seconds())
			delete(computed, word.Round)
		}
	}
}

// countTaken counts a round whose model was taken from another peer.
func (p *Peer) countTaken(w ledger.Work, err error) {
	if err == nil && w.Round.Number > 0 {
		p.metrics.rounds.WithLabelValues("taken").Inc()
	}
}
