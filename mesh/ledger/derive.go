package ledger

import (
	"maps"
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

// MaxWeight bounds the weight of one update and the total weight of a round, so that exact sums stay in range.
const MaxWeight = 1<<38 - 1

// round is the state after a round. What it holds is never changed once derived; deriving again replaces it.
type round struct {
	members []LogID
	cut     Vector
	content []*UpdateHeld // by key
	waiting []pending     // appeared, in no round yet; by key
	inputs  model.Digest
	closing bool   // SessionClosed lies inside the cut
	facts   Vector // nil until asked for; whatever changes them has the round derived again

	versions versions // of a compacted round

	computed      []Computation // from these inputs
	computedSince int           // logs' words about the round that computed was made from
}

// pending is an update that appeared inside a cut and is in no round yet.
type pending struct {
	update *UpdateHeld
	lost   uint64 // the round that lost it; 0 when it may be placed
}

func (r *round) pending(key Key) *pending {
	i, ok := slices.BinarySearchFunc(r.waiting, key, func(p pending, k Key) int { return p.update.Key().Compare(k) })
	if !ok {
		return nil
	}
	return &r.waiting[i]
}

// derive brings the rounds up to date with the entries. It is a pure function of the set of admitted entries.
func (s *Session) derive() {
	if s.version == s.ledger.version {
		return
	}
	s.version = s.ledger.version
	known := len(s.rounds)
	if s.dirty <= known {
		s.pending = nil
	}
	if len(s.rounds) == 0 {
		s.rounds = []*round{s.start()}
		s.dirty = 1
	}
	if s.dirty < len(s.rounds) {
		s.final = min(s.final, uint64(s.dirty)-1)
		for _, r := range s.rounds[s.dirty:] {
			for _, u := range r.content {
				delete(s.placed, u.Key())
			}
		}
		s.rounds = s.rounds[:s.dirty]
	}
	for {
		n := uint64(len(s.rounds))
		members := s.membersOf(n)
		cut, ok := s.cutOf(n, members)
		if !ok {
			s.openMembers = members
			break
		}
		r := s.step(n, members, cut)
		s.rounds = append(s.rounds, r)
		for _, u := range r.content {
			s.placed[u.Key()] = n
		}
	}
	if len(s.rounds) != known || len(s.lost[uint64(known)]) > 0 {
		s.pending = nil
	}
	s.dirty = len(s.rounds) + 1
	for n := s.final + 1; n < uint64(len(s.rounds)) && s.settledForEver(n); n++ {
		// Those who skipped, left or were forgotten need not have the model. While nobody has it, the bytes must stay.
		if _, computed := s.Model(n); computed {
			s.final = n
		}
	}
}

// start is the state before round 1.
func (s *Session) start() *round {
	cut := Vector{}
	for _, m := range s.opened.Members {
		cut[m] = 1
	}
	e := newEncoder()
	e.text("fedmesh/inputs")
	e.sum(s.key)
	return &round{cut: cut, inputs: model.Sum(e.buf.Bytes())}
}

// membersOf returns the members of round n, which must be at most one past the last derived.
func (s *Session) membersOf(n uint64) []LogID {
	before := s.rounds[n-1]
	from := Vector{}
	if n >= 2 {
		from = s.rounds[n-2].cut
	}
	return s.ledger.peers.members(before.members, from, before.cut)
}

// votersOf returns who has a say in a round from 1 to the open one.
func (s *Session) votersOf(n uint64) voters {
	members := s.openMembers
	if n < uint64(len(s.rounds)) {
		members = s.rounds[n].members
	}
	return voters{members: members, before: s.rounds[n-1].cut}
}

// cutOf joins the seals of a round's members to the cut before; ok is false while there are none.
func (s *Session) cutOf(n uint64, members []LogID) (cut Vector, ok bool) {
	cut = s.rounds[n-1].cut.Clone()
	for _, m := range members {
		if seal, sealed := s.sealOf(m, n, voters{members, s.rounds[n-1].cut}); sealed {
			cut.Join(seal.cut)
			ok = true
		}
	}
	return cut, ok
}

// step derives round n from the one before it and its cut.
func (s *Session) step(n uint64, members []LogID, cut Vector) *round {
	before := s.rounds[n-1]
	r := &round{members: members, cut: cut, closing: before.closing}
	for _, ref := range s.closed {
		r.closing = r.closing || cut.Holds(ref)
	}
	g := s.gather(n, members, cut)
	// The rounds that close a session count whatever there is.
	if len(g.combiners) >= int(s.opened.Config.MinCombiners) || before.closing {
		r.content = g.chosen
		for _, u := range g.chosen {
			delete(g.waiting, u.Key())
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(g.waiting), Key.Compare) {
		r.waiting = append(r.waiting, pending{update: g.waiting[key], lost: g.lost[key]})
	}

	e := newEncoder()
	e.sum(before.inputs)
	e.uint(n)
	e.array(len(r.content))
	for _, u := range r.content {
		u.encode(e)
	}
	r.inputs = model.Sum(e.buf.Bytes())
	return r
}

// heldIn returns a log's UpdateHeld entries of this session with from < seq ≤ to.
func (s *Session) heldIn(log LogID, from, to uint64) []heldAt {
	all := s.held[log]
	at := func(seq uint64) int {
		i, _ := slices.BinarySearchFunc(all, seq+1, func(h heldAt, seq uint64) int { return compareUint(h.seq, seq) })
		return i
	}
	lo, hi := at(from), at(to)
	if lo >= hi {
		return nil
	}
	return all[lo:hi]
}

// isLost reports whether some member's UpdateLost takes the update out of round n. It does not count from a member that had given its
// word, computed or skipped, for the round with the very inputs it names: where the round is final, every member has
// given its word in full knowledge of it, and can lose nothing of it afterwards.
func (s *Session) isLost(u *UpdateHeld, n uint64, v voters) bool {
	if len(s.lost[n]) == 0 {
		return false
	}
	for _, l := range s.lost[n] {
		if l.key != u.Key() || !slices.Contains(v.members, l.ref.Log) || s.ledger.peers.void(l.ref.Log, l.ref.Seq, v) {
			continue
		}
		if !s.answered(l.ref.Log, n, l.inputs, l.ref.Seq) {
			return true
		}
	}
	return false
}

// answered reports whether a log, before seq, computed or skipped round n with these inputs.
func (s *Session) answered(log LogID, n uint64, inputs model.Digest, seq uint64) bool {
	return slices.ContainsFunc(s.computed[n][log], func(c computedAt) bool { return c.seq < seq && c.body.Inputs == inputs }) ||
		slices.ContainsFunc(s.skips[log], func(k skipAt) bool { return k.seq < seq && k.has(n, inputs) })
}

// settledForEver reports whether round n can change no more, given that none before it can: every member that is waited for
// has sealed it and has computed it from the present inputs, or skipped it.
func (s *Session) settledForEver(n uint64) bool {
	return len(s.waitingFor(n)) == 0
}

// waitingFor returns the members that keep a derived round from being final.
func (s *Session) waitingFor(n uint64) []LogID {
	r, v, facts := s.rounds[n], s.votersOf(n), s.facts(n)
	var out []LogID
	for _, m := range r.members {
		if s.ledger.peers.hasLeft(m, nil) || s.ledger.peers.forgotten(m, v) {
			continue
		}
		if _, sealed := s.sealOf(m, n, v); sealed && s.spoken(m, n, v, facts) {
			continue
		}
		out = append(out, m)
	}
	return out
}

// facts returns the cut that holds all that was said about round n and bears on its content: the seals and losses of its members,
// and what makes some of these void.
func (s *Session) facts(n uint64) Vector {
	if known := s.rounds[n].facts; known != nil {
		return known
	}
	v, out := s.votersOf(n), Vector{}
	for _, m := range v.members {
		if seal, ok := s.sealOf(m, n, v); ok && seal.cut != nil {
			out[m] = seal.seq
		}
	}
	for _, l := range s.lost[n] {
		if slices.Contains(v.members, l.ref.Log) && !s.ledger.peers.void(l.ref.Log, l.ref.Seq, v) {
			out[l.ref.Log] = max(out[l.ref.Log], l.ref.Seq)
		}
	}
	s.ledger.peers.forgettings(v, out)
	s.rounds[n].facts = out
	return out
}

// spoken reports whether a log has given its word for round n as it is, knowing all its facts: computed it from the present
// inputs, or skipped it.
func (s *Session) spoken(log LogID, n uint64, v voters, facts Vector) bool {
	for _, k := range s.skips[log] {
		if k.has(n, s.rounds[n].inputs) && k.seen.Covers(facts) && !s.ledger.peers.void(log, k.seq, v) {
			return true
		}
	}
	return slices.ContainsFunc(s.computed[n][log], func(c computedAt) bool {
		return c.body.Inputs == s.rounds[n].inputs && c.body.Seen.Covers(facts) && !s.ledger.peers.void(log, c.seq, v)
	})
}
