package ledger

import (
	"bytes"
	"maps"
	"math"
	"slices"
)

// gathered is what a round has to choose from, and what it would choose if it needed no minimum of combiners.
type gathered struct {
	waiting   map[Key]*UpdateHeld // all that appeared and is in no round
	lost      map[Key]uint64      // those of them that may not be placed, with the round that lost them
	fresh     map[Key]*UpdateHeld // those that appeared in this very cut
	chosen    []*UpdateHeld       // by key
	total     uint64              // weight of chosen
	full      bool                // some did not fit
	combiners map[string]bool     // of chosen
	ahead     bool                // some were trained from the model of this round or a later one
}

func (s *Session) gather(n uint64, members []LogID, cut Vector) gathered {
	before := s.rounds[n-1]
	g := gathered{waiting: map[Key]*UpdateHeld{}, lost: map[Key]uint64{}, combiners: map[string]bool{}}
	for _, p := range before.waiting {
		g.waiting[p.update.Key()] = p.update
		if p.lost > 0 {
			g.lost[p.update.Key()] = p.lost
		}
	}
	g.fresh = s.appear(before.cut, cut, g)
	for key, u := range g.fresh {
		g.waiting[key] = u
		delete(g.lost, key) // held anew: it returns
	}
	for _, key := range slices.SortedFunc(maps.Keys(g.waiting), Key.Compare) {
		u := g.waiting[key]
		if g.lost[key] > 0 {
			continue
		}
		if u.BaseRound >= n {
			g.ahead = true
			continue
		}
		if s.isLost(u, n, voters{members, before.cut}) {
			g.lost[key] = n
			continue
		}
		if g.full = g.full || g.total+u.Weight > MaxWeight; g.full {
			continue
		}
		g.total += u.Weight
		g.chosen = append(g.chosen, u)
		g.combiners[u.Combiner] = true
	}
	return g
}

// appear returns the updates that are first held between the two cuts, or held anew there after they were lost: of two contents the
// canonically smaller.
func (s *Session) appear(from, cut Vector, g gathered) map[Key]*UpdateHeld {
	fresh := map[Key]*UpdateHeld{}
	for log, to := range cut {
		for _, h := range s.heldIn(log, from[log], to) {
			key := h.update.Key()
			if _, placed := s.placed[key]; placed {
				continue
			}
			if g.waiting[key] == nil || g.lost[key] > 0 {
				fresh[key] = smaller(fresh[key], h.update)
			}
		}
	}
	return fresh
}

// Pending returns the updates that the open round would count if it were sealed with everything held here, ascending by key,
// and the number of their combiners.
func (s *Session) Pending() (updates []*UpdateHeld, combiners int) {
	g := s.gatherOpen()
	return g.chosen, len(g.combiners)
}

func (s *Session) gatherOpen() *gathered {
	if s.pending == nil {
		g := s.gather(s.Open(), s.Members(s.Open()), s.ledger.vector)
		s.pending = &g
	}
	return s.pending
}

// returned reports whether the open round would count an update that an earlier one lost.
func (s *Session) returned() bool {
	g := s.gatherOpen()
	return slices.ContainsFunc(s.rounds[len(s.rounds)-1].waiting, func(p pending) bool {
		if p.lost == 0 {
			return false
		}
		_, chosen := slices.BinarySearchFunc(g.chosen, p.update.Key(), func(u *UpdateHeld, k Key) int { return u.Key().Compare(k) })
		return chosen
	})
}

// extendPending brings what is pending up to date with an update that was just admitted, or forgets it where that is not simple: the open
// round's content is asked for after each entry, and has thousands of updates.
func (s *Session) extendPending(u *UpdateHeld) {
	g := s.pending
	if g == nil {
		return
	}
	n, key := uint64(len(s.rounds)), u.Key()
	if _, placed := s.placed[key]; placed {
		return
	}
	if known := g.waiting[key]; known != nil && g.lost[key] == 0 && (g.fresh[key] == nil || equal(known, u)) {
		return // another holder, or a second content of what appeared earlier
	}
	if g.waiting[key] != nil || g.full || g.total+u.Weight > MaxWeight {
		s.pending = nil
		return
	}
	g.waiting[key], g.fresh[key] = u, u
	if u.BaseRound >= n {
		g.ahead = true
		return
	}
	at, _ := slices.BinarySearchFunc(g.chosen, key, func(u *UpdateHeld, k Key) int { return u.Key().Compare(k) })
	g.chosen = slices.Insert(slices.Clip(g.chosen), at, u) // others may hold the old slice
	g.total += u.Weight
	g.combiners[u.Combiner] = true
}

// smaller returns the canonically smaller of two updates; a may be nil.
func smaller(a, b *UpdateHeld) *UpdateHeld {
	if a == nil || !equal(a, b) && bytes.Compare(bodyBytes(b), bodyBytes(a)) < 0 {
		return b
	}
	return a
}

// equal reports whether two updates are the same to the byte, all that is known of them.
func equal(a, b *UpdateHeld) bool {
	return a.Same(b) && a.Bytes == b.Bytes && a.BaseRound == b.BaseRound &&
		math.Float64bits(a.Norm) == math.Float64bits(b.Norm) && slices.EqualFunc(a.Metrics, b.Metrics, func(x, y Metric) bool {
		return x.Name == y.Name && math.Float64bits(x.Value) == math.Float64bits(y.Value)
	})
}
