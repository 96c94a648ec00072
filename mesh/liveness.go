package mesh

import (
	"time"

	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// Gossip takes seconds to find out that a peer is dead. A connection that is refused says so at once: nobody listens there. Such a peer
// is taken for dead for a moment, and then tried again, unless it is heard of before. One that answers slowly is not dead, but is not
// asked for sums while others can be.
const (
	refusedFor = time.Second
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
	for _, m := range []map[ledger.LogID]time.Time{p.refused, p.slow} {
		for log, until := range m {
			if !time.Now().Before(until) {
				delete(m, log)
			}
		}
	}
}
