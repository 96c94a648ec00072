package ledger

import (
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

// Session is what the logs say of one training run, and the rounds derived from it. A Session belongs to its Ledger and
// changes with it.
type Session struct {
	key    SessionKey
	ledger *Ledger
	opened *SessionOpened // nil until an opening is held

	// The index of the session's entries.
	held     map[LogID][]heldAt // ascending by seq
	copies   map[Key]map[LogID]copyAt
	keys     []Key // of copies, ascending
	seals    map[uint64]map[LogID]sealAt
	skips    map[LogID][]skipAt // ascending by seq
	computed map[uint64]map[LogID][]computedAt
	words    map[uint64]int // entries in computed, by round
	lost     map[uint64][]lostAt
	closed   []Ref
	models   map[model.Digest]uint64 // the smallest round that anybody computed each model for
	others   []*UpdateHeld           // accepted under a key whose other content a compacted round counts; by key

	// What is derived, and from how many admissions.
	version     uint64
	openMembers []LogID
	pending     *gathered // for the open round; nil when not gathered since
	rounds      []*round  // rounds[0] is the state before round 1
	dirty       int       // rounds from this one on are to be derived again
	placed      map[Key]uint64
	final       uint64 // all rounds up to this one are final
	base        uint64 // all rounds up to this one are compacted
}

type heldAt struct {
	seq    uint64
	update *UpdateHeld
}

type copyAt struct {
	seq     uint64
	update  *UpdateHeld
	dropped bool
}

type sealAt struct {
	seq uint64
	cut Vector
}

type skipAt struct {
	seq, from, to uint64
	seen          Vector
	inputs        []model.Digest
}

// has reports whether the skip was of round n with these inputs.
func (k *skipAt) has(n uint64, inputs model.Digest) bool {
	return k.from <= n && n <= k.to && n-k.from < uint64(len(k.inputs)) && k.inputs[n-k.from] == inputs
}

type computedAt struct {
	seq  uint64
	body *RoundComputed
}

type lostAt struct {
	ref    Ref
	key    Key
	inputs model.Digest
}

func newSession(l *Ledger, key SessionKey) *Session {
	return &Session{
		key: key, ledger: l,
		held: map[LogID][]heldAt{}, copies: map[Key]map[LogID]copyAt{}, seals: map[uint64]map[LogID]sealAt{},
		skips: map[LogID][]skipAt{}, computed: map[uint64]map[LogID][]computedAt{}, lost: map[uint64][]lostAt{},
		words: map[uint64]int{}, models: map[model.Digest]uint64{}, placed: map[Key]uint64{}, dirty: 1,
	}
}

func (l *Ledger) session(key SessionKey) *Session {
	s := l.sessions[key]
	if s == nil {
		s = newSession(l, key)
		l.sessions[key] = s
	}
	return s
}

// index files an admitted entry under what it concerns and marks what must be derived again. An entry that is new here lies
// inside no cut that is held (causal admission), so only what is said about a round as such can change it.
func (l *Ledger) index(e *Entry) {
	switch b := e.Body.(type) {
	case *PeerJoined:
		l.peers.joined[e.Log] = append(l.peers.joined[e.Log], joinedAt{seq: e.Seq, name: b.Name})
	case *PeerLeft:
		l.peers.left[e.Log] = leftAt{seq: e.Seq, seen: b.Seen}
		if len(l.peers.proposals) > 0 { // it stands for the acknowledgements its peer owed
			l.touchAll()
		}
	case *PeerForgotten:
		l.peers.propose(e, b) // binds nothing before it is acknowledged
	case *ForgetAcknowledged:
		l.peers.acknowledge(e, b)
		l.touchAll()
	case *SessionOpened:
		s := l.session(b.Session)
		if s.opened == nil && b.Session == NewSessionKey(b.Name, b.Config, b.Seed, b.Members) {
			s.opened = b
		}
	case *SessionClosed:
		s := l.session(b.Session)
		s.closed = append(s.closed, e.Ref())
	case *UpdateHeld:
		s := l.session(b.Session)
		if s.counted(b.Key()) {
			s.contend(b)
			return
		}
		s.held[e.Log] = append(s.held[e.Log], heldAt{seq: e.Seq, update: b})
		s.extendPending(b)
		s.copy(b.Key(), e.Log, copyAt{seq: e.Seq, update: b})
	case *UpdateDropped:
		s := l.session(b.Session)
		key := Key{Combiner: b.Combiner, ID: b.ID}
		if c, ok := s.copies[key][e.Log]; ok {
			s.copy(key, e.Log, copyAt{seq: e.Seq, update: c.update, dropped: true})
		}
	case *UpdateLost:
		s := l.session(b.Session)
		if b.Round <= s.base {
			return
		}
		s.lost[b.Round] = append(s.lost[b.Round], lostAt{ref: e.Ref(), key: b.Key(), inputs: b.Inputs})
		s.touch(b.Round)
	case *RoundSealed:
		s := l.session(b.Session)
		if b.Round <= s.base {
			return
		}
		if s.seals[b.Round] == nil {
			s.seals[b.Round] = map[LogID]sealAt{}
		}
		if _, again := s.seals[b.Round][e.Log]; !again {
			s.seals[b.Round][e.Log] = sealAt{seq: e.Seq, cut: b.Cut}
			s.touch(b.Round)
		}
	case *RoundsSkipped:
		s := l.session(b.Session)
		if b.To <= s.base {
			return
		}
		s.skips[e.Log] = append(s.skips[e.Log], skipAt{seq: e.Seq, from: b.From, to: b.To, seen: b.Seen, inputs: b.Inputs}) // adds nothing to a round
	case *RoundComputed:
		s := l.session(b.Session)
		if b.Round <= s.base {
			if b.Round > 0 {
				r := s.rounds[b.Round]
				r.versions = r.versions.add(b.Inputs, b.Most, b.Result)
			}
		} else {
			if s.computed[b.Round] == nil {
				s.computed[b.Round] = map[LogID][]computedAt{}
			}
			s.words[b.Round]++
			s.computed[b.Round][e.Log] = append(s.computed[b.Round][e.Log], computedAt{seq: e.Seq, body: b})
		}
		s.named(b.Model, b.Round)
	}
}

// named notes that somebody computed a model for a round.
func (s *Session) named(d model.Digest, n uint64) {
	if first, ok := s.models[d]; !ok || n < first {
		s.models[d] = n
	}
}

func (s *Session) copy(key Key, log LogID, c copyAt) {
	if s.copies[key] == nil {
		s.copies[key] = map[LogID]copyAt{}
		at, _ := slices.BinarySearchFunc(s.keys, key, Key.Compare)
		s.keys = slices.Insert(slices.Clip(s.keys), at, key)
	}
	s.copies[key][log] = c
}

// touchAll has everything derived again. What is final comes out the same.
func (l *Ledger) touchAll() {
	for _, s := range l.sessions {
		s.touch(1)
	}
}

func (s *Session) touch(round uint64) {
	if round = max(round, s.base+1); round < uint64(s.dirty) {
		s.dirty = int(round)
	}
}

// Key returns the session's key.
func (s *Session) Key() SessionKey { return s.key }

// Name returns the session's name.
func (s *Session) Name() string { return s.opened.Name }

// Config returns what the session was opened with.
func (s *Session) Config() Config { return s.opened.Config }

// Seed returns the digest of x_0.
func (s *Session) Seed() model.Digest { return s.opened.Seed }

// Founders returns the members the session was opened with, ascending.
func (s *Session) Founders() []LogID { return s.opened.Members }

// Holders returns the logs whose peers say that they hold the update, ascending, and the update as the first of them says it.
func (s *Session) Holders(key Key) ([]LogID, *UpdateHeld) {
	var out []LogID
	var update *UpdateHeld
	for log, c := range s.copies[key] {
		if !c.dropped {
			out = append(out, log)
		}
	}
	slices.SortFunc(out, LogID.Compare)
	if len(out) > 0 {
		update = s.copies[key][out[0]].update
	}
	return out, update
}

// HoldersOf returns the logs whose peers say that they hold exactly this update, ascending.
func (s *Session) HoldersOf(u *UpdateHeld) []LogID {
	var out []LogID
	for log, c := range s.copies[u.Key()] {
		if !c.dropped && c.update.Same(u) {
			out = append(out, log)
		}
	}
	slices.SortFunc(out, LogID.Compare)
	return out
}

// Known returns what is known of an update under this key: the one that counts, or will count, where that is decided, else
// the canonically smallest. It returns nil when there is none.
func (s *Session) Known(key Key) *UpdateHeld {
	if r, ok := s.placed[key]; ok {
		content := s.rounds[r].content
		at, _ := slices.BinarySearchFunc(content, key, func(u *UpdateHeld, k Key) int { return u.Key().Compare(k) })
		return content[at]
	}
	if p := s.rounds[len(s.rounds)-1].pending(key); p != nil {
		return p.update
	}
	var best *UpdateHeld
	for _, c := range s.copies[key] {
		best = smaller(best, c.update)
	}
	return best
}

// Keys returns the key of every update that anybody ever held and that no compacted round counts, ascending. The slice is shared:
// read only.
func (s *Session) Keys() []Key { return s.keys }

// sealOf returns a log's seal for a round: the first entry of that log that seals or skips it, unless it is void. The cut of
// a skip is nil.
func (s *Session) sealOf(log LogID, r uint64, v voters) (sealAt, bool) {
	seals := s.seals[r]
	if len(seals) == 0 {
		// Who skips has seen somebody seal. So skips alone open no round, and one that claims to reach to the end of time
		// keeps nobody busy until then.
		return sealAt{}, false
	}
	seal, ok := seals[log]
	for _, k := range s.skips[log] {
		if k.from <= r && r <= k.to && (!ok || k.seq < seal.seq) {
			seal, ok = sealAt{seq: k.seq}, true
		}
	}
	if ok && s.ledger.peers.void(log, seal.seq, v) {
		return sealAt{}, false
	}
	return seal, ok
}

// skipped reports whether a log skipped a round.
func (s *Session) skipped(log LogID, r uint64, v voters) bool {
	for _, k := range s.skips[log] {
		if k.from <= r && r <= k.to && !s.ledger.peers.void(log, k.seq, v) {
			return true
		}
	}
	return false
}
