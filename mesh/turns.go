package mesh

import (
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// A healed partition amends many rounds at once, each of which needs the model of the one before. Everybody could compute them all, but
// then all would fetch and read the same updates for the same models, and be in each other's way. So where a peer has several rounds to
// compute in a row, one goes first, and the others wait for it to have the last of them and take that; RoundsSkipped is then their word
// for those before. They wait neither long nor for the dead, and each decides for itself: where peers take different ones for the first,
// or the first does not get on, several compute, and all have the same models.
const (
	inARow    = 4                      // rounds to compute, from which on it matters who does
	turnAfter = 300 * time.Millisecond // that the one before in the order may take to show something new
	maxTurns  = 2                      // of which nobody waits for more
	lastAfter = 100 * time.Millisecond // that the last of the rounds may take when the one before it is there
	freshIn   = time.Second            // in which who waits takes a later model that there is, though not of the last round
)

// turn is a peer's waiting for others in a session. It is guarded by Peer.mu.
type turn struct {
	order []ledger.LogID // who goes first, who next
	goal  uint64         // the last of the rounds in a row; 0: there are none
	fresh time.Time      // when something was last taken or computed here
	news  time.Time      // when somebody last had a later model than before
	seen  uint64         // the round of that
	leads uint64         // the first round that this peer computed since nobody before it in the order did; 0: it waits
}

// turnIn returns how long this peer still leaves a piece of work to others; nothing, when it is to do it itself. It is called with
// p.mu held.
func (p *Peer) turnIn(st *session, w ledger.Work) time.Duration {
	t, now := &st.turn, time.Now()
	if w.Round.Number == 0 {
		return 0
	}
	s := p.replica.Ledger().Session(w.Session)
	last, there := s.Open()-1, w.Round.Number-1
	if len(w.Takes) > 0 {
		there = w.Takes[0].Round
	}
	if w.Round.Number > t.goal || there < t.seen { // a new row, or this peer fell back
		*t = turn{}
		if last-w.Round.Number+1 < inARow {
			return 0
		}
		*t = turn{order: order(w.Session, w.Round.Members), fresh: now, news: now, seen: w.Round.Number - 1}
	}
	if t.seen < w.Round.Number { // nobody has shown anything: the others' seals may still be coming in
		t.goal = max(t.goal, last)
	}
	if there > t.seen {
		t.seen, t.news = there, now
	}
	if t.leads > 0 && (there >= w.Round.Number || w.Round.Number > t.leads && p.keptUp(s, w.Round.Number-1, t.order)) {
		t.leads, t.news = 0, now
	}
	ahead := p.ahead(t.order)
	if ahead == 0 || t.leads > 0 || there >= t.goal {
		return 0
	}
	patience := time.Duration(ahead) * turnAfter
	if there == t.goal-1 {
		patience = lastAfter
	}
	wait := t.news.Add(patience).Sub(now)
	if there >= w.Round.Number {
		wait = min(wait, t.fresh.Add(freshIn).Sub(now))
	} else if wait <= 0 {
		t.leads = w.Round.Number
	}
	return wait
}

// keptUp reports whether a peer that comes before this one has computed a round. It is called with p.mu held.
func (p *Peer) keptUp(s *ledger.Session, round uint64, order []ledger.LogID) bool {
	return slices.ContainsFunc(s.ComputedBy(round), func(c ledger.Computation) bool {
		return slices.Contains(order[:max(slices.Index(order, p.self), 0)], c.Log)
	})
}

// moved notes that this peer has taken or computed a model that it waited for. It is called with p.mu held.
func (t *turn) moved() {
	t.fresh = time.Now()
	t.news = t.fresh
}

// ahead returns how many peers, of those taken for alive, come before this one. It is called with p.mu held.
func (p *Peer) ahead(order []ledger.LogID) int {
	n := 0
	for _, log := range order {
		if log == p.self {
			break
		}
		if _, slow := p.slow[log]; !slow && p.replica.Alive(log) {
			n++
		}
	}
	return min(n, maxTurns)
}

// order returns logs in the order in which their peers compute: by a hash, so that not all sessions burden the same peer.
func order(session ledger.SessionKey, logs []ledger.LogID) []ledger.LogID {
	rank := func(log ledger.LogID) model.Digest { return model.Sum(append(session[:], log[:]...)) }
	out := slices.Clone(logs)
	slices.SortFunc(out, func(a, b ledger.LogID) int {
		ra, rb := rank(a), rank(b)
		return slices.Compare(ra[:], rb[:])
	})
	return out
}
