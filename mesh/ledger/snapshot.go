package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

// Snapshot is a ledger's state in place of its entries: how long each log is, what compacted rounds counted and gave, and the entries
// that still matter. It is immutable, and shares with the ledger what never changes. FORMAT.md is its encoding.
type Snapshot struct {
	logs     []logState     // ascending
	sessions []sessionState // ascending; those with compacted rounds
	entries  []*Entry       // by log and number
}

// logState is the state of one log.
type logState struct {
	log   LogID
	count uint64 // admitted entries
	base  uint64 // up to here some may be missing
	last  model.Digest
	ended bool
}

// sessionState is the compacted part of a session.
type sessionState struct {
	key    SessionKey
	from   Vector        // the cut before the base
	rounds []*round      // from round 1 to the base
	base   *round        // the last of them, with its members, cut and waiting
	others []*UpdateHeld // as in Session
}

// Vector returns how much of each log is in the snapshot.
func (n *Snapshot) Vector() Vector {
	v := make(Vector, len(n.logs))
	for _, s := range n.logs {
		v[s.log] = s.count
	}
	return v
}

// Snapshot returns the ledger's state. What waits for admission is not in it.
func (l *Ledger) Snapshot() *Snapshot {
	n := &Snapshot{}
	for _, log := range l.vector.Logs() {
		j := l.logs[log]
		n.logs = append(n.logs, logState{log: log, count: l.vector[log], base: j.base, last: j.last, ended: j.ended})
		n.entries = append(n.entries, j.entries...)
	}
	for _, key := range slices.SortedFunc(maps.Keys(l.sessions), compareDigests) {
		s := l.Session(key)
		if s == nil || s.base == 0 {
			continue
		}
		st := sessionState{key: key, from: s.rounds[s.base-1].cut, others: slices.Clone(s.others)}
		for _, r := range s.rounds[1 : s.base+1] {
			shared := *r // versions may still be added
			shared.versions = slices.Clone(r.versions)
			st.rounds = append(st.rounds, &shared)
		}
		st.base = st.rounds[len(st.rounds)-1]
		n.sessions = append(n.sessions, st)
	}
	return n
}

// Merge adds what a snapshot holds: of each log the part that is not held here, of each session the compacted rounds where these reach
// further. Merging is a join, like adding entries. It returns the entries that waited and are admitted now. An error concerns single logs,
// which have two contents; the rest is merged all the same.
func (l *Ledger) Merge(n *Snapshot) (admitted []*Entry, err error) {
	entries, err := l.lacking(n)
	var opened []*Session
	for _, st := range n.sessions {
		if s := l.session(st.key); s.learn(st) {
			opened = append(opened, s)
		}
	}
	// An acknowledgement is filed under its proposal, so proposals come first.
	for _, e := range entries {
		if e.Body.Kind() == KindPeerForgotten {
			l.index(e)
		}
	}
	for _, e := range entries {
		if e.Body.Kind() != KindPeerForgotten {
			l.index(e)
		}
	}
	for _, s := range opened {
		s.rounds[0] = s.start()
	}
	l.version++
	for _, s := range l.sessions {
		s.pending = nil
	}
	for log, w := range l.outside {
		for seq, e := range w {
			if seq <= l.vector[log] {
				delete(w, seq)
				l.waiting -= len(e.Raw)
			}
		}
	}
	for _, log := range slices.SortedFunc(maps.Keys(l.outside), LogID.Compare) {
		es, refused := l.settle(log)
		admitted, err = append(admitted, es...), errors.Join(err, refused)
	}
	return admitted, err
}

// lacking extends the logs by what a snapshot holds more of them and returns those entries, which are to be indexed.
func (l *Ledger) lacking(n *Snapshot) (entries []*Entry, err error) {
	all := n.entries
	for _, st := range n.logs {
		of := all[:0:0]
		for len(all) > 0 && all[0].Log == st.log {
			of, all = append(of, all[0]), all[1:]
		}
		have := l.vector[st.log]
		if forked := l.forked(st, of); forked {
			err = errors.Join(err, fmt.Errorf("%w: log %s is another one in a snapshot", ErrForked, st.log))
			continue
		}
		if st.count <= have {
			continue
		}
		j := l.logs[st.log]
		if j == nil {
			j = &journal{}
			l.logs[st.log] = j
		}
		if st.base > have {
			j.base = st.base
		}
		for _, e := range of {
			if e.Seq > have {
				j.entries = append(j.entries, e)
				entries = append(entries, e)
			}
		}
		j.last, j.ended = st.last, st.ended
		l.vector[st.log] = st.count
	}
	return entries, err
}

// forked reports whether a log as a snapshot has it contradicts what is held here.
func (l *Ledger) forked(st logState, entries []*Entry) bool {
	j, have := l.logs[st.log], l.vector[st.log]
	if j == nil || have == 0 {
		return false
	}
	if st.count == have && st.last != j.last || j.ended && st.count > have {
		return true
	}
	for _, e := range entries {
		switch {
		case e.Seq == have+1 && e.Prev != j.last:
			return true
		case e.Seq <= have:
			if mine := l.Entry(e.Ref()); mine != nil && mine.Digest != e.Digest {
				return true
			}
		}
	}
	return false
}

// learn takes over what a snapshot says of compacted rounds, and with it their contents where it reaches further than what is compacted
// here, which it reports. Round 0 is then left to the caller, who may not know the opening yet.
func (s *Session) learn(st sessionState) (further bool) {
	base := uint64(len(st.rounds))
	known := make([]versions, base+1)
	for n := uint64(1); n <= base; n++ {
		known[n] = s.versionsOf(n)
	}
	if further = base > s.base; further {
		s.adopt(st)
	}
	for n := uint64(1); n <= base; n++ {
		r := s.rounds[n]
		for _, v := range append(known[n], st.rounds[n-1].versions...) {
			for _, res := range v.results {
				r.versions = r.versions.add(v.inputs, v.most, res)
				s.named(res.Model, n)
			}
		}
	}
	for _, u := range st.others {
		s.contend(u)
	}
	return further
}

// adopt makes a snapshot's compacted rounds those of the session.
func (s *Session) adopt(st sessionState) {
	base := uint64(len(st.rounds))
	s.rounds = make([]*round, 1, base+1)
	clear(s.placed)
	for i, r := range st.rounds {
		left := &round{content: r.content, inputs: r.inputs, closing: r.closing, cut: r.cut, members: r.members, waiting: r.waiting}
		s.rounds = append(s.rounds, left)
		for _, u := range r.content {
			s.placed[u.Key()] = uint64(i) + 1
		}
	}
	if base > 1 {
		s.rounds[base-1].cut = st.from
	}
	s.final = max(s.final, base)
	s.setBase(base)
	s.dirty = int(base) + 1
}
