package ledger

import (
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

// Models returns the digests of the session's seed and of every model that anybody computed in it, ascending.
func (s *Session) Models() []model.Digest {
	out := make([]model.Digest, 0, len(s.models)+1)
	for d := range s.models {
		out = append(out, d)
	}
	if _, computed := s.models[s.opened.Seed]; !computed {
		out = append(out, s.opened.Seed)
	}
	slices.SortFunc(out, compareDigests)
	return out
}

// Results returns what the versions of rounds from one on gave, of every version that anybody computed: while a round is not
// final, a version that a late fact undid may come back.
func (s *Session) Results(from uint64) []Result {
	var out []Result
	for _, n := range s.versioned() {
		if n < from {
			continue
		}
		for _, v := range s.versionsOf(n) {
			out = append(out, v.results...)
		}
	}
	return out
}

// Versions returns the contents that peers say they hold under a key, by holder. There is more than one only in a conflict.
func (s *Session) Versions(key Key) []*UpdateHeld {
	var out []*UpdateHeld
	for _, log := range s.logsHolding(key) {
		if u := s.copies[key][log].update; !slices.ContainsFunc(out, u.Same) {
			out = append(out, u)
		}
	}
	return out
}

// HeldWithin reports whether an entry inside the cut says that its peer holds, or held, an update under this key.
func (s *Session) HeldWithin(key Key, cut Vector) bool {
	if s.counted(key) {
		return true
	}
	for log, c := range s.copies[key] {
		if c.seq <= cut[log] {
			return true
		}
	}
	return false
}

// LostIn returns the keys of the updates that a derived round gave up, ascending.
func (s *Session) LostIn(n uint64) []Key {
	var out []Key
	if n >= s.Open() {
		return nil
	}
	for _, p := range s.rounds[n].waiting {
		if p.lost == n {
			out = append(out, p.update.Key())
		}
	}
	return out
}
