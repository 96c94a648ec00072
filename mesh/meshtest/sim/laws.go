package sim

import (
	"fmt"
	"slices"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// laws are what every run must keep, and what is known so far to hold it against.
type laws struct {
	faults []string
	acks   []*ledger.UpdateHeld
	finals map[finalKey]model.Digest // inputs, as first seen final anywhere
	seen   map[*peer]map[ledger.SessionKey]uint64
	upto   ledger.Vector  // of all
	all    *ledger.Ledger // everything that any peer ever said
}

type finalKey struct {
	session ledger.SessionKey
	round   uint64
}

func newLaws() laws {
	return laws{finals: map[finalKey]model.Digest{}, seen: map[*peer]map[ledger.SessionKey]uint64{}, all: ledger.New(), upto: ledger.Vector{}}
}

func (l *laws) broken(format string, args ...any) {
	if len(l.faults) < 10 {
		l.faults = append(l.faults, fmt.Sprintf(format, args...))
	}
}

func (l *laws) acknowledged(u *ledger.UpdateHeld) { l.acks = append(l.acks, u) }

// said keeps what a peer said durably, for who compacts forgets.
func (l *laws) said(p *peer) {
	for _, e := range p.replica.Ledger().Range(p.log, l.upto[p.log], p.own) {
		if _, err := l.all.Add(e); err != nil {
			l.broken("%v", err)
		}
	}
	l.upto[p.log] = max(l.upto[p.log], p.own)
}

// observe checks, at every decision of every peer, that a round once final anywhere is the same for everybody who finds it final.
func (l *laws) observe(p *peer) {
	if l.seen[p] == nil {
		l.seen[p] = map[ledger.SessionKey]uint64{}
	}
	for _, s := range p.replica.Ledger().Sessions() {
		for n := l.seen[p][s.Key()] + 1; n <= s.Final(); n++ {
			r, key := s.Round(n), finalKey{s.Key(), n}
			if first, ok := l.finals[key]; !ok {
				l.finals[key] = r.Inputs
			} else if first != r.Inputs {
				l.broken("round %d of %s is final at %s with inputs %s, and was with %s", n, s.Name(), p.name, r.Inputs.Short(), first.Short())
			}
		}
		l.seen[p][s.Key()] = s.Final()
	}
}

// judge checks a run that has healed and come to rest.
func (w *world) judge() {
	oracle := w.oracle()
	for _, key := range w.sessions {
		w.judgeSession(key, oracle.Session(key))
	}
}

// oracle is the ledger of somebody who heard everything that those who live know, and compacted nothing.
func (w *world) oracle() *ledger.Ledger {
	known := ledger.Vector{}
	for _, p := range w.peers {
		if p.up {
			known.Join(p.replica.Ledger().Vector())
		}
	}
	l := ledger.New()
	for _, log := range known.Logs() {
		for _, e := range w.law.all.Range(log, 0, known[log]) {
			if _, err := l.Add(e); err != nil {
				w.law.broken("%v", err)
			}
		}
	}
	if !l.Vector().Covers(known) {
		w.law.broken("the living know %v, and only %v was ever said", known, l.Vector())
	}
	return l
}

func (w *world) judgeSession(key ledger.SessionKey, ref *ledger.Session) {
	l := &w.law
	var strangers []string
	for _, p := range w.peers {
		if !p.up {
			continue
		}
		s := p.replica.Ledger().Session(key)
		if s == nil {
			strangers = append(strangers, p.name)
			continue
		}
		w.judgePeer(p, s, ref)
	}
	if len(strangers) > 0 && (ref != nil || !w.opts.restores) {
		l.broken("%v do not know session %s", strangers, key.Short())
	}
	if ref == nil || !w.voiced(ref) {
		return
	}
	for _, u := range l.acks {
		if u.Session != key {
			continue
		}
		if _, placed := ref.PlacedIn(u.Key()); !placed && w.bytesLeft(u) {
			l.broken("%v of %s was acknowledged and is in no round", u.Key(), ref.Name())
		}
	}
}

// voiced reports whether somebody who lives has a say in each of a session's rounds that are not final. When the members of one have all
// lost their logs, nobody can seal it, or give up what it misses.
func (w *world) voiced(s *ledger.Session) bool {
	for n := s.Final() + 1; n <= s.Open() && w.opts.restores; n++ {
		if !slices.ContainsFunc(w.peers, func(p *peer) bool { return p.up && s.Speaks(p.log, n) }) {
			return false
		}
	}
	return true
}

// judgePeer compares a peer's rounds with the oracle's.
func (w *world) judgePeer(p *peer, s, ref *ledger.Session) {
	l := &w.law
	if s.Open() != ref.Open() {
		l.broken("%s has %d rounds of %s, it should have %d", p.name, s.Open()-1, s.Name(), ref.Open()-1)
		return
	}
	counted := map[ledger.Key]uint64{}
	for n := uint64(1); n < s.Open(); n++ {
		r := s.Round(n)
		if r.Inputs != ref.Round(n).Inputs {
			l.broken("round %d of %s at %s is not what was said", n, s.Name(), p.name)
		}
		if f, ok := l.finals[finalKey{s.Key(), n}]; ok && f != r.Inputs {
			l.broken("round %d of %s was final with inputs %s and has %s at %s now", n, s.Name(), f.Short(), r.Inputs.Short(), p.name)
		}
		for _, u := range r.Content {
			if before, twice := counted[u.Key()]; twice {
				l.broken("%v is in rounds %d and %d of %s at %s", u.Key(), before, n, s.Name(), p.name)
			}
			counted[u.Key()] = n
			if u.BaseRound >= n {
				l.broken("%v from base round %d is in round %d", u.Key(), u.BaseRound, n)
			}
		}
	}
	if !w.voiced(s) {
		return
	}
	closing, last := s.Closing()
	if !s.Over() {
		l.broken("%s is stuck: %s is in round %d, closing %v, last round %d", p.name, s.Name(), s.Open(), closing, last)
	}
	have, d, ok := p.replica.Current(s)
	if !ok || have != s.Open()-1 {
		l.broken("%s is stuck: it has the model of round %d of %s, the last is %d", p.name, have, s.Name(), s.Open()-1)
	} else if theirs, ok := ref.Model(have); ok && theirs != d {
		l.broken("%s has another model of round %d of %s than was said", p.name, have, s.Name())
	}
	if len(s.Divergences()) > 0 {
		l.broken("divergence at %s: %+v", p.name, s.Divergences())
	}
	w.judgeFinal(p, s)
	for _, q := range w.peers {
		// What a peer that is gone told only some of us may stay unexplained.
		if n := len(p.replica.Ledger().OutsideOf(q.log)); n > 0 && !q.gone {
			l.broken("%s is stuck: %d entries of %s wait for admission", p.name, n, q.name)
		}
	}
}

// judgeFinal checks that a round which is not final waits for those who are gone and for nobody else, and not for them either once
// they are forgotten, where more than half of the members of each such round are left. (One forgetting, by mistake or not, may
// stand in the way of another.)
func (w *world) judgeFinal(p *peer, s *ledger.Session) {
	forgettable := len(w.forgotten) == 1
	for n := s.Final() + 1; n <= s.Open(); n++ {
		left := slices.DeleteFunc(slices.Clone(s.Members(n)), func(log ledger.LogID) bool {
			return slices.ContainsFunc(w.peers, func(q *peer) bool { return q.log == log && q.gone })
		})
		forgettable = forgettable && 2*len(left) > len(s.Members(n))
	}
	for n := s.Final() + 1; n < s.Open(); n++ {
		owing := s.WaitingFor(n)
		for _, q := range w.peers {
			if slices.Contains(owing, q.log) && !q.gone {
				w.law.broken("%s is stuck: round %d of %s waits for %s", p.name, n, s.Name(), q.name)
			}
		}
		if n == s.Final()+1 && (len(owing) == 0 || forgettable) {
			w.law.broken("%s is stuck: round %d of %s is not final, it waits for %v", p.name, n, s.Name(), w.names(owing))
		}
	}
}

// bytesLeft reports whether an update can still be counted: the disk of some peer that lives has its bytes.
func (w *world) bytesLeft(u *ledger.UpdateHeld) bool {
	for _, p := range w.peers {
		if p.up && p.updates[u.Model] && p.models[u.Base] {
			return true
		}
	}
	return !w.opts.permanent && !w.opts.power && !w.opts.restores
}

func (w *world) names(logs []ledger.LogID) []string {
	var out []string
	for _, log := range logs {
		for _, p := range w.peers {
			if p.log == log {
				out = append(out, p.name)
			}
		}
	}
	return out
}
