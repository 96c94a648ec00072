package ledger

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

// A compacted round is final, and of it is left what it counted and what it gave: how that came about (who held what, the seals, the
// words of those who computed it) is forgotten, here and in the logs. The session goes on from the last compacted round, its base, of which
// everything is kept that the next one is derived from.

// version is a version of a round that somebody computed: its inputs and what was said to come of them. More than one result is a divergence.
type version struct {
	inputs  model.Digest
	most    uint64
	results []Result // ascending
}

// versions collects what was said of a round.
type versions []version

func (vs versions) add(inputs model.Digest, most uint64, res Result) versions {
	at, ok := slices.BinarySearchFunc(vs, inputs, func(v version, d model.Digest) int { return compareDigests(v.inputs, d) })
	if !ok {
		vs = slices.Insert(vs, at, version{inputs: inputs})
	}
	v := &vs[at]
	v.most = max(v.most, most)
	if r, said := slices.BinarySearchFunc(v.results, res, Result.compare); !said {
		v.results = slices.Insert(v.results, r, res)
	}
	return vs
}

func (vs versions) of(inputs model.Digest) []Result {
	at, ok := slices.BinarySearchFunc(vs, inputs, func(v version, d model.Digest) int { return compareDigests(v.inputs, d) })
	if !ok {
		return nil
	}
	return vs[at].results
}

// versionsOf returns the versions of round n that somebody computed, by inputs.
func (s *Session) versionsOf(n uint64) versions {
	if n <= s.base {
		return s.rounds[n].versions
	}
	var vs versions
	for _, cs := range s.computed[n] {
		for _, c := range cs {
			vs = vs.add(c.body.Inputs, c.body.Most, c.body.Result)
		}
	}
	return vs
}

// versioned returns the rounds that somebody computed a version of, ascending.
func (s *Session) versioned() []uint64 {
	var out []uint64
	for n := uint64(1); n <= s.base; n++ {
		if len(s.rounds[n].versions) > 0 {
			out = append(out, n)
		}
	}
	return append(out, slices.Sorted(maps.Keys(s.computed))...)
}

func (r Result) compare(other Result) int {
	return cmp.Or(compareDigests(r.Model, other.Model), compareDigests(r.State, other.State))
}

// Compacted returns the session's base: the last round of which only what it counted and gave is left; 0 when there is none.
func (s *Session) Compacted() uint64 { return s.base }

// compactable returns up to which round a peer that has the model of round have may compact the session, leaving the last keep final rounds
// as they are. The last round that gave a model stays in any case: it is taken from those who said that they have it.
func (s *Session) compactable(have int64, keep uint64) uint64 {
	n := s.final
	for n > s.base && len(s.rounds[n].content) == 0 {
		n--
	}
	n = min(n, uint64(max(have, 0)), s.final-min(s.final, keep)+1)
	return max(n, s.base+1) - 1
}

// freeze makes round upto, which is final, the session's base.
func (s *Session) freeze(upto uint64) {
	for n := max(s.base, 1); n <= upto; n++ {
		r := s.rounds[n]
		left := &round{content: r.content, inputs: r.inputs, closing: r.closing, versions: s.versionsOf(n)}
		if n+1 >= upto {
			left.cut = r.cut // who joined in round upto+1 is told from two cuts
		}
		if n == upto {
			left.members, left.waiting = r.members, r.waiting
		}
		s.rounds[n] = left
	}
	s.setBase(upto)
}

// setBase forgets what was said about the rounds up to the new base, whose rounds are in place.
func (s *Session) setBase(base uint64) {
	s.base, s.dirty = base, max(s.dirty, int(base)+1)
	atMost := func(n uint64) bool { return n <= base }
	maps.DeleteFunc(s.seals, func(n uint64, _ map[LogID]sealAt) bool { return atMost(n) })
	maps.DeleteFunc(s.computed, func(n uint64, _ map[LogID][]computedAt) bool { return atMost(n) })
	maps.DeleteFunc(s.words, func(n uint64, _ int) bool { return atMost(n) })
	maps.DeleteFunc(s.lost, func(n uint64, _ []lostAt) bool { return atMost(n) })
	for log, ks := range s.skips {
		s.skips[log] = slices.DeleteFunc(ks, func(k skipAt) bool { return atMost(k.to) })
	}
	for log, hs := range s.held {
		s.held[log] = slices.DeleteFunc(hs, func(h heldAt) bool { return s.counted(h.update.Key()) })
	}
	for key, copies := range s.copies {
		if !s.counted(key) {
			continue
		}
		for _, log := range s.logsHolding(key) {
			s.contend(copies[log].update)
		}
		delete(s.copies, key)
	}
	s.keys = slices.DeleteFunc(slices.Clone(s.keys), s.counted) // others may hold the old slice
}

// counted reports whether a compacted round counts an update with this key.
func (s *Session) counted(key Key) bool {
	n, placed := s.placed[key]
	return placed && n <= s.base
}

// contend notes a content that was accepted under the key of another, which a compacted round counts.
func (s *Session) contend(u *UpdateHeld) {
	if u.Same(s.Known(u.Key())) || slices.ContainsFunc(s.others, u.Same) {
		return
	}
	at, _ := slices.BinarySearchFunc(s.others, u, func(a, b *UpdateHeld) int {
		return cmp.Or(a.Key().Compare(b.Key()), bytes.Compare(bodyBytes(a), bodyBytes(b)))
	})
	s.others = slices.Insert(s.others, at, u)
}

// matters reports whether an admitted entry still bears on anything, other than by its place in its log.
func (l *Ledger) matters(e *Entry) bool {
	switch b := e.Body.(type) {
	case *UpdateHeld:
		return !l.sessions[b.Session].counted(b.Key())
	case *UpdateDropped:
		return !l.session(b.Session).counted(Key{Combiner: b.Combiner, ID: b.ID})
	case *UpdateLost:
		return b.Round > l.session(b.Session).base
	case *RoundSealed:
		return b.Round > l.session(b.Session).base
	case *RoundsSkipped:
		return b.To > l.session(b.Session).base
	case *RoundComputed:
		return b.Round > l.session(b.Session).base
	}
	return true // membership, and what sessions are
}

// drop takes the entries that matter no longer out of the logs and returns how many.
func (l *Ledger) drop() int {
	dropped := 0
	for _, j := range l.logs {
		kept := make([]*Entry, 0, len(j.entries))
		for _, e := range j.entries {
			if l.matters(e) {
				kept = append(kept, e)
			} else {
				j.base = max(j.base, e.Seq)
			}
		}
		dropped += len(j.entries) - len(kept)
		j.entries = kept
	}
	return dropped
}

// CanServe reports whether all entries are here that lie inside the ledger and not inside a vector. Where they are not, who lacks them
// takes a Snapshot.
func (l *Ledger) CanServe(from Vector) bool {
	for log, j := range l.logs {
		if from[log] < j.base {
			return false
		}
	}
	return true
}

// Bases returns the base of every session that has one.
func (l *Ledger) Bases() map[SessionKey]uint64 {
	out := map[SessionKey]uint64{}
	for key, s := range l.sessions {
		if s.opened != nil && s.base > 0 {
			out[key] = s.base
		}
	}
	return out
}

// Needs reports whether a peer with these bases knows rounds to be final of which this ledger does not know it, though it may hold all
// that the other holds: who compacted a round says no more about it, not even when a forgetting asks for everybody's word again. A
// Snapshot of that peer then helps.
func (l *Ledger) Needs(bases map[SessionKey]uint64) bool {
	for key, base := range bases {
		if s := l.Session(key); s == nil || s.final < base {
			return true
		}
	}
	return false
}

// Compact compacts every session as far as this peer has models, but for the last keep final rounds, and returns how many entries were
// dropped. What was decided upon entries of the own log that are not durable yet must not be made irrevocable: the caller sees to it that all
// of them are.
func (r *Replica) Compact(keep uint64) int {
	compacted := false
	for key := range r.ledger.sessions {
		s := r.ledger.Session(key)
		if s == nil {
			continue
		}
		if upto := s.compactable(r.local(key).have, keep); upto > s.base {
			s.freeze(upto)
			compacted = true
		}
	}
	if !compacted {
		return 0
	}
	return r.ledger.drop()
}
