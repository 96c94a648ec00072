package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// Result is what a run was, for people, and what it shows.
type Result struct {
	Seed         uint64
	Hash         uint64 // of the whole trace: a replay has the same
	Peers        int
	Rounds       uint64 // of all sessions
	Final        uint64
	Acknowledged int
	Lost         int // times a round gave an update up
	Faults       []string
}

// Err returns nil for a run that kept all laws, else how to replay it and what broke.
func (r Result) Err() error {
	if len(r.Faults) == 0 {
		return nil
	}
	return fmt.Errorf("seed %d (make sim SEED=%d N=1): %s", r.Seed, r.Seed, strings.Join(r.Faults, "; "))
}

// Run plays one seed from start to rest. A trace of everything that happens goes to trace unless it is nil.
func Run(seed uint64, trace io.Writer) Result { return run(seed, trace, true) }

// RunPlain is Run with peers that never compact their ledgers: what it was before there was such a thing.
func RunPlain(seed uint64, trace io.Writer) Result { return run(seed, trace, false) }

func run(seed uint64, trace io.Writer, compact bool) Result {
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 0)), more: rand.New(rand.NewPCG(seed, 1)), late: rand.New(rand.NewPCG(seed, 2)), trace: trace, group: map[*peer]int{}, deaf: map[way]bool{},
		forgotten: map[string]bool{}, law: newLaws(), chaos: true,
	}
	w.opts = draw(w.rng)
	w.opts.drawMore(w.more)
	w.opts.drawLate(w.late)
	w.opts.compacts = w.opts.compacts && compact
	for i := range w.opts.peers {
		w.newPeer(string(rune('a' + i))).start()
	}
	w.run(1500)
	for len(w.peers[0].replica.Ledger().Peers()) < w.opts.peers { // a session lives as long as one of its founders
		w.run(w.now + 500)
	}
	for i := range w.opts.sessions {
		w.open(fmt.Sprintf("s%d", i+1))
	}
	w.run(w.now + 1500)
	for i := range w.opts.combiners {
		for _, key := range w.sessions {
			c := &combiner{w: w, name: fmt.Sprintf("c%d", i+1), session: key}
			w.combiners = append(w.combiners, c)
			w.after(w.between(0, 500), c.train)
		}
	}
	w.unleash()
	w.unleashMore()
	w.run(w.now + w.opts.chaosFor)
	w.heal()
	w.rest()
	w.judge()
	return w.result(seed)
}

// open opens a session at the first peer, with everybody it knows as founders.
func (w *world) open(name string) {
	p := w.peers[0]
	var members []ledger.LogID
	for _, q := range p.replica.Ledger().Peers() {
		members = append(members, q.Log)
	}
	sortLogs(members)
	config := ledger.Config{
		Strategy: "fedavg", TargetCombiners: uint32(w.opts.target), MinCombiners: uint32(w.opts.minimum), Copies: uint32(w.opts.copies),
		RoundTimeout: 1500, SettleTimeout: 500, LostAfter: 2000,
	}
	seed := model.Sum([]byte("seed of " + name))
	for _, q := range w.peers {
		q.models[seed] = true
		q.replica.HoldModel(seed, true)
	}
	key := ledger.NewSessionKey(name, config, seed, members)
	w.sessions = append(w.sessions, key)
	p.append(&ledger.SessionOpened{Session: key, Name: name, Config: config, Seed: seed, Members: members})
}

// unleash starts the faults, which go on until the world heals.
func (w *world) unleash() {
	w.loss = w.rng.Float64() * 0.4
	w.every(w.opts.killEvery, func() {
		if p := w.any(); w.chaos && p != nil {
			w.hit(p)
		}
	})
	w.every(w.opts.splitEvery, func() {
		if w.chaos {
			w.split()
		}
	})
	for range w.opts.joins {
		w.after(w.between(0, w.opts.chaosFor), func() {
			p := w.newPeer(string(rune('a' + len(w.peers))))
			w.group[p] = w.rng.IntN(2)
			p.start()
		})
	}
	if w.opts.permanent {
		w.after(w.between(0, w.opts.chaosFor), func() {
			if p := w.any(); p != nil && w.living() > 1 {
				p.gone = true
				p.stop(false)
				w.say("%s will not return", p.name)
			}
		})
	}
	if w.opts.forgets {
		w.every(w.opts.splitEvery, func() {
			if w.chaos {
				w.forget(w.any(), w.chance(0.3))
			}
		})
	}
	if w.opts.leaves {
		w.after(w.between(0, w.opts.chaosFor), func() {
			if p := w.any(); p != nil && w.living() > 2 {
				p.leaving = true
			}
		})
	}
}

// unleashMore starts the faults that came later.
func (w *world) unleashMore() {
	often := func(d ledger.Time, do func(p *peer)) {
		var again func()
		again = func() {
			if p := w.peers[w.more.IntN(len(w.peers))]; w.chaos {
				do(p)
				w.after(d/2+ledger.Time(w.more.Int64N(int64(d))), again)
			}
		}
		w.after(d, again)
	}
	if w.opts.closes {
		w.after(ledger.Time(w.late.Int64N(int64(w.opts.chaosFor))), func() { w.close(w.sessions[0]) })
	}
	if w.opts.slow {
		w.peers[w.more.IntN(len(w.peers))].slow = 10
	}
	if w.opts.oneWay {
		often(w.opts.splitEvery, func(p *peer) {
			q := w.peers[w.more.IntN(len(w.peers))]
			w.deaf[way{p, q}] = true
			w.say("%s does not hear %s", q.name, p.name)
			w.after(ledger.Time(200+w.more.IntN(4000)), func() { delete(w.deaf, way{p, q}) })
		})
	}
	if w.opts.restores {
		often(3*w.opts.killEvery, func(p *peer) { p.backUp() })
		often(4*w.opts.killEvery, func(p *peer) {
			if p.up && !p.leaving && w.living() > 1 && len(w.peers) < 20 {
				p.stop(false)
				p.restore(w.more.IntN(2) == 0)
			}
		})
	}
}

// forget has an operator at some peer forget those that are dead for good, or, by mistake, somebody else.
func (w *world) forget(at *peer, mistake bool) {
	if at == nil || !at.synced || at.paused > w.now || at.leaving {
		return
	}
	var targets []ledger.LogID
	for _, p := range w.peers {
		q, joined := at.replica.Ledger().Peer(p.log)
		if joined && p != at && (p.gone && !q.Left || mistake && w.chance(0.3)) {
			targets = append(targets, p.log)
		}
	}
	if sortLogs(targets); len(targets) > 0 && at.append(&ledger.PeerForgotten{Targets: targets}) {
		w.forgotten[fmt.Sprint(targets)] = true
		w.say("%s forgets %v", at.name, w.names(targets))
	}
}

// any returns a random peer that is up, or nil.
func (w *world) any() *peer {
	var up []*peer
	for _, p := range w.peers {
		if p.up {
			up = append(up, p)
		}
	}
	if len(up) == 0 {
		return nil
	}
	return up[w.rng.IntN(len(up))]
}

func (w *world) living() int {
	n := 0
	for _, p := range w.peers {
		if !p.gone {
			n++
		}
	}
	return n
}

// hit kills a peer and starts it again later, or stalls it.
func (w *world) hit(p *peer) {
	if w.rng.IntN(4) == 0 {
		p.pause(w.between(100, 5000))
		return
	}
	p.stop(w.opts.power && w.chance(0.3))
	w.after(w.between(50, 6000), func() {
		if !p.up && !p.gone {
			p.start()
		}
	})
}

// split cuts the network in two for a while.
func (w *world) split() {
	for _, p := range w.peers {
		w.group[p] = w.rng.IntN(2)
	}
	w.say("the network splits: %v", w.groups())
	w.after(w.between(200, 6000), w.join)
}

func (w *world) join() {
	clear(w.group)
	w.say("the network heals")
}

func (w *world) groups() []int {
	var out []int
	for _, p := range w.peers {
		out = append(out, w.group[p])
	}
	return out
}

// heal ends all faults and starts every peer that is not gone.
func (w *world) heal() {
	w.chaos, w.loss = false, 0
	w.join()
	clear(w.deaf)
	for _, p := range w.peers {
		p.paused = min(p.paused, w.now)
		if !p.up && !p.gone {
			p.start()
		}
	}
}

// rest lets the combiners finish what they have begun, closes the sessions, and lets everything come to rest.
func (w *world) rest() {
	busy := func() bool {
		for _, c := range w.combiners {
			if !c.idle {
				return true
			}
		}
		return false
	}
	for end := w.now + 200_000; busy() && w.now < end; {
		w.run(w.now + 500)
	}
	if busy() {
		w.law.broken("a combiner is stuck")
	}
	w.run(w.now + 1500)
	for _, p := range w.peers { // whoever issued a proposal may have lost the trust of some: operators try everywhere
		if w.opts.forgets && p.up {
			w.forget(p, false)
		}
	}
	w.run(w.now + 1500)
	for _, key := range w.sessions {
		for end := w.now + 20_000; !w.close(key) && w.now < end; {
			w.run(w.now + 500)
		}
	}
	leaving := func(p *peer) bool { return p.up && p.leaving }
	for end := w.now + 200_000; slices.ContainsFunc(w.peers, leaving) && w.now < end; {
		w.run(w.now + 500)
	}
	w.run(w.now + 15_000)
}

// close closes a session at the first peer that is ready to.
func (w *world) close(key ledger.SessionKey) bool {
	return slices.ContainsFunc(w.peers, func(p *peer) bool {
		return p.session(key) != nil && !p.leaving && p.append(&ledger.SessionClosed{Session: key})
	})
}

func (w *world) result(seed uint64) Result {
	w.say("options %+v", w.opts)
	r := Result{Seed: seed, Hash: w.hash, Peers: len(w.peers), Acknowledged: len(w.law.acks), Faults: w.law.faults}
	for _, p := range w.peers {
		if !p.up {
			continue
		}
		for _, key := range w.sessions {
			if s := p.replica.Ledger().Session(key); s != nil {
				r.Rounds += s.Open() - 1
				r.Final += s.Final()
			}
		}
		for _, e := range p.journal {
			if e.Body.Kind() == ledger.KindUpdateLost {
				r.Lost++
			}
		}
		break
	}
	return r
}
