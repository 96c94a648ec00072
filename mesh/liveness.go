package mesh

import (
	"context"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// Gossip takes seconds to find out that a peer is dead. A connection that is refused says so at once: nobody listens there. Such a peer
// is taken for dead for a moment, and then tried again, unless it is heard of before. One that answers slowly is not dead, but is not
// asked for sums while others can be. And one that calls is alive: after a cut gossip may know for seconds on one side only that it is over.
const (
	refusedFor = time.Second
	heardFor   = 3 * time.Second
	slowFor    = 10 * time.Second
	askEvery   = 100 * time.Millisecond
	firstByte  = 2 * time.Second // in which the answer must begin to a request for entries, a file or a sum
)

// refuses notes that a peer cannot be connected to.
func (p *Peer) refuses(log ledger.LogID) {
	p.mu.Lock()
	_, known := p.refused[log]
	p.refused[log] = time.Now().Add(refusedFor)
	p.mu.Unlock()
	if !known {
		p.look()
	}
	time.AfterFunc(refusedFor, p.look)
}

// answers notes that a peer was heard.
func (p *Peer) answers(log ledger.LogID) {
	p.mu.Lock()
	_, refused := p.refused[log]
	delete(p.refused, log)
	delete(p.slow, log)
	p.mu.Unlock()
	if refused {
		p.look()
	}
}

// callerKey is the key, in a request's context, of the log of the peer that calls.
type callerKey struct{}

// callerFirst returns the living peers, first the one that made the request: who sends a copy of an update has its base, and knows its round.
func (p *Peer) callerFirst(ctx context.Context) []target {
	caller, _ := ctx.Value(callerKey{}).(ledger.LogID)
	others := p.others()
	i := slices.IndexFunc(others, func(t target) bool { return t.log == caller })
	if i > 0 {
		from := others[i]
		others = slices.Insert(slices.Delete(others, i, i+1), 0, from)
	}
	return others
}

// hears notes that a peer called, and has gossip meet it if it is dead to that. What is known of one that came back at another address says
// nothing of where it is now: that is for gossip to find out.
func (p *Peer) hears(log ledger.LogID, at string) {
	p.mu.Lock()
	m, known := p.members[log]
	if known && m.api != at {
		p.mu.Unlock()
		return
	}
	_, again := p.heard[log]
	dead := known && !m.left && (!m.alive || again)
	if dead { // what it said before it was found to be dead does not count
		p.heard[log] = time.Now().Add(heardFor)
	}
	g := p.gossip
	p.mu.Unlock()
	p.answers(log)
	if !dead || g == nil {
		return
	}
	p.look()
	time.AfterFunc(heardFor, p.look)
	g.Greet(m.name)
}

// hesitates notes that a peer leaves requests unanswered.
func (p *Peer) hesitates(log ledger.LogID) {
	p.mu.Lock()
	p.slow[log] = time.Now().Add(slowFor)
	p.mu.Unlock()
}

// lookAfter exchanges entries with peers whose seals are waited for: one may have sealed unheard, or be dead.
func (p *Peer) lookAfter(logs []ledger.LogID) {
	for _, log := range logs {
		p.mu.Lock()
		recent := time.Since(p.asked[log]) < askEvery
		if !recent {
			p.asked[log] = time.Now()
		}
		p.mu.Unlock()
		if log != p.self && !recent {
			p.exchangeSoon(log)
		}
	}
}

// whileAlive has stop called when a peer is found to be dead, unless release is called before.
func (p *Peer) whileAlive(log ledger.LogID, stop func()) (release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := p.calls[log]
	if calls == nil {
		calls = map[*func()]bool{}
		p.calls[log] = calls
	}
	key := &stop
	calls[key] = true
	return func() {
		p.mu.Lock()
		delete(calls, key)
		p.mu.Unlock()
	}
}

// breakOff ends all calls to a peer. It is called with p.mu held.
func (p *Peer) breakOff(log ledger.LogID) {
	for stop := range p.calls[log] {
		(*stop)()
	}
	delete(p.calls, log)
}

// expire forgets whom there is no reason to avoid any longer. It is called with p.mu held.
func (p *Peer) expire() {
	for _, m := range []map[ledger.LogID]time.Time{p.refused, p.slow, p.heard} {
		for log, until := range m {
			if !time.Now().Before(until) {
				delete(m, log)
			}
		}
	}
}
