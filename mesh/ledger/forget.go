package ledger

import "slices"

// Forgetting is a PeerForgotten and what has come of it.
type Forgetting struct {
	Proposal     Ref
	Targets      []LogID // ascending; shared: read only
	Acknowledged []LogID // ascending
	Waiting      []LogID // whose acknowledgement rounds that are not final still want, ascending
	Short        *Share  // a round that it can not bind, because those who remain are too few
	Effect       bool    // somebody has agreed, and it binds all rounds that are not final and have a target for a member
}

// Share says how many of a round's members would remain.
type Share struct {
	Session         *Session
	Round           uint64
	Remain, Members int
}

// Forgettings returns every proposal to forget peers, by its Ref.
func (l *Ledger) Forgettings() []Forgetting {
	out := make([]Forgetting, 0, len(l.peers.proposals))
	for i := range l.peers.proposals {
		out = append(out, l.forgetting(&l.peers.proposals[i]))
	}
	return out
}

// ForgettingOf returns the proposal by which a peer is forgotten, or shall be, and has not returned since. Of several it is the one that
// got furthest.
func (l *Ledger) ForgettingOf(log LogID) (f Forgetting, ok bool) {
	for i := range l.peers.proposals {
		q := &l.peers.proposals[i]
		if !slices.Contains(q.targets, log) || l.peers.returned(q, log) {
			continue
		}
		if g := l.forgetting(q); !ok || g.Effect || len(g.Acknowledged) > len(f.Acknowledged) {
			f, ok = g, true
		}
		if f.Effect {
			break
		}
	}
	return f, ok
}

func (l *Ledger) forgetting(q *proposal) Forgetting {
	f := Forgetting{Proposal: q.ref, Targets: q.targets}
	for log := range q.acks {
		f.Acknowledged = append(f.Acknowledged, log)
	}
	slices.SortFunc(f.Acknowledged, LogID.Compare)
	l.concerned(q.targets, func(t LogID, before Vector) bool {
		return !l.peers.rejoined(t, q.upto(t), before[t])
	}, func(s *Session, n uint64, members []LogID) {
		acked, left := 0, 0
		for _, m := range members {
			switch _, ok := q.acks[m]; {
			case slices.Contains(q.targets, m):
			case ok:
				acked++
			case l.peers.hasLeft(m, nil):
				left++
			case !slices.Contains(f.Waiting, m):
				f.Waiting = append(f.Waiting, m)
			}
		}
		if f.Short == nil && 2*acked <= len(members) && acked+left+targetsIn(q.targets, members) == len(members) {
			f.Short = &Share{Session: s, Round: n, Remain: acked, Members: len(members)}
		}
	})
	slices.SortFunc(f.Waiting, LogID.Compare)
	f.Effect = len(f.Acknowledged) > 0 && len(f.Waiting) == 0 && f.Short == nil
	return f
}

// concerned calls f for every round that is not final and has a target for a member that counts, by session and round.
func (l *Ledger) concerned(targets []LogID, counts func(LogID, Vector) bool, f func(s *Session, n uint64, members []LogID)) {
	for _, s := range l.Sessions() {
		if s.spared(targets) {
			continue
		}
		for n := s.final + 1; n <= s.Open(); n++ {
			v := s.votersOf(n)
			if slices.ContainsFunc(targets, func(t LogID) bool { return slices.Contains(v.members, t) && counts(t, v.before) }) {
				f(s, n, v.members)
			}
		}
	}
}

// upto returns how much of a target's log those hold who agreed. Nobody has yet: all of it, whatever it is.
func (q *proposal) upto(target LogID) uint64 {
	if len(q.acks) == 0 {
		return ^uint64(0)
	}
	var upto uint64
	for _, a := range q.acks {
		upto = max(upto, a.upto[target])
	}
	return upto
}

// returned reports whether a target has said that it is back.
func (p *peers) returned(q *proposal, target LogID) bool {
	return p.rejoined(target, q.upto(target), ^uint64(0))
}

// allReturned reports whether a proposal is history: somebody agreed to it, and all its targets have said since that they are back.
func (p *peers) allReturned(q *proposal) bool {
	return len(q.acks) > 0 && !slices.ContainsFunc(q.targets, func(t LogID) bool { return !p.returned(q, t) })
}

func targetsIn(targets, members []LogID) int {
	n := 0
	for _, t := range targets {
		if slices.Contains(members, t) {
			n++
		}
	}
	return n
}

// Obstacle is why a proposal to forget some peers would come to nothing now.
type Obstacle struct {
	Short  *Share      // too few would remain in a round that is not final
	Silent []LogID     // these would have to agree, and are not alive either; ascending
	Other  *Forgetting // this one, of other peers, must take effect in all rounds first
}

// MayForget returns nil when this peer may propose to forget these, which must be ascending. It finds what RULES.md says would keep
// this peer from agreeing, and what would keep the agreement of all from having an effect. The caller sees to it that
// none of them is this peer or alive.
func (r *Replica) MayForget(targets []LogID) *Obstacle {
	if f := r.inTheWay(targets); f != nil {
		return &Obstacle{Other: f}
	}
	l, o := r.ledger, Obstacle{}
	l.concerned(targets, func(LogID, Vector) bool { return true }, func(s *Session, n uint64, members []LogID) {
		remain := 0
		for _, m := range members {
			if slices.Contains(targets, m) || r.against(m) || l.peers.hasLeft(m, nil) {
				continue
			}
			remain++
			if !r.Alive(m) && !slices.Contains(o.Silent, m) {
				o.Silent = append(o.Silent, m)
			}
		}
		if o.Short == nil && 2*remain <= len(members) {
			o.Short = &Share{Session: s, Round: n, Remain: remain, Members: len(members)}
		}
	})
	if o.Short == nil && !r.enoughWithout(targets) {
		o.Short = r.tooFew(targets)
	}
	slices.SortFunc(o.Silent, LogID.Compare)
	if o.Short == nil && len(o.Silent) == 0 {
		return nil
	}
	return &o
}

// inTheWay returns a proposal of other targets that this peer has agreed to, or is about to, and that still matters.
func (r *Replica) inTheWay(targets []LogID) *Forgetting {
	ps := &r.ledger.peers
	for i := range ps.proposals {
		q := &ps.proposals[i]
		if slices.Equal(q.targets, targets) {
			continue
		}
		a, acked := q.acks[r.self]
		if !acked && (ps.allReturned(q) || slices.Contains(q.targets, r.self) || r.against(q.ref.Log) || !r.enoughWithout(q.targets)) {
			continue
		}
		upto := a.upto
		if !acked {
			upto = Vector{}
			for _, t := range q.targets {
				upto[t] = r.ledger.vector[t]
			}
		}
		if r.matters(q.targets, upto) {
			f := r.ledger.forgetting(q)
			return &f
		}
	}
	return nil
}

// tooFew returns the session that enoughWithout objects to.
func (r *Replica) tooFew(targets []LogID) *Share {
	for _, s := range r.ledger.Sessions() {
		if s.finished() {
			continue
		}
		members, remain := s.Members(s.Open()), 0
		for _, m := range members {
			if !slices.Contains(targets, m) && !r.against(m) && !r.ledger.peers.hasLeft(m, nil) {
				remain++
			}
		}
		if slices.Contains(members, r.self) && 2*remain <= len(members) {
			return &Share{Session: s, Round: s.Open(), Remain: remain, Members: len(members)}
		}
	}
	return nil
}
