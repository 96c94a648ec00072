package sim

import (
	"fmt"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// combiner trains in a closed loop: it takes a model from some peer, pushes an update to another, and tries the next with the
// same key until one acknowledges.
type combiner struct {
	w       *world
	name    string
	session ledger.SessionKey
	n       int
	attempt int // a late answer to an earlier one is ignored
	idle    bool
	round   uint64
}

func (c *combiner) any() *peer { return c.w.peers[c.w.rng.IntN(len(c.w.peers))] }

// train takes a base and, after a while, pushes what it made of it.
func (c *combiner) train() {
	if !c.w.chaos {
		c.idle = true
		return
	}
	p := c.any()
	s := p.session(c.session)
	if s == nil {
		c.w.after(c.w.between(20, 200), c.train)
		return
	}
	round, base, ok := p.replica.Current(s)
	if !ok || (round < c.round || c.n > 0 && round == c.round) && c.w.chance(0.9) {
		c.w.after(c.w.between(20, 200), c.train)
		return
	}
	c.round = round
	c.n++
	u := &ledger.UpdateHeld{
		Session: c.session, Combiner: c.name, ID: fmt.Sprintf("u%d", c.n), Bytes: 100, Weight: uint64(1 + c.w.rng.IntN(100)),
		Base: base, Model: model.Sum(append([]byte(c.name+fmt.Sprint(c.n)), c.session[:]...)),
	}
	c.w.after(c.w.between(5, 600), func() { c.push(u, 0) })
}

func (p *peer) session(key ledger.SessionKey) *ledger.Session {
	if !p.up || p.paused > p.w.now || !p.synced {
		return nil
	}
	return p.replica.Ledger().Session(key)
}

// push tries one peer, and another when that one refuses, dies, or answers too late.
func (c *combiner) push(u *ledger.UpdateHeld, tries int) {
	c.attempt++
	attempt := c.attempt
	again := func() {
		if c.attempt == attempt {
			c.attempt++
			if c.w.opts.conflicts && c.w.chance(0.2) { // it starts again, trains again, and has forgotten what it sent
				other := *u
				other.Model = model.Sum(append(u.Model[:], byte(tries)))
				u = &other
			}
			c.w.after(c.w.between(10, 300), func() { c.push(u, tries+1) })
		}
	}
	if tries > 400 { // its base is gone everywhere: nobody acknowledged, and nobody will
		c.w.say("%s gives up %s", c.name, u.ID)
		c.train()
		return
	}
	p := c.any()
	s := p.session(c.session)
	if s == nil || p.leaving {
		again()
		return
	}
	sent := *u
	if known := s.Known(u.Key()); known != nil {
		if known.Model != u.Model {
			c.w.say("%s is told that %s has other bytes", c.name, u.ID)
			c.train()
			return
		}
		sent = *known
	} else {
		round, ok := s.RoundOf(u.Base)
		if !ok {
			again()
			return
		}
		if !p.replica.Accepting(s) {
			c.w.say("%s is told that the session is closed", c.name)
			c.idle = true
			return
		}
		sent.BaseRound = round
	}
	c.w.say("%s pushes %s to %s", c.name, u.ID, p.name)
	c.w.after(3000, again)
	p.accept(&sent, func(ok bool) {
		switch {
		case c.attempt != attempt:
		case !ok || c.w.chance(c.w.loss): // refused, or the acknowledgement is lost
			again()
		default:
			c.attempt++
			c.w.say("%s has %s acknowledged by %s", c.name, u.ID, p.name)
			c.w.law.acknowledged(&sent)
			c.train()
		}
	})
}

// accept is a peer's side of a push: it and as many others as the session asks for, or as are alive, hold the update before
// done(true) is called.
func (p *peer) accept(u *ledger.UpdateHeld, done func(bool)) {
	s := p.replica.Ledger().Session(u.Session)
	need := int(s.Config().Copies)
	alive := 1
	for _, q := range p.w.peers {
		if q != p && p.replica.Alive(q.log) && !q.gone {
			alive++
		}
	}
	need = min(need, alive)
	have, failed := 0, false
	arrived := func() {
		have++
		if have == need && !failed {
			done(true)
		}
	}
	if !p.hold(u, nil, need == 1, arrived) {
		done(false)
		return
	}
	order := p.w.rng.Perm(len(p.w.peers))
	want := need - 1
	for _, i := range order {
		q := p.w.peers[i]
		if want == 0 || q == p || q.leaving || !p.replica.Alive(q.log) {
			continue
		}
		want--
		p.live(p.w.delay(), func() {
			ok := p.w.linked(p, q) && q.hold(u, p, false, func() { p.live(p.w.delay(), arrived) })
			if !ok && !failed && have < need {
				failed = true
				done(false)
			}
		})
	}
	if want > 0 && !failed {
		failed = true
		done(false)
	}
}
