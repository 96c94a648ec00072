package ledger

import (
	"maps"
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

// Replica is what one peer decides: when it seals a round, when it waits no longer for other seals, which model it needs
// next, what it gives up as lost. It owns one log of its ledger. Like the ledger it has no clock and does no I/O; it is
// driven as follows, from one goroutine at a time.
//
//   - Whatever arrives from other peers goes to Ledger().Add.
//   - Tick is called after anything changed and when the time it last returned has come. The entries it returns, and those of
//     Append, must be durable, in the order they were appended, before anybody else sees them.
//   - Every Work that Tick returns describes the model needed next in one session. The driver takes it from a peer or computes
//     it, then calls HoldModel or Computed; when neither can be done, it calls Missing. Work is returned again at each Tick
//     until it is done or no longer wanted: the driver runs one piece a session at a time.
type Replica struct {
	ledger   *Ledger
	self     LogID
	alive    map[LogID]bool
	synced   bool
	models   map[model.Digest]bool   // models and states whose bytes are here; true when they would survive a power cut
	results  map[model.Digest]Result // by inputs, as computed here
	sessions map[SessionKey]*local
	changes  uint64 // of alive and models
}

// local is what a peer knows of one session by itself. None of it is shared, and all of it may be lost.
type local struct {
	have     int64 // the last round whose model is here; -1: not even the seed
	opened   uint64
	openedAt Time
	sealed   map[uint64]Time // when a seal for a round was first known here
	missing  map[Key]Time    // updates of the next round that nobody delivers, since when
	missFor  model.Digest    // the inputs they are missing for
	settled  accounted
}

// accounted is what a peer knew when it found that it owed no word to any round.
type accounted struct {
	version, changes uint64
	have             int64
}

// Ready is what a Tick asks of the driver.
type Ready struct {
	Entries []*Entry // appended by this Tick, in order
	Work    []Work   // by session key
	Awaited []LogID  // peers whose seals are waited for: see whether they live, and whether they have sealed already
	Wake    Time     // when to call Tick again at the latest, if WakeSet
	WakeSet bool
}

// Work describes the model that a session needs next here: computed from the round's content and the model before it, or
// taken, this or a later one, from a peer that has it. For a session whose seed is not here Round is 0 and the seed can
// only be taken; it is 0 too where the next rounds are compacted, and a later model can only be taken.
type Work struct {
	Session  SessionKey
	Round    Round
	Previous Result // of the round before
	Takes    []Take // latest round first
}

// Take is a result that others have.
type Take struct {
	Round  uint64
	Inputs model.Digest
	Result
	Holders []LogID // not taken for dead, ascending
}

// NewReplica returns the replica of the peer that writes the log self.
func NewReplica(l *Ledger, self LogID) *Replica {
	return &Replica{
		ledger: l, self: self, alive: map[LogID]bool{}, models: map[model.Digest]bool{},
		results: map[model.Digest]Result{}, sessions: map[SessionKey]*local{},
	}
}

// Ledger returns the ledger.
func (r *Replica) Ledger() *Ledger { return r.ledger }

// Self returns the id of the replica's own log.
func (r *Replica) Self() LogID { return r.self }

// Append appends a fact to the replica's own log. It fills in what a PeerLeft has seen.
func (r *Replica) Append(body Body) (*Entry, error) {
	if left, ok := body.(*PeerLeft); ok && left.Seen == nil {
		body = &PeerLeft{Seen: r.ledger.vector.Clone()}
	}
	return r.ledger.Append(r.self, body)
}

// SetAlive replaces the set of logs whose peers are not taken for dead. The replica's own is always in it.
func (r *Replica) SetAlive(logs []LogID) {
	r.changes++
	r.alive = map[LogID]bool{r.self: true}
	for _, log := range logs {
		r.alive[log] = true
	}
}

// SetSynced says whether the replica has exchanged vectors with the others since it started, or since it was stalled. Until then
// it seals nothing.
func (r *Replica) SetSynced(ok bool) { r.synced = ok }

// HoldModel says that the bytes of a model or a state are here, and whether they would survive a power cut. A round's model is
// served as soon as it is here with its state, but the peer gives its word for them (RoundComputed, RoundsSkipped) only when both are
// durable: upon that word others delete what they were made of.
func (r *Replica) HoldModel(d model.Digest, durable bool) {
	r.changes++
	r.models[d] = r.models[d] || durable
}

// DropModel says that the bytes of a model or a state are no longer here.
func (r *Replica) DropModel(d model.Digest) {
	r.changes++
	delete(r.models, d)
	maps.DeleteFunc(r.results, func(_ model.Digest, res Result) bool { return res.Model == d || res.State == d })
}

// HoldsModel reports whether the bytes of a model or a state are here.
func (r *Replica) HoldsModel(d model.Digest) bool { return has(r.models, d) }

// Computed says that a result was computed here from these inputs, and that its bytes are here. Of what it was computed from this peer
// need not have everything, sums that others made do; but what it has must stay here until the round is final, because a late
// seal may enlarge the round when nobody else is left who has it, and the result may be called durable (here or by HoldModel) only
// when those bytes are too.
func (r *Replica) Computed(inputs model.Digest, res Result, durable bool) {
	r.results[inputs] = res
	r.HoldModel(res.Model, durable)
	if !res.State.IsZero() {
		r.HoldModel(res.State, durable)
	}
}

func has[K comparable, V any](m map[K]V, k K) bool {
	_, ok := m[k]
	return ok
}

// Missing says which updates, of all that a piece of work asked for, nobody delivers at this time; none when all were.
func (r *Replica) Missing(session SessionKey, inputs model.Digest, keys []Key, now Time) {
	ls := r.local(session)
	old := ls.missing
	if ls.missFor != inputs {
		old = nil
	}
	ls.missFor, ls.missing = inputs, map[Key]Time{}
	for _, k := range keys {
		since, ok := old[k]
		if !ok {
			since = now
		}
		ls.missing[k] = since
	}
}

func (r *Replica) local(key SessionKey) *local {
	ls := r.sessions[key]
	if ls == nil {
		ls = &local{have: -1, sealed: map[uint64]Time{}}
		r.sessions[key] = ls
	}
	return ls
}

// Current returns the last round whose model is here, and the model; ok is false while not even the seed is.
func (r *Replica) Current(s *Session) (round uint64, d model.Digest, ok bool) {
	ls := r.local(s.key)
	for n := min(max(ls.have, 0), int64(s.Open())-1); n >= 0; n-- { // the seed may have come since the last Tick
		if res, ok := r.resultOf(s, uint64(n)); ok {
			return uint64(n), res.Model, true
		}
	}
	return 0, d, false
}

// ResultOf returns what a round gave if its bytes, the state's too, are here.
func (r *Replica) ResultOf(s *Session, n uint64) (res Result, ok bool) {
	if n >= s.Open() {
		return res, false
	}
	return r.resultOf(s, n)
}

// Done reports whether this peer needs the updates of a round no more: the round is final, and its model or that of a later round
// is here. Until then it keeps their bytes, since others may have skipped the round without having its model.
func (r *Replica) Done(s *Session, n uint64) bool {
	have, _, ok := r.Current(s)
	return ok && n <= s.Final() && n <= have
}

// Accepting reports whether a session still takes new updates here: not once its last round is sealed.
func (r *Replica) Accepting(s *Session) bool {
	_, last := s.Closing()
	return last == 0 || !s.Sealed(r.self, last)
}

// MayHold reports whether this peer may say that it holds an update: no other content is known under the key; the session still takes
// it here; and its base round is known here. Else the peer might be left with an update that none of the rounds it will ever know is
// late enough to count; it refuses until it has heard more.
func (r *Replica) MayHold(s *Session, u *UpdateHeld) bool {
	if known := s.Known(u.Key()); known != nil {
		if !known.Same(u) {
			return false
		}
	} else if !r.Accepting(s) {
		return false
	}
	return u.BaseRound < s.Open()
}

// Alive reports whether a log's peer is not taken for dead.
func (r *Replica) Alive(log LogID) bool { return log == r.self || r.alive[log] }

// Tick makes all decisions that are due.
func (r *Replica) Tick(now Time) Ready {
	var ready Ready
	if r.synced {
		r.acknowledge(&ready)
		r.comeBack(&ready)
	}
	keys := slices.SortedFunc(maps.Keys(r.ledger.sessions), compareDigests)
	for _, key := range keys {
		if s := r.ledger.Session(key); s != nil {
			r.tick(s, now, &ready)
		}
	}
	return ready
}

func (r *Replica) tick(s *Session, now Time, ready *Ready) {
	ls := r.local(s.key)
	for {
		s.derive()
		r.advance(s, ls, now)
		if r.account(s, ls, ready) || r.seal(s, ls, now, ready) || r.giveUp(s, ls, now, ready) || r.holdAnew(s, ready) {
			continue
		}
		break
	}
	if w, ok := r.work(s, ls, now, ready); ok {
		ready.Work = append(ready.Work, w)
	}
}

func (r *Replica) say(body Body, ready *Ready) bool {
	e, err := r.Append(body)
	if err != nil { // the log has ended: the peer is leaving and decides nothing more
		return false
	}
	ready.Entries = append(ready.Entries, e)
	return true
}

func (ready *Ready) wake(at Time) {
	if !ready.WakeSet || at < ready.Wake {
		ready.Wake, ready.WakeSet = at, true
	}
}

// acknowledge agrees to proposals of forgetting, but to none of a peer that this one has agreed to forget: two operators on the
// two sides of a partition cannot forget each other. Nor to one that, with those it has agreed to, leaves half or less of a
// session's members: forgotten one by one, nobody would be left to speak.
func (r *Replica) acknowledge(ready *Ready) {
	ps := &r.ledger.peers
	if len(ps.joined[r.self]) == 0 || ps.hasLeft(r.self, nil) {
		return
	}
	for i := range ps.proposals {
		q := &ps.proposals[i]
		if _, done := q.acks[r.self]; done || slices.Contains(q.targets, r.self) || ps.allReturned(q) || r.against(q.ref.Log) || !r.enoughWithout(q.targets) || r.unfinished(q.targets) {
			continue
		}
		upto := Vector{}
		for _, t := range q.targets {
			if n := r.ledger.vector[t]; n > 0 {
				upto[t] = n
			}
		}
		r.say(&ForgetAcknowledged{Proposal: q.ref, Upto: upto}, ready)
	}
}

// comeBack returns to the mesh a peer that the others have forgotten.
func (r *Replica) comeBack(ready *Ready) {
	if !slices.ContainsFunc(r.ledger.peers.proposals, func(q proposal) bool { return slices.Contains(q.targets, r.self) }) {
		return
	}
	for _, key := range slices.SortedFunc(maps.Keys(r.ledger.sessions), compareDigests) {
		s := r.ledger.Session(key)
		if s == nil {
			continue
		}
		for n := uint64(1); n <= s.Open(); n++ {
			if !slices.Contains(s.Members(n), r.self) || !r.ledger.peers.mustReturn(r.self, s.Members(n)) {
				continue
			}
			last := r.ledger.peers.joined[r.self]
			e := r.ledger.Entry(Ref{Log: r.self, Seq: last[len(last)-1].seq})
			if joined, ok := e.Body.(*PeerJoined); ok {
				r.say(&PeerJoined{Name: joined.Name, Mesh: joined.Mesh}, ready)
			}
			break
		}
	}
}

// unfinished reports whether this peer has agreed to forget others than these, and there are rounds still in which that matters.
// Of two forgettings that bind one round, one could need the word of a peer that the other had silenced, and take effect
// when the round is final already without it.
func (r *Replica) unfinished(targets []LogID) bool {
	for _, q := range r.ledger.peers.proposals {
		if a, acked := q.acks[r.self]; acked && !slices.Equal(q.targets, targets) && r.matters(q.targets, a.upto) {
			return true
		}
	}
	return false
}

// matters reports whether one of the targets is, from before its return, a member of a round that is not final here.
func (r *Replica) matters(targets []LogID, upto Vector) bool {
	for key := range r.ledger.sessions {
		s := r.ledger.Session(key)
		if s == nil || s.spared(targets) {
			continue
		}
		for n := s.final + 1; n <= s.Open(); n++ {
			v := s.votersOf(n)
			if slices.ContainsFunc(targets, func(t LogID) bool {
				return slices.Contains(v.members, t) && !r.ledger.peers.rejoined(t, upto[t], v.before[t])
			}) {
				return true
			}
		}
	}
	return false
}

// enoughWithout reports whether, in every session that is not finished, more than half of the members would remain without these and without those
// that this peer has agreed to forget already.
func (r *Replica) enoughWithout(targets []LogID) bool {
	for key := range r.ledger.sessions {
		s := r.ledger.Session(key)
		if s == nil || s.finished() {
			continue
		}
		members, left := s.Members(s.Open()), 0
		for _, m := range members {
			if !slices.Contains(targets, m) && !r.against(m) && !r.ledger.peers.hasLeft(m, nil) {
				left++
			}
		}
		if slices.Contains(members, r.self) && 2*left <= len(members) {
			return false
		}
	}
	return true
}

// MayLeave reports whether, in every session that is not over, somebody who is alive will still have a say when this peer has left.
func (r *Replica) MayLeave() bool {
	for key := range r.ledger.sessions {
		s := r.ledger.Session(key)
		if s == nil || !s.Speaks(r.self, s.Open()) || s.Over() && s.Final() == s.Open()-1 {
			continue
		}
		if !slices.ContainsFunc(s.Members(s.Open()), func(m LogID) bool {
			return m != r.self && r.Alive(m) && s.Speaks(m, s.Open()) && !r.ledger.peers.hasLeft(m, nil)
		}) {
			return false
		}
	}
	return true
}

// against reports whether this peer has acknowledged a proposal that targets a log, and the log has not returned since.
func (r *Replica) against(log LogID) bool {
	ps := &r.ledger.peers
	return slices.ContainsFunc(ps.proposals, func(q proposal) bool {
		a, acked := q.acks[r.self]
		return acked && slices.Contains(q.targets, log) && !ps.rejoined(log, a.upto[log], ^uint64(0))
	})
}
