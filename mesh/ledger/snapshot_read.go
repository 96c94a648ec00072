package ledger

import (
	"errors"
	"fmt"
	"hash"
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

// snapshotReader puts a snapshot together from its frames.
type snapshotReader struct {
	snapshot Snapshot
	sum      hash.Hash // of the frames
	count    uint64
	last     frameKind
	rounds   uint64 // of the present session, as announced
	done     bool
}

// frame takes the next frame.
func (sr *snapshotReader) frame(b []byte) error {
	if sr.sum == nil {
		sr.sum = model.NewHash()
	}
	_, _ = sr.sum.Write(b)
	d := newDecoder(b)
	fields := d.array(1)
	kind := frameKind(d.uint())
	if d.err == nil && !sr.follows(kind) {
		return fmt.Errorf("kind %d behind kind %d", kind, sr.last)
	}
	want := map[frameKind]int{
		frameLog: 5, frameSession: 5, frameRound: 2, frameCounted: 1, frameResult: 4, frameWaiting: 2, frameOther: 1, frameEntry: 1, frameEnd: 1,
	}[kind]
	if d.err == nil && fields != want+1 {
		return fmt.Errorf("%d fields of kind %d", fields, kind)
	}
	err := sr.take(kind, d)
	if err = errors.Join(d.err, err); err != nil {
		return err
	}
	if d.r.Len() > 0 {
		return fmt.Errorf("%d bytes behind its fields", d.r.Len())
	}
	sr.count, sr.last = sr.count+1, kind
	return nil
}

// follows reports whether a frame of a kind may stand behind the last.
func (sr *snapshotReader) follows(kind frameKind) bool {
	inSession := len(sr.snapshot.sessions) > 0 && sr.last < frameEntry
	complete := !inSession || uint64(len(sr.session().rounds)) == sr.rounds
	switch kind {
	case frameLog:
		return sr.last <= frameLog
	case frameSession:
		return sr.last < frameEntry && complete
	case frameRound:
		return inSession && !complete
	case frameCounted, frameResult:
		return inSession && len(sr.session().rounds) > 0 && (sr.last == frameRound || sr.last == frameCounted || sr.last == frameResult)
	case frameWaiting, frameOther:
		return inSession && complete && sr.last <= kind
	case frameEntry, frameEnd:
		return complete
	}
	return false
}

func (sr *snapshotReader) session() *sessionState {
	return &sr.snapshot.sessions[len(sr.snapshot.sessions)-1]
}

func (sr *snapshotReader) take(kind frameKind, d *decoder) error {
	n := &sr.snapshot
	switch kind {
	case frameLog:
		n.logs = append(n.logs, logState{log: d.log(), count: d.uint(), base: d.uint(), last: d.sum(), ended: d.flag()})
	case frameSession:
		key, rounds := d.sum(), d.uint()
		base := &round{members: d.logs()}
		st := sessionState{key: key, from: d.vector(), base: base}
		base.cut = d.vector()
		if rounds == 0 {
			return errors.New("a session without rounds")
		}
		n.sessions, sr.rounds = append(n.sessions, st), rounds
	case frameRound:
		st := sr.session()
		r := &round{}
		if uint64(len(st.rounds))+1 == sr.rounds {
			r = st.base
		}
		r.inputs, r.closing = d.sum(), d.flag()
		st.rounds = append(st.rounds, r)
	case frameCounted:
		r := sr.round()
		r.content = append(r.content, d.held())
	case frameResult:
		r := sr.round()
		inputs, most, res := d.sum(), d.uint(), Result{Model: d.sum(), State: d.sum()}
		r.versions = r.versions.add(inputs, most, res)
	case frameWaiting:
		st := sr.session()
		st.base.waiting = append(st.base.waiting, pending{update: d.held(), lost: d.uint()})
	case frameOther:
		st := sr.session()
		st.others = append(st.others, d.held())
	case frameEntry:
		raw := d.raw()
		if d.err != nil {
			return nil
		}
		e, err := DecodeEntry(raw)
		if err != nil {
			return err
		}
		n.entries = append(n.entries, e)
	case frameEnd:
		if count := d.uint(); d.err == nil && count != sr.count {
			return fmt.Errorf("%d frames, %d announced", sr.count, count)
		}
		sr.done = true
	}
	return nil
}

func (sr *snapshotReader) round() *round {
	st := sr.session()
	return st.rounds[len(st.rounds)-1]
}

// check holds a whole snapshot to what every ledger's is.
func (sr *snapshotReader) check() error {
	n := &sr.snapshot
	if !strictly(n.logs, func(a, b logState) int { return a.log.Compare(b.log) }) {
		return errors.New("logs out of order")
	}
	if !strictly(n.sessions, func(a, b sessionState) int { return compareDigests(a.key, b.key) }) {
		return errors.New("sessions out of order")
	}
	if !strictly(n.entries, func(a, b *Entry) int { return a.Ref().Compare(b.Ref()) }) {
		return errors.New("entries out of order")
	}
	opened := map[SessionKey]bool{}
	rest := n.entries
	for _, st := range n.logs {
		end := 0
		for end < len(rest) && rest[end].Log == st.log {
			end++
		}
		if err := st.check(rest[:end], n.Vector(), opened); err != nil {
			return fmt.Errorf("log %s: %w", st.log.Short(), err)
		}
		rest = rest[end:]
	}
	if len(rest) > 0 {
		return fmt.Errorf("an entry of log %s, which is not announced", rest[0].Log.Short())
	}
	for _, st := range n.sessions {
		if !opened[st.key] {
			return fmt.Errorf("session %s is not opened by any entry", st.key.Short())
		}
		if err := st.check(); err != nil {
			return fmt.Errorf("session %s: %w", st.key.Short(), err)
		}
	}
	return nil
}

// check holds a log to its entries: behind the base all are there and in a chain. It notes the sessions that they open.
func (st *logState) check(entries []*Entry, v Vector, opened map[SessionKey]bool) error {
	if st.count == 0 || st.base > st.count {
		return fmt.Errorf("%d entries, %d of them compacted", st.count, st.base)
	}
	next, prev := st.base+1, zeroDigest
	for _, e := range entries {
		for log, seq := range named(e.Body) {
			if seq > v[log] {
				return fmt.Errorf("entry %d names what the snapshot lacks", e.Seq)
			}
		}
		if b, ok := e.Body.(*SessionOpened); ok && b.Session == NewSessionKey(b.Name, b.Config, b.Seed, b.Members) {
			opened[b.Session] = true
		}
		if e.Seq <= st.base {
			prev = zeroDigest
			if e.Seq == st.base {
				prev = e.Digest
			}
			continue
		}
		if e.Seq != next || prev != zeroDigest && e.Prev != prev {
			return fmt.Errorf("entry %d does not continue the log", e.Seq)
		}
		next, prev = next+1, e.Digest
	}
	if next != st.count+1 {
		return fmt.Errorf("entries up to %d, %d announced", next-1, st.count)
	}
	if st.base < st.count && (prev != st.last || (entries[len(entries)-1].Body.Kind() == KindPeerLeft) != st.ended) {
		return errors.New("its end is not that of its entries")
	}
	return nil
}

// named returns everything that an entry must be admitted behind.
func named(b Body) Vector {
	v := Vector{}
	b.needs(func(log LogID, seq uint64) { v.Join(Vector{log: seq}) })
	return v
}

// check holds the compacted part of a session to what derived rounds are.
func (st *sessionState) check() error {
	byKey := func(a, b *UpdateHeld) int { return a.Key().Compare(b.Key()) }
	placed := map[Key]bool{}
	for i, r := range st.rounds {
		if !strictly(r.content, byKey) {
			return fmt.Errorf("the content of round %d is out of order", i+1)
		}
		var weight uint64
		for _, u := range r.content {
			if weight += u.Weight; weight > MaxWeight || u.BaseRound > uint64(i) || placed[u.Key()] || u.Session != st.key {
				return fmt.Errorf("%v cannot be in round %d", u.Key(), i+1)
			}
			placed[u.Key()] = true
		}
	}
	if !strictly(st.base.waiting, func(a, b pending) int { return byKey(a.update, b.update) }) {
		return errors.New("waiting updates out of order")
	}
	for _, p := range st.base.waiting {
		if placed[p.update.Key()] || p.lost > uint64(len(st.rounds)) || p.update.Session != st.key {
			return fmt.Errorf("%v cannot wait", p.update.Key())
		}
	}
	if slices.ContainsFunc(st.others, func(u *UpdateHeld) bool { return !placed[u.Key()] || u.Session != st.key }) {
		return errors.New("a conflict with nothing")
	}
	return nil
}
