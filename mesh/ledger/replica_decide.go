package ledger

import (
	"maps"
	"slices"
)

// resultOf returns what a derived round gave if its bytes are here.
func (r *Replica) resultOf(s *Session, n uint64) (res Result, ok bool) {
	if n == 0 {
		res.Model = s.opened.Seed
		return res, r.here(res)
	}
	if res, ok = r.results[s.rounds[n].inputs]; ok && r.here(res) {
		return res, true
	}
	if n <= s.base {
		for _, res := range s.rounds[n].versions.of(s.rounds[n].inputs) {
			if r.here(res) {
				return res, true
			}
		}
		return res, false
	}
	for _, c := range s.ComputedBy(n) {
		if r.here(c.Result) {
			return c.Result, true
		}
	}
	return res, false
}

func (r *Replica) here(res Result) bool {
	return has(r.models, res.Model) && (res.State.IsZero() || has(r.models, res.State))
}

func (r *Replica) durable(res Result) bool {
	return r.models[res.Model] && (res.State.IsZero() || r.models[res.State])
}

// advance finds the last round whose model is here and opens the one after it.
func (r *Replica) advance(s *Session, ls *local, now Time) {
	last := s.Open() - 1
	if _, known := ls.sealed[last]; !known && last > 0 {
		ls.sealed[last] = now
		maps.DeleteFunc(ls.sealed, func(n uint64, _ Time) bool { return n < last })
	}
	ls.have = -1
	for n := int64(last); n >= 0; n-- {
		if _, ok := r.resultOf(s, uint64(n)); ok {
			ls.have = n
			break
		}
	}
	// A round without content keeps the model: nothing is computed for it, but it is waited for like any other.
	for ls.have >= 0 && ls.have < int64(last) {
		n := uint64(ls.have + 1)
		if len(s.rounds[n].content) > 0 || !r.mayCompute(s, n) || !r.settled(s, ls, n, now) {
			break
		}
		r.results[s.rounds[n].inputs], _ = r.resultOf(s, uint64(ls.have))
		ls.have++
	}
	// A round may also vanish: the only seal for it was that of a peer that is forgotten now.
	if open := uint64(ls.have + 1); open > ls.opened || ls.opened > s.Open() {
		ls.opened, ls.openedAt = open, now
	}
}

// mayCompute reports whether this peer has said its part of a round, or has none to say.
func (r *Replica) mayCompute(s *Session, n uint64) bool {
	return n <= s.base || !s.Speaks(r.self, n) || s.Sealed(r.self, n) || r.behind(s, n)
}

// behind reports whether somebody else has computed this round, or sealed a later one.
func (r *Replica) behind(s *Session, n uint64) bool {
	for m := n; m < s.Open(); m++ {
		for log := range s.computed[m] {
			if log != r.self {
				return true
			}
		}
		if m == n {
			continue
		}
		for _, log := range s.rounds[m].members {
			if log != r.self && s.Sealed(log, m) {
				return true
			}
		}
	}
	return false
}

// settled reports whether this peer waits no longer for seals of a round: everybody it takes for alive has sealed, or the
// settle timeout has passed, or somebody went on.
func (r *Replica) settled(s *Session, ls *local, n uint64, now Time) bool {
	if n < s.Open()-1 || len(s.ComputedBy(n)) > 0 {
		return true
	}
	return len(r.awaited(s, n)) == 0 || now >= ls.sealed[n]+s.opened.Config.SettleTimeout
}

// awaited returns the members that are taken for alive and have not sealed a round.
func (r *Replica) awaited(s *Session, n uint64) []LogID {
	var out []LogID
	for _, m := range s.rounds[n].members {
		if r.Alive(m) && s.Speaks(m, n) && !s.Sealed(m, n) && !r.ledger.peers.hasLeft(m, nil) {
			out = append(out, m)
		}
	}
	return out
}

// maxSkip bounds the rounds in one RoundsSkipped.
const maxSkip = 1 << 14

// account appends what this peer owes to rounds whose model it durably has: its computation of those it sealed, a skip for
// the others.
func (r *Replica) account(s *Session, ls *local, ready *Ready) bool {
	now := accounted{version: r.ledger.version, changes: r.changes, have: ls.have}
	if now == ls.settled {
		return false
	}
	last := ls.have
	for ; last > int64(s.final); last-- {
		if res, ok := r.resultOf(s, uint64(last)); ok && r.durable(res) {
			break
		}
	}
	said := false
	var from, to uint64
	flush := func() {
		if from > 0 {
			skip := &RoundsSkipped{Session: s.key, From: from, To: to, Seen: r.ledger.vector.Clone()}
			for n := from; n <= to; n++ {
				skip.Inputs = append(skip.Inputs, s.rounds[n].inputs)
			}
			said = r.say(skip, ready) || said
		}
		from = 0
	}
	for n := s.final + 1; int64(n) <= last; n++ {
		rd, v, facts := s.rounds[n], s.votersOf(n), s.facts(n)
		skipped := s.skipped(r.self, n, v)
		sealed := s.Sealed(r.self, n)
		res, here := r.resultOf(s, n)
		if here && r.durable(res) && len(rd.content) > 0 && (skipped || !s.Speaks(r.self, n)) && r.onlyHere(s, n) {
			flush()
			said = r.say(r.computed(s, n, res), ready) || said
		}
		switch {
		case !s.Speaks(r.self, n), sealed && s.spoken(r.self, n, v, facts):
			flush()
		case here && sealed:
			flush()
			if r.durable(res) {
				said = r.say(r.computed(s, n, res), ready) || said
			}
		default:
			if from == 0 {
				from = n
			}
			if to = n; to-from >= maxSkip {
				flush()
			}
		}
	}
	flush()
	if r.vouch(s, ls, ready) || said {
		return true
	}
	ls.settled = now
	return false
}

// vouch says of the latest model that it is here, when nobody else who is alive has it: a final round's model is taken from those
// who said that they have it, and they may all be gone.
func (r *Replica) vouch(s *Session, ls *local, ready *Ready) bool {
	n := ls.have
	for n > 0 && len(s.rounds[n].content) == 0 {
		n--
	}
	if n <= int64(s.base) || uint64(n) > s.final { // a compacted round is not the last that gave a model
		return false
	}
	res, here := r.resultOf(s, uint64(n))
	return here && r.durable(res) && r.onlyHere(s, uint64(n)) && r.say(r.computed(s, uint64(n), res), ready)
}

func (r *Replica) computed(s *Session, n uint64, res Result) *RoundComputed {
	return &RoundComputed{Session: s.key, Round: n, Inputs: s.rounds[n].inputs, Result: res, Most: Most(s.rounds[n].content), Seen: r.ledger.vector.Clone()}
}

// onlyHere reports whether neither this peer nor one that is alive has said that it has a round's model. Then even one that owes
// nothing says so: all who sealed the round may have skipped what a late seal made of it.
func (r *Replica) onlyHere(s *Session, n uint64) bool {
	return !slices.ContainsFunc(s.ComputedBy(n), func(c Computation) bool { return r.Alive(c.Log) })
}

// seal seals the round that is open here when one of the reasons holds.
func (r *Replica) seal(s *Session, ls *local, now Time, ready *Ready) bool {
	n := ls.opened
	if n == 0 || !r.synced || n > s.Open() || !s.Speaks(r.self, n) || s.Sealed(r.self, n) || r.behind(s, n) {
		return false
	}
	if n == s.Open() && !r.due(s, ls, now, ready) {
		return false
	}
	return r.say(&RoundSealed{Session: s.key, Round: n, Cut: r.ledger.vector.Clone()}, ready)
}

// due reports whether the open round, which nobody has sealed, is to be sealed now.
func (r *Replica) due(s *Session, ls *local, now Time, ready *Ready) bool {
	n := s.Open()
	pending, combiners := s.Pending()
	if closing, _ := s.Closing(); closing {
		return !s.Over() || r.ledger.peers.goneOutside(s.votersOf(n))
	}
	c := s.opened.Config
	if c.TargetCombiners > 0 && combiners >= int(max(c.TargetCombiners, c.MinCombiners)) {
		return true
	}
	if combiners >= int(max(c.MinCombiners, 1)) {
		at := ls.openedAt + c.RoundTimeout
		if now >= at || s.returned() {
			return true
		}
		ready.wake(at)
	}
	return len(pending) == 0 && r.ledger.peers.membershipOutside(s.votersOf(n))
}

// giveUp appends UpdateLost for the updates of the next round that nobody has delivered for long enough.
func (r *Replica) giveUp(s *Session, ls *local, now Time, ready *Ready) bool {
	n := uint64(ls.have + 1)
	if ls.have < 0 || n >= s.Open() || len(ls.missing) == 0 || s.rounds[n].inputs != ls.missFor || !s.Speaks(r.self, n) {
		return false
	}
	rd := s.rounds[n]
	if !r.onlyHere(s, n) || s.answered(r.self, n, rd.inputs, ^uint64(0)) {
		return false
	}
	said := false
	for _, u := range rd.content {
		since, missing := ls.missing[u.Key()]
		if !missing {
			continue
		}
		if at := since + s.opened.Config.LostAfter; now < at {
			ready.wake(at)
			continue
		}
		said = r.say(&UpdateLost{Session: s.key, Combiner: u.Combiner, ID: u.ID, Round: n, Inputs: rd.inputs}, ready) || said
	}
	return said
}

// holdAnew says again that this peer holds an update which a round lost, or another content of its key, so that a later round
// counts it.
func (r *Replica) holdAnew(s *Session, ready *Ready) bool {
	said := false
	for _, p := range s.rounds[len(s.rounds)-1].waiting {
		if p.lost == 0 {
			continue
		}
		copies := s.copies[p.update.Key()]
		mine, ok := copies[r.self]
		if !ok || mine.dropped {
			continue
		}
		anew := false
		for log, c := range copies {
			anew = anew || !c.dropped && c.seq > s.rounds[max(p.lost, s.base)].cut[log]
		}
		if !anew {
			said = r.say(mine.update, ready) || said
		}
	}
	return said
}

// work describes the model that is needed next.
func (r *Replica) work(s *Session, ls *local, now Time, ready *Ready) (Work, bool) {
	w := Work{Session: s.key}
	next, last := uint64(ls.have+1), s.Open()-1
	if ls.have < 0 {
		w.Takes = []Take{{Result: Result{Model: s.opened.Seed}, Holders: r.others()}}
		return w, true
	}
	if next > last {
		return w, false
	}
	if !r.settled(s, ls, next, now) {
		ready.wake(ls.sealed[next] + s.opened.Config.SettleTimeout)
		ready.Awaited = append(ready.Awaited, r.awaited(s, next)...)
		return w, false
	}
	if !r.mayCompute(s, next) {
		return w, false
	}
	for n := last; n >= next; n-- {
		var t Take
		for _, c := range s.ComputedBy(n) {
			if c.Log != r.self && r.Alive(c.Log) && (len(t.Holders) == 0 || c.Result == t.Result) {
				t.Result, t.Holders = c.Result, append(t.Holders, c.Log)
			}
		}
		if len(t.Holders) > 0 {
			t.Round, t.Inputs = n, s.rounds[n].inputs
			w.Takes = append(w.Takes, t)
			break
		}
	}
	if next <= s.base { // what it was made of is gone
		return w, len(w.Takes) > 0
	}
	w.Round = s.Round(next)
	w.Previous, _ = r.resultOf(s, uint64(ls.have))
	return w, true
}

func (r *Replica) others() []LogID {
	var out []LogID
	for log := range r.alive {
		if log != r.self {
			out = append(out, log)
		}
	}
	slices.SortFunc(out, LogID.Compare)
	return out
}
