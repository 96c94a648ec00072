package ledger

import (
	"cmp"
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

var zeroDigest model.Digest

func compareStrings(a, b string) int { return cmp.Compare(a, b) }

func compareUint(a, b uint64) int { return cmp.Compare(a, b) }

// peers indexes the membership facts of all logs.
type peers struct {
	joined    map[LogID][]joinedAt
	left      map[LogID]leftAt
	proposals []proposal // by Ref
}

type joinedAt struct {
	seq  uint64
	name string
}

type leftAt struct {
	seq  uint64
	seen Vector
}

// proposal is a PeerForgotten and the acknowledgements of it.
type proposal struct {
	ref     Ref
	targets []LogID
	acks    map[LogID]ack
}

type ack struct {
	seq  uint64
	upto Vector
}

// voters are those who have a say in a round: its members, and the cut before it, which made them members.
type voters struct {
	members []LogID
	before  Vector
}

func newPeers() peers { return peers{joined: map[LogID][]joinedAt{}, left: map[LogID]leftAt{}} }

func (p *peers) propose(e *Entry, b *PeerForgotten) {
	at, _ := slices.BinarySearchFunc(p.proposals, e.Ref(), func(q proposal, r Ref) int { return q.ref.Compare(r) })
	p.proposals = slices.Insert(p.proposals, at, proposal{ref: e.Ref(), targets: b.Targets, acks: map[LogID]ack{}})
}

func (p *peers) acknowledge(e *Entry, b *ForgetAcknowledged) {
	for i := range p.proposals {
		q := &p.proposals[i]
		if _, again := q.acks[e.Log]; q.ref == b.Proposal && !again {
			q.acks[e.Log] = ack{seq: e.Seq, upto: b.Upto}
		}
	}
}

// effective reports whether a proposal binds a round with these members: all of them that are not targets have
// acknowledged it (a member that left needs not), within the bound where one is given, and those who did are more than half.
// Who left is no part of that majority: it would stand for contrary proposals at once.
func (p *peers) effective(q *proposal, members []LogID, bound Vector) bool {
	if bound != nil && !bound.Holds(q.ref) {
		return false
	}
	acked := 0
	for _, m := range members {
		if slices.Contains(q.targets, m) {
			continue
		}
		a, ok := q.acks[m]
		if ok && (bound == nil || bound.Holds(Ref{Log: m, Seq: a.seq})) {
			acked++
			continue
		}
		if p.hasLeft(m, bound) {
			continue
		}
		return false
	}
	return 2*acked > len(members)
}

func (p *peers) hasLeft(log LogID, bound Vector) bool {
	l, ok := p.left[log]
	return ok && (bound == nil || bound.Holds(Ref{Log: log, Seq: l.seq}))
}

// agreedUpto calls f with how much of a log counts by each proposal against it that binds a round with these members, until
// f returns true, and reports whether it did.
func (p *peers) agreedUpto(log LogID, members []LogID, bound Vector, f func(upto uint64) bool) bool {
	for i := range p.proposals {
		q := &p.proposals[i]
		if !slices.Contains(q.targets, log) || !p.effective(q, members, bound) {
			continue
		}
		var upto uint64
		for _, m := range members {
			if slices.Contains(q.targets, m) {
				continue
			}
			if a, acked := q.acks[m]; acked {
				upto = max(upto, a.upto[log])
			} else {
				upto = max(upto, p.left[m].seen[log])
			}
		}
		if f(upto) {
			return true
		}
	}
	return false
}

// forgettings adds to a cut what makes the forgettings effective that bind a round.
func (p *peers) forgettings(v voters, out Vector) {
	for i := range p.proposals {
		q := &p.proposals[i]
		if !p.effective(q, v.members, nil) {
			continue
		}
		for _, m := range v.members {
			if a, acked := q.acks[m]; acked {
				out[m] = max(out[m], a.seq)
			} else if l, left := p.left[m]; left {
				out[m] = max(out[m], l.seq)
			}
		}
	}
}

// void reports whether the word of a log at seq does not count in a round: its members have forgotten the log and held less
// of it, and it is not by its return that it is a member. A round that others made final without it is then closed to it
// for good, whatever it says after its return.
func (p *peers) void(log LogID, seq uint64, v voters) bool {
	return p.agreedUpto(log, v.members, nil, func(upto uint64) bool {
		return seq > upto && !p.rejoined(log, upto, v.before[log])
	})
}

// forgottenIn reports whether the members have forgotten a log inside the cut, and it has not returned inside it.
func (p *peers) forgottenIn(log LogID, members []LogID, cut Vector) bool {
	return p.agreedUpto(log, members, cut, func(upto uint64) bool { return !p.rejoined(log, upto, cut[log]) })
}

// forgotten reports whether a round no longer waits for a log.
func (p *peers) forgotten(log LogID, v voters) bool {
	return p.agreedUpto(log, v.members, nil, func(upto uint64) bool { return !p.rejoined(log, upto, v.before[log]) })
}

// mustReturn reports whether a round's members have forgotten a log and it has not said since that it is back.
func (p *peers) mustReturn(log LogID, members []LogID) bool {
	return p.agreedUpto(log, members, nil, func(upto uint64) bool { return !p.rejoined(log, upto, ^uint64(0)) })
}

// rejoined reports whether a log has a PeerJoined with from < seq ≤ to.
func (p *peers) rejoined(log LogID, from, to uint64) bool {
	return slices.ContainsFunc(p.joined[log], func(j joinedAt) bool { return j.seq > from && j.seq <= to })
}

// members returns a round's members, ascending: those of the round before and the logs with a PeerJoined between the two
// cuts, less those that left inside the later cut and those that the members before have forgotten inside it.
func (p *peers) members(before []LogID, from, cut Vector) []LogID {
	var out []LogID
	for _, log := range cut.Logs() {
		if !slices.Contains(before, log) && !p.rejoined(log, from[log], cut[log]) {
			continue
		}
		if p.hasLeft(log, cut) || p.forgottenIn(log, before, cut) {
			continue
		}
		out = append(out, log)
	}
	return out
}

// Peer is what the logs say of one peer.
type Peer struct {
	Log    LogID
	Name   string // of its last PeerJoined
	Joined uint64 // sequence number of that
	Left   bool
}

// Peers returns every peer that ever joined, by name, then log.
func (l *Ledger) Peers() []Peer {
	out := make([]Peer, 0, len(l.peers.joined))
	for log, js := range l.peers.joined {
		last := js[len(js)-1]
		out = append(out, Peer{Log: log, Name: last.name, Joined: last.seq, Left: l.peers.hasLeft(log, nil)})
	}
	slices.SortFunc(out, func(a, b Peer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Log.Compare(b.Log))
	})
	return out
}

// Peer returns what the logs say of one peer; ok is false when it never joined.
func (l *Ledger) Peer(log LogID) (p Peer, ok bool) {
	js := l.peers.joined[log]
	if len(js) == 0 {
		return Peer{Log: log}, false
	}
	last := js[len(js)-1]
	return Peer{Log: log, Name: last.name, Joined: last.seq, Left: l.peers.hasLeft(log, nil)}, true
}

// membershipOutside reports whether a fact about membership lies outside the cut before the open round: a peer that joined or
// left, or an effective forgetting of one of the members.
func (p *peers) membershipOutside(v voters) bool {
	cut, members := v.before, v.members
	for log, js := range p.joined {
		if !p.hasLeft(log, nil) && !slices.Contains(members, log) && js[len(js)-1].seq > cut[log] {
			return true
		}
	}
	return p.goneOutside(v)
}

// goneOutside is membershipOutside for members that are gone.
func (p *peers) goneOutside(v voters) bool {
	return slices.ContainsFunc(v.members, func(m LogID) bool {
		return p.hasLeft(m, nil) && !p.hasLeft(m, v.before) || p.forgotten(m, v)
	})
}
