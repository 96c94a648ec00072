package sim

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// peer is a simulated reducer: a real ledger.Replica over a disk and a network that fail.
type peer struct {
	w       *world
	name    string
	log     ledger.LogID
	up      bool
	gone    bool // dead for good, or left
	leaving bool
	boot    int         // counts starts; an event of an earlier life is void
	slow    ledger.Time // how many times as long its messages take; 0 is once
	clock   clock
	paused  ledger.Time

	replica *ledger.Replica
	own     uint64 // own entries others may see
	synced  bool
	busy    map[ledger.SessionKey]bool
	wake    ledger.Time

	// The disk. Writes go to the page cache in order; a killed process keeps them, a power cut keeps what was synced.
	snapshot []byte // what stands for the entries before the journal
	journal  []*ledger.Entry
	durable  int
	updates  map[model.Digest]bool
	models   map[model.Digest]bool
	unsynced map[model.Digest]bool // bytes that a power cut takes
	cut      int                   // records that snapshots replaced
	saves    int                   // snapshots written
	backup   disk
}

// clock is a peer's own: it starts somewhere and gains or loses up to a tenth.
type clock struct{ offset, gain ledger.Time } // gain in thousandths

func (c clock) at(now ledger.Time) ledger.Time { return c.offset + now*(1000+c.gain)/1000 }

// until returns how long it takes until the clock shows t.
func (c clock) until(now, t ledger.Time) ledger.Time {
	return max((t-c.offset)*1000/(1000+c.gain)+1-now, 0)
}

func (p *peer) now() ledger.Time { return p.clock.at(p.w.now) }

func (w *world) newPeer(name string) *peer {
	p := &peer{w: w, name: name, updates: map[model.Digest]bool{}, models: map[model.Digest]bool{}, unsynced: map[model.Digest]bool{}}
	if w.opts.skew {
		p.clock = clock{offset: ledger.Time(w.more.IntN(100_000)), gain: ledger.Time(w.more.IntN(201) - 100)}
	}
	binary.BigEndian.PutUint64(p.log[:], w.rng.Uint64())
	w.peers = append(w.peers, p)
	return p
}

// live runs do after d if this life of the peer still lasts then; a paused peer does it when it goes on.
func (p *peer) live(d ledger.Time, do func()) {
	boot := p.boot
	p.w.after(d, func() {
		switch {
		case !p.up || p.boot != boot:
		case p.paused > p.w.now:
			p.live(p.paused-p.w.now, do)
		default:
			do()
		}
	})
}

// start boots the peer from its disk.
func (p *peer) start() {
	p.up, p.boot, p.synced, p.paused = true, p.boot+1, false, 0
	p.busy, p.wake = map[ledger.SessionKey]bool{}, -1
	l := ledger.New()
	if p.snapshot != nil {
		p.merge(l, p.snapshot)
	}
	for _, e := range p.journal {
		if _, err := l.Add(e); err != nil {
			panic(err)
		}
	}
	p.durable = len(p.journal)
	p.own = l.Vector()[p.log]
	p.replica = ledger.NewReplica(l, p.log)
	for _, d := range slices.SortedFunc(maps.Keys(p.models), compare) {
		p.replica.HoldModel(d, false) // it may be durable already, which the peer cannot know
		p.syncLater(d, slices.SortedFunc(maps.Keys(p.unsynced), compare)...)
	}
	p.w.law.said(p)
	p.w.say("%s starts with %d entries", p.name, len(p.journal))
	if p.own == 0 {
		p.append(&ledger.PeerJoined{Name: p.name, Mesh: "sim"})
	}
	p.verify()
	p.look()
	p.live(p.w.between(5, 50), func() { p.sync(0) })
	p.repeat(400, p.look)
	p.repeat(300, p.exchange)
	p.repeat(700, p.repair)
	p.repeat(1500, p.collect)
	if p.w.opts.compacts {
		p.compactLater()
	}
}

func (p *peer) repeat(d ledger.Time, do func()) {
	p.live(p.w.between(d/2, d+d/2), func() {
		do()
		p.repeat(d, do)
	})
}

// stop ends the process; a power cut also takes what was not synced.
func (p *peer) stop(power bool) {
	p.up = false
	if power {
		p.journal = p.journal[:p.durable]
		for _, d := range slices.SortedFunc(maps.Keys(p.unsynced), compare) {
			if p.w.chance(0.5) {
				delete(p.updates, d)
				delete(p.models, d)
			}
		}
		clear(p.unsynced)
	}
	p.w.say("%s is killed (power %v)", p.name, power)
}

// verify tells the others of updates whose bytes the disk has lost.
func (p *peer) verify() {
	for _, s := range p.replica.Ledger().Sessions() {
		for _, key := range s.Keys() {
			if final(s, key) {
				continue
			}
			for _, u := range s.Versions(key) {
				if slices.Contains(s.HoldersOf(u), p.log) && (!p.updates[u.Model] || !p.models[u.Base]) {
					p.append(&ledger.UpdateDropped{Session: s.Key(), Combiner: key.Combiner, ID: key.ID})
				}
			}
		}
	}
}

func final(s *ledger.Session, key ledger.Key) bool {
	n, ok := s.PlacedIn(key)
	return ok && n <= s.Final()
}

// append says something in the own log.
func (p *peer) append(b ledger.Body) bool {
	e, err := p.replica.Append(b)
	if err != nil {
		return false
	}
	p.persist([]*ledger.Entry{e})
	return true
}

// persist writes entries and, when they are durable, shows the own ones to the others.
func (p *peer) persist(es []*ledger.Entry) {
	if len(es) == 0 {
		return
	}
	p.journal = append(p.journal, es...)
	upto := p.written()
	p.live(p.w.between(0, 6), func() {
		p.durable = max(p.durable, upto-p.cut)
		defer p.w.law.said(p)
		for _, e := range es {
			if e.Log == p.log {
				p.own = max(p.own, e.Seq)
				p.w.say("%s says %s", p.name, describe(e.Body))
				for _, q := range p.w.peers {
					p.send(q, e)
				}
			}
		}
		p.poke()
	})
}

// send delivers an entry to another peer: late, twice, or not at all.
func (p *peer) send(q *peer, e *ledger.Entry) {
	if p == q || q.gone || p.w.chance(p.w.loss) {
		return
	}
	deliver := func() {
		if p.w.group[p] == p.w.group[q] && q.up && !p.w.deaf[way{p, q}] {
			q.live(0, func() { q.receive(e) })
		}
	}
	p.w.after(p.w.delay()*max(p.slow, 1), deliver)
	if p.w.chance(p.w.loss / 2) {
		p.w.after(p.w.delay(), deliver)
	}
}

// receive merges entries from elsewhere.
func (p *peer) receive(es ...*ledger.Entry) {
	for _, e := range es {
		admitted, err := p.replica.Ledger().Add(e)
		if err != nil {
			p.w.law.broken("%s: %v", p.name, err)
			return
		}
		p.persist(admitted)
	}
	p.poke()
}

// look updates whom the peer takes for alive, as late as a failure detector is.
func (p *peer) look() {
	var alive []ledger.LogID
	for _, q := range p.w.peers {
		if p.w.together(p, q) {
			alive = append(alive, q.log)
		}
	}
	p.replica.SetAlive(alive)
	p.poke()
}

// exchange pulls a part of what a random other peer holds and this one does not.
func (p *peer) exchange() {
	q := p.w.peers[p.w.rng.IntN(len(p.w.peers))]
	if p.w.linked(p, q) && !p.w.chance(p.w.loss) {
		p.pull(q, p.w.chaos && p.w.chance(0.7))
	}
}

// pull takes what q shows, some logs of it and some entries of those when partial.
func (p *peer) pull(q *peer, partial bool) {
	have, theirs := p.replica.Ledger().Vector(), q.replica.Ledger().Vector()
	if l := q.replica.Ledger(); !l.CanServe(have) || have.Covers(theirs) && p.replica.Ledger().Needs(l.Bases()) {
		p.takeSnapshot(q)
		return
	}
	var es []*ledger.Entry
	for _, log := range theirs.Logs() {
		to := theirs[log]
		if log == q.log {
			to = min(to, q.own)
		}
		if partial && p.w.chance(0.3) {
			continue
		}
		r := q.replica.Ledger().Range(log, have[log], to)
		if partial && len(r) > 0 {
			r = r[:p.w.rng.IntN(len(r)+1)]
		}
		es = append(es, r...)
	}
	if partial {
		p.w.rng.Shuffle(len(es), func(i, j int) { es[i], es[j] = es[j], es[i] })
	}
	if len(es) > 0 {
		p.live(p.w.delay(), func() { p.receive(es...) })
	}
}

// sync exchanges vectors with everybody in reach before the first seal; alone, it goes on after a while.
func (p *peer) sync(tries int) {
	found := false
	for _, q := range p.w.peers {
		if p.w.linked(p, q) {
			found = true
			p.pull(q, false)
		}
	}
	if found || tries > 5 {
		p.live(850, func() {
			p.synced = true
			p.replica.SetSynced(true)
			p.poke()
		})
		return
	}
	p.live(p.w.between(100, 300), func() { p.sync(tries + 1) })
}

// disk is what a backup of a peer's folder holds.
type disk struct {
	snapshot []byte
	journal  []*ledger.Entry
	updates  map[model.Digest]bool
	models   map[model.Digest]bool
}

// backUp copies the peer's folder.
func (p *peer) backUp() {
	if p.up {
		p.backup = disk{snapshot: p.snapshot, journal: p.journal[:p.durable:p.durable], updates: maps.Clone(p.updates), models: maps.Clone(p.models)}
	}
}

// restore starts a peer that is down from its backup, or from nothing. The others hold more of its log than it does: it takes a new
// log, and the old one is that of a peer who will not return.
func (p *peer) restore(empty bool) {
	ghost := &peer{w: p.w, name: p.name + "'", log: p.log, gone: true}
	p.w.peers = append(p.w.peers, ghost)
	binary.BigEndian.PutUint64(p.log[:], p.w.more.Uint64())
	b := p.backup
	if empty || b.journal == nil && b.snapshot == nil {
		b = disk{}
	}
	p.snapshot, p.journal, p.updates, p.models = b.snapshot, slices.Clone(b.journal), maps.Clone(b.updates), maps.Clone(b.models)
	if p.updates == nil {
		p.updates, p.models = map[model.Digest]bool{}, map[model.Digest]bool{}
	}
	clear(p.unsynced)
	p.w.say("%s starts again from a backup of %d entries, as a new peer", p.name, len(p.journal))
	p.start()
}

// pause stops the process without ending it; when it goes on it exchanges vectors before it seals.
func (p *peer) pause(d ledger.Time) {
	p.w.say("%s stalls for %d ms", p.name, d)
	p.paused = p.w.now + d
	p.synced = false
	p.replica.SetSynced(false)
	p.live(0, func() { p.sync(0) })
}

// poke lets the replica decide.
func (p *peer) poke() {
	if !p.up || p.paused > p.w.now {
		return
	}
	ready := p.replica.Tick(p.now())
	p.persist(ready.Entries)
	for _, work := range ready.Work {
		if !p.busy[work.Session] {
			p.busy[work.Session] = true
			p.live(p.w.between(1, 40), func() { p.do(work) })
		}
	}
	if ready.WakeSet {
		if d := p.clock.until(p.w.now, ready.Wake); p.wake <= p.w.now || p.w.now+d < p.wake {
			p.wake = p.w.now + d
			p.live(d, p.poke)
		}
	}
	p.w.law.observe(p)
}

func describe(b ledger.Body) string {
	switch b := b.(type) {
	case *ledger.UpdateHeld:
		return fmt.Sprintf("held %v (base %d) of %s", b.Key(), b.BaseRound, b.Session.Short())
	case *ledger.UpdateLost:
		return fmt.Sprintf("lost %v in round %d of %s", b.Key(), b.Round, b.Session.Short())
	case *ledger.UpdateDropped:
		return "dropped " + b.Combiner + "/" + b.ID
	case *ledger.RoundSealed:
		return fmt.Sprintf("sealed %d of %s", b.Round, b.Session.Short())
	case *ledger.RoundsSkipped:
		return fmt.Sprintf("skipped %d to %d of %s", b.From, b.To, b.Session.Short())
	case *ledger.RoundComputed:
		return fmt.Sprintf("computed %d of %s: inputs %s model %s", b.Round, b.Session.Short(), b.Inputs.Short(), b.Model.Short())
	}
	return fmt.Sprintf("%T", b)
}

func compare(a, b model.Digest) int { return slices.Compare(a[:], b[:]) }
