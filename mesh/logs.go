package mesh

import (
	"net/http"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
)

const (
	sayAgain = time.Minute // after which a warning that repeats is written once more
	maxSaid  = 1024        // warnings that are remembered
)

// said remembers what was warned of lately, so that what fails again and again does not fill the log.
type said struct {
	mu   sync.Mutex
	last map[string]saying
}

type saying struct {
	at      time.Time
	skipped int
}

// again reports whether a warning of this name is due, and how many of its kind were left out since the last.
func (s *said) again(name string) (skipped int, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	was, known := s.last[name]
	if known && now.Sub(was.at) < sayAgain {
		was.skipped++
		s.last[name] = was
		return 0, false
	}
	if s.last == nil {
		s.last = map[string]saying{}
	}
	if len(s.last) >= maxSaid {
		for n, v := range s.last {
			if now.Sub(v.at) >= sayAgain {
				delete(s.last, n)
			}
		}
		if len(s.last) >= maxSaid {
			clear(s.last)
		}
	}
	s.last[name] = saying{at: now}
	return was.skipped, true
}

// over forgets a warning: what it was about is well again, and is news should it come back.
func (s *said) over(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.last, name)
}

// lacking names the warnings of lacks.
func lacking(key ledger.SessionKey) string { return "model " + key.String() }

// lacks tells that a model cannot be had, which is tried again several times a second.
func (p *Peer) lacks(w ledger.Work, err error) {
	if skipped, due := p.said.again(lacking(w.Session)); due {
		p.log.Warn().Err(err).Str("session", p.sessionName(w.Session)).Uint64("round", w.Round.Number).Int("skipped", skipped).
			Msg("a model could not be had; trying again")
	}
}

// refuseEntry tells of an entry that cannot be taken; whoever sends one may send many.
func (p *Peer) refuseEntry(err error) {
	if skipped, due := p.said.again("entry"); due {
		p.log.Warn().Err(err).Int("skipped", skipped).Msg("an entry was refused")
	}
}

// tellCopy logs what became of a copy that another peer sent, under the id of the push that it is made for.
func (p *Peer) tellCopy(r *http.Request, s *ledger.Session, o offer, u *ledger.UpdateHeld, took time.Duration, err error) {
	e := p.log.Debug().Str("request", api.RequestOf(r.Context())).Str("session", s.Name()).Str("combiner", o.Combiner).Dur("took", took)
	if err != nil {
		e.Err(err).Str("id", o.ID).Msg("a copy was refused")
		return
	}
	e.Str("id", u.ID).Stringer("model", u.Model).Uint64("bytes", u.Bytes).Msg("a copy was taken")
}

// nameOfSession returns a session's name. It is called with p.mu held.
func (p *Peer) nameOfSession(key ledger.SessionKey) string {
	if s := p.replica.Ledger().Session(key); s != nil {
		return s.Name()
	}
	return key.Short()
}

// sessionName is nameOfSession for callers that do not hold p.mu.
func (p *Peer) sessionName(key ledger.SessionKey) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nameOfSession(key)
}
