package sim

import (
	"slices"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// do is the driver's side of a piece of work: compute the model, or take it from a peer, or report what is missing.
func (p *peer) do(work ledger.Work) {
	delete(p.busy, work.Session)
	defer p.poke()
	if len(work.Takes) > 0 && (len(work.Round.Content) == 0 || work.Takes[0].Round > work.Round.Number || p.w.chance(0.3)) {
		if p.take(work.Takes) {
			return
		}
	}
	if len(work.Round.Content) == 0 {
		p.again(work)
		return
	}
	var missing []ledger.Key
	for _, u := range work.Round.Content {
		if !p.reach(u.Model, false) || u.Base != work.Previous.Model && !p.reach(u.Base, true) {
			missing = append(missing, u.Key())
		}
	}
	if len(missing) == 0 {
		var from []model.Digest
		for _, u := range work.Round.Content { // what a round was computed from is kept until it is final
			if !p.updates[u.Model] && work.Session[1]&1 == 1 {
				continue // in every other session sums do for what is elsewhere
			}
			from = append(from, u.Model, u.Base)
			if !p.updates[u.Model] {
				p.updates[u.Model], p.unsynced[u.Model] = true, true
			}
			if !p.models[u.Base] {
				p.store(u.Base)
			}
		}
		res := result(work)
		for _, d := range blobs(res) {
			if !p.models[d] {
				p.models[d], p.unsynced[d] = true, true
			}
			p.syncLater(d, from...)
		}
		p.replica.Computed(work.Round.Inputs, res, false)
		p.replica.Missing(work.Session, work.Round.Inputs, nil, p.now())
		return
	}
	if p.take(work.Takes) {
		return
	}
	p.w.say("%s misses %v for round %d of %s, inputs %s", p.name, missing, work.Round.Number, work.Session.Short(), work.Round.Inputs.Short())
	p.replica.Missing(work.Session, work.Round.Inputs, missing, p.now())
	p.again(work)
}

// again keeps a failed piece of work from being tried at once.
func (p *peer) again(work ledger.Work) {
	p.busy[work.Session] = true
	p.live(p.w.between(50, 150), func() {
		delete(p.busy, work.Session)
		p.poke()
	})
}

// result is what a piece of work gives: digests of what the real model and state are functions of. Every other session has a strategy
// with server state.
func result(work ledger.Work) ledger.Result {
	b := append(work.Previous.Model[:], work.Previous.State[:]...)
	for _, u := range work.Round.Content {
		b = append(b, u.Model[:]...)
		b = append(b, u.Base[:]...)
		b = append(b, byte(u.Weight))
	}
	res := ledger.Result{Model: model.Sum(b)}
	if work.Session[0]&1 == 1 {
		res.State = model.Sum(append(b, "state"...))
	}
	return res
}

// blobs returns the digests of what is there of a result.
func blobs(res ledger.Result) []model.Digest {
	if res.State.IsZero() {
		return []model.Digest{res.Model}
	}
	return []model.Digest{res.Model, res.State}
}

// store writes a model or a state, and syncs it a little later.
func (p *peer) store(d model.Digest) {
	if !p.models[d] {
		p.models[d], p.unsynced[d] = true, true
	}
	p.replica.HoldModel(d, false)
	p.syncLater(d)
}

// syncLater makes a model durable, and before it what it was computed from: upon the word that follows the peer can give up
// none of that.
func (p *peer) syncLater(d model.Digest, from ...model.Digest) {
	p.live(p.w.between(0, 300), func() {
		if !p.models[d] {
			return
		}
		for _, f := range from {
			delete(p.unsynced, f)
		}
		delete(p.unsynced, d)
		p.replica.HoldModel(d, true)
		p.poke()
	})
}

func (p *peer) take(takes []ledger.Take) bool {
	for _, t := range takes {
		for _, q := range p.w.peers {
			if slices.Contains(t.Holders, q.log) && p.w.linked(p, q) && q.models[t.Model] && (t.State.IsZero() || q.models[t.State]) && !p.w.chance(p.w.loss) {
				for _, d := range blobs(t.Result) {
					p.store(d)
				}
				p.w.say("%s takes %s from %s", p.name, t.Model.Short(), q.name)
				return true
			}
		}
	}
	return false
}

// reach reports whether bytes are on this disk or at a peer that answers.
func (p *peer) reach(d model.Digest, isModel bool) bool {
	has := func(q *peer) bool {
		if isModel {
			return q.models[d]
		}
		return q.updates[d]
	}
	if has(p) {
		return true
	}
	if p.w.chance(p.w.loss) {
		return false
	}
	for _, q := range p.w.peers {
		if p.w.linked(p, q) && q.paused <= p.w.now && has(q) {
			return true
		}
	}
	return false
}

// hold stores an update and its base, and says so; only tells that nobody else will. done is called when it is durable.
func (p *peer) hold(u *ledger.UpdateHeld, from *peer, only bool, done func()) bool {
	s := p.replica.Ledger().Session(u.Session)
	if s == nil || !p.synced || p.paused > p.w.now || !p.replica.MayHold(s, u) {
		return false
	}
	if !p.models[u.Base] && !p.reach(u.Base, true) && (from == nil || !from.models[u.Base]) {
		return false
	}
	if !p.models[u.Base] {
		p.store(u.Base)
	}
	if !p.updates[u.Model] {
		p.updates[u.Model], p.unsynced[u.Model] = true, true
	}
	if only { // bytes with one holder are synced before they are acknowledged
		delete(p.unsynced, u.Base)
		delete(p.unsynced, u.Model)
		p.replica.HoldModel(u.Base, true)
	}
	if !slices.Contains(s.HoldersOf(u), p.log) && !p.append(u) {
		return false
	}
	p.poke()
	upto := p.written()
	var wait func()
	wait = func() {
		if p.cut+p.durable >= upto {
			done()
			return
		}
		p.live(2, wait)
	}
	wait()
	return true
}

// repair copies an update that too few living peers hold.
func (p *peer) repair() {
	for _, s := range p.replica.Ledger().Sessions() {
		for _, key := range s.Keys() {
			if final(s, key) {
				continue
			}
			u := s.Known(key)
			holders := s.HoldersOf(u)
			if !p.updates[u.Model] || !p.models[u.Base] {
				continue
			}
			living := 0
			for _, h := range holders {
				if p.replica.Alive(h) {
					living++
				}
			}
			if living >= int(s.Config().Copies) {
				continue
			}
			if !slices.Contains(holders, p.log) { // kept for a round, or its base was gone and is here again
				p.append(u)
				continue
			}
			p.copy(s, u, holders)
		}
	}
	p.leave()
}

func (p *peer) copy(_ *ledger.Session, u *ledger.UpdateHeld, holders []ledger.LogID) {
	for _, q := range p.w.peers {
		if p.w.linked(p, q) && !q.leaving && !slices.Contains(holders, q.log) {
			q.live(p.w.delay(), func() {
				if p.updates[u.Model] && p.models[u.Base] {
					q.hold(u, p, false, func() {})
				}
			})
			return
		}
	}
}

// leave departs once every update this peer holds has another holder in reach, and somebody has seen it go.
func (p *peer) leave() {
	if !p.leaving {
		return
	}
	var heir *peer
	for _, q := range p.w.peers {
		if p.w.linked(p, q) && !q.leaving && q.synced {
			heir = q
		}
	}
	if heir == nil {
		return
	}
	l := p.replica.Ledger()
	if last := l.Entry(ledger.Ref{Log: p.log, Seq: l.Vector()[p.log]}); last != nil && last.Body.Kind() == ledger.KindPeerLeft {
		if heir.replica.Ledger().Vector()[p.log] == last.Seq {
			p.w.say("%s has left", p.name)
			p.up, p.gone = false, true
		}
		return
	}
	for _, s := range l.Sessions() {
		for _, key := range s.Keys() {
			if final(s, key) {
				continue
			}
			u := s.Known(key)
			holders := s.HoldersOf(u)
			if !slices.Contains(holders, p.log) {
				continue
			}
			others := 0
			for _, q := range p.w.peers {
				if q != p && !q.leaving && slices.Contains(holders, q.log) && p.w.linked(p, q) {
					others++
				}
			}
			if others == 0 {
				p.copy(s, u, holders)
				return
			}
		}
		// The models that open rounds start from are handed over too.
		if n, _, ok := p.replica.Current(s); ok {
			res, _ := p.replica.ResultOf(s, n)
			for _, d := range blobs(res) {
				if !heir.models[d] {
					heir.store(d)
				}
			}
		}
	}
	if p.replica.MayLeave() {
		p.append(&ledger.PeerLeft{})
	}
}

// collect deletes what finality allows: the bytes of updates of final rounds, and models before the last final round that no
// update held here starts from.
func (p *peer) collect() {
	keepModels, keepUpdates := map[model.Digest]bool{}, map[model.Digest]bool{}
	for _, s := range p.replica.Ledger().Sessions() {
		keepModels[s.Seed()] = true
		for n := s.Final(); n < s.Open(); n++ {
			if res, ok := p.replica.ResultOf(s, n); ok {
				keepModels[res.Model], keepModels[res.State] = true, true
			}
		}
		for _, res := range s.Results(s.Final()) {
			keepModels[res.Model], keepModels[res.State] = true, true
		}
		for _, key := range s.Keys() {
			if n, ok := s.PlacedIn(key); !ok || !p.replica.Done(s, n) {
				for _, u := range append(s.Versions(key), s.Known(key)) {
					keepModels[u.Base], keepUpdates[u.Model] = true, true
				}
			}
		}
		if n, _, ok := p.replica.Current(s); ok {
			res, _ := p.replica.ResultOf(s, n)
			keepModels[res.Model], keepModels[res.State] = true, true
		}
	}
	for d := range p.updates {
		if !keepUpdates[d] {
			delete(p.updates, d)
		}
	}
	for d := range p.models {
		if !keepModels[d] {
			delete(p.models, d)
			p.replica.DropModel(d)
		}
	}
}
