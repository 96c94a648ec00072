package ledger

import (
	"bytes"
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

// Round is a derived round. Its slices and maps are shared with the ledger: read only.
type Round struct {
	Number  uint64
	Members []LogID       // none in compacted rounds
	Cut     Vector        // none in compacted rounds
	Content []*UpdateHeld // ascending by key
	Weight  uint64        // of the content
	Inputs  model.Digest  // names what the round's model depends on: the inputs of the round before and the content
	Closing bool          // a SessionClosed lies inside the cut
}

// Open returns the number of the open round: the first without a seal.
func (s *Session) Open() uint64 { return uint64(len(s.rounds)) }

// Final returns the last round whose model somebody has and that, like all before it, can change no more; 0 when there is none.
func (s *Session) Final() uint64 { return s.final }

// Round returns a round that is no longer open, or round 0, the state before the first.
func (s *Session) Round(n uint64) Round {
	r := s.rounds[n]
	out := Round{Number: n, Members: r.members, Cut: r.cut, Content: r.content, Inputs: r.inputs, Closing: r.closing}
	for _, u := range r.content {
		out.Weight += u.Weight
	}
	return out
}

// Members returns the members of a round, the open one included.
func (s *Session) Members(n uint64) []LogID {
	if n < s.Open() {
		return s.rounds[n].members
	}
	return s.openMembers
}

// PlacedIn returns the round that an update is in; ok is false while it is in none.
func (s *Session) PlacedIn(key Key) (n uint64, ok bool) {
	n, ok = s.placed[key]
	return n, ok
}

// Speaks reports whether a log has a say in a round: it is a member, and not one that the others have forgotten and whose
// return comes only later.
func (s *Session) Speaks(log LogID, n uint64) bool {
	return n > s.base && n <= s.Open() && slices.Contains(s.Members(n), log) && !s.ledger.peers.forgotten(log, s.votersOf(n))
}

// WaitingFor returns the members that keep a round from being final, ascending.
func (s *Session) WaitingFor(n uint64) []LogID {
	switch {
	case n >= s.Open():
		return s.Members(n)
	case n <= s.base:
		return nil
	}
	return s.waitingFor(n)
}

// Sealed reports whether a log's seal for a round, or a skip of it, counts.
func (s *Session) Sealed(log LogID, n uint64) bool {
	switch {
	case n == 0 || n > s.Open():
		return false
	case n <= s.base: // by whomever it had to be
		return true
	}
	_, ok := s.sealOf(log, n, s.votersOf(n))
	return ok
}

// Model returns the digest of a round's model, as anybody computed it from the present inputs; a round without content keeps
// the model before it, and round 0 is the seed. ok is false while nobody has computed it.
func (s *Session) Model(n uint64) (d model.Digest, ok bool) {
	for ; n > 0 && len(s.rounds[n].content) == 0; n-- {
	}
	if n == 0 {
		return s.opened.Seed, true
	}
	if n <= s.base {
		if res := s.rounds[n].versions.of(s.rounds[n].inputs); len(res) > 0 {
			return res[0].Model, true
		}
		return d, false
	}
	by := s.ComputedBy(n)
	if len(by) == 0 {
		return d, false
	}
	return by[0].Model, true
}

// Computation is a peer's word that it has a round's result.
type Computation struct {
	Log LogID
	Result
}

// ComputedBy returns who computed a round from its present inputs, ascending by log; nobody is known to have computed a compacted
// round. The slice is shared: read only.
func (s *Session) ComputedBy(n uint64) []Computation {
	r := s.rounds[n]
	if r.computedSince == s.words[n] {
		return r.computed
	}
	var out []Computation
	for log, cs := range s.computed[n] {
		for _, c := range cs {
			if c.body.Inputs == r.inputs {
				out = append(out, Computation{Log: log, Result: c.body.Result})
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b Computation) int { return a.Log.Compare(b.Log) })
	r.computed, r.computedSince = out, s.words[n]
	return out
}

// ModelAt returns the model of a round that a log's word says its peer has: computed from the round's present inputs, or, when
// the peer skipped the round, the model that others computed.
func (s *Session) ModelAt(log LogID, n uint64) (d model.Digest, ok bool) {
	for _, c := range s.ComputedBy(n) {
		if c.Log == log {
			return c.Model, true
		}
	}
	if n > s.base {
		if s.skipped(log, n, s.votersOf(n)) {
			return s.Model(n)
		}
	}
	return d, false
}

// ContentSince reports whether one of the derived rounds behind from, up to and including to, has content.
func (s *Session) ContentSince(from, to uint64) bool {
	for n := min(to, s.Open()-1); n > from; n-- {
		if len(s.rounds[n].content) > 0 {
			return true
		}
	}
	return false
}

// Most returns the most updates that one combiner has among those of a round.
func Most(content []*UpdateHeld) uint64 {
	var most, run uint64
	for i, u := range content { // by key, so those of a combiner are together
		if i == 0 || u.Combiner != content[i-1].Combiner {
			run = 0
		}
		run++
		most = max(most, run)
	}
	return most
}

// Publication is a version of a round's model that somebody computed, and may have shown to anybody. A round that was amended has several.
type Publication struct {
	Round  uint64
	Inputs model.Digest
	Most   uint64 // the most updates that one combiner has in it
}

// Publications returns every version of every round that the entries know a computation of, by round and inputs.
func (s *Session) Publications() []Publication {
	var out []Publication
	for _, n := range s.versioned() {
		for _, v := range s.versionsOf(n) {
			out = append(out, Publication{Round: n, Inputs: v.inputs, Most: v.most})
		}
	}
	return out
}

// Divergence is two results computed from the same inputs. It is never expected.
type Divergence struct {
	Round   uint64
	Inputs  model.Digest
	Results []Result // ascending
}

// Divergences returns every divergence that the entries show, in any version of any round, by round and inputs.
func (s *Session) Divergences() []Divergence {
	var out []Divergence
	for _, n := range s.versioned() {
		for _, v := range s.versionsOf(n) {
			if len(v.results) > 1 {
				out = append(out, Divergence{Round: n, Inputs: v.inputs, Results: v.results})
			}
		}
	}
	return out
}

// Made returns how many versions of a round somebody computed, and whether any of them came out differently at two peers.
func (s *Session) Made(n uint64) (versions int, divergent bool) {
	vs := s.versionsOf(n)
	for _, v := range vs {
		divergent = divergent || len(v.results) > 1
	}
	return len(vs), divergent
}

// Skipped reports whether a log's peer skipped a round and took its model from another.
func (s *Session) Skipped(log LogID, n uint64) bool {
	return n > s.base && n < s.Open() && s.skipped(log, n, s.votersOf(n))
}

func compareDigests(a, b model.Digest) int { return bytes.Compare(a[:], b[:]) }

// Waiting returns the updates that the last derived round's cut holds and no round counts yet, ascending by key, and
// whether each is lost until somebody holds it anew.
func (s *Session) Waiting() (updates []*UpdateHeld, lost []bool) {
	for _, p := range s.rounds[len(s.rounds)-1].waiting {
		updates = append(updates, p.update)
		lost = append(lost, p.lost > 0)
	}
	return updates, lost
}

// Over reports whether a session that is closed has nothing more to count: its last round is sealed, and no update waits for a
// further one. An update waits that the last round could not count, because it was lost and found, did not fit, or was trained
// from the model of a later round, which somebody had made who is gone.
func (s *Session) Over() bool {
	closing, last := s.Closing()
	if !closing || last == 0 || s.Open() <= last {
		return false
	}
	g := s.gatherOpen()
	return len(g.chosen) == 0 && !g.ahead
}

// finished reports whether a session is over and all its rounds are final.
func (s *Session) finished() bool { return s.final+1 == s.Open() && s.Over() }

// spared reports whether a finished session need not take note that these are forgotten, as too few would remain: it needs
// nobody's word, and its members are settled.
func (s *Session) spared(targets []LogID) bool {
	if !s.finished() {
		return false
	}
	members, remain := s.openMembers, 0
	for _, m := range members {
		if !slices.Contains(targets, m) && !s.ledger.peers.hasLeft(m, nil) {
			remain++
		}
	}
	return 2*remain <= len(members)
}

// RoundOf returns the smallest round that anybody computed a model for; the seed is of round 0.
func (s *Session) RoundOf(d model.Digest) (n uint64, ok bool) {
	if d == s.opened.Seed {
		return 0, true
	}
	n, ok = s.models[d]
	return n, ok
}

// Closing reports whether SessionClosed is held, and the session's last ordinary round once that is decided (0 before).
func (s *Session) Closing() (closing bool, last uint64) {
	if len(s.closed) == 0 {
		return false, 0
	}
	for n := len(s.rounds) - 1; n >= 0 && s.rounds[n].closing; n-- {
		last = uint64(n) + 1
	}
	return true, last
}

// Conflict is two contents that were accepted under one key. Counted is the one that counts.
type Conflict struct {
	Key     Key
	Counted *UpdateHeld
	Others  []*UpdateHeld
}

// Conflicts returns the keys with more than one content, ascending.
func (s *Session) Conflicts() []Conflict {
	var out []Conflict
	for _, u := range s.others {
		if n := len(out); n > 0 && out[n-1].Key == u.Key() {
			out[n-1].Others = append(out[n-1].Others, u)
			continue
		}
		out = append(out, Conflict{Key: u.Key(), Counted: s.Known(u.Key()), Others: []*UpdateHeld{u}})
	}
	for _, key := range s.Keys() {
		if counted, others := s.contents(key); len(others) > 0 {
			out = append(out, Conflict{Key: key, Counted: counted, Others: others})
		}
	}
	slices.SortFunc(out, func(a, b Conflict) int { return a.Key.Compare(b.Key) })
	return out
}

// Conflicted reports whether a key has more than one content.
func (s *Session) Conflicted(key Key) bool {
	if slices.ContainsFunc(s.others, func(u *UpdateHeld) bool { return u.Key() == key }) {
		return true
	}
	_, others := s.contents(key)
	return len(others) > 0
}

// contents returns what was accepted under a key: the content that counts, and others.
func (s *Session) contents(key Key) (counted *UpdateHeld, others []*UpdateHeld) {
	counted = s.Known(key)
	for _, log := range s.logsHolding(key) {
		u := s.copies[key][log].update
		if !u.Same(counted) && !slices.ContainsFunc(others, u.Same) {
			others = append(others, u)
		}
	}
	return counted, others
}

func (s *Session) logsHolding(key Key) []LogID {
	out := make([]LogID, 0, len(s.copies[key]))
	for log := range s.copies[key] {
		out = append(out, log)
	}
	slices.SortFunc(out, LogID.Compare)
	return out
}

// Resolve returns the session that a name stands for: of several with one name, one that has closed a round before one that
// has not, and then the smaller key. clash holds the keys of the others.
func (l *Ledger) Resolve(name string) (s *Session, clash []SessionKey) {
	for _, c := range l.Sessions() {
		if c.Name() != name {
			continue
		}
		switch {
		case s == nil:
			s = c
		case s.Open() == 1 && c.Open() > 1: // Sessions are ascending by key
			clash = append(clash, s.key)
			s = c
		default:
			clash = append(clash, c.key)
		}
	}
	return s, clash
}
