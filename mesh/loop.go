package mesh

import (
	"fmt"
	"time"

	"github.com/fedmesh/fedmesh/mesh/ledger"
)

const (
	tickEvery = 500 * time.Millisecond // at the latest
	stalled   = 2 * time.Second        // a loop that comes so late was stopped, or starved
)

// loop lets the replica decide whenever something changed or a time has come.
func (p *Peer) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-p.kick:
		case <-timer.C:
		}
		if late := time.Since(due); late > stalled {
			p.stalled(late)
		}
		wait := p.tick()
		due = time.Now().Add(wait)
		timer.Reset(wait)
	}
}

// stalled makes a peer that stood still exchange vectors before it seals again.
func (p *Peer) stalled(d time.Duration) {
	p.mu.Lock()
	p.synced = false
	p.replica.SetSynced(false)
	p.mu.Unlock()
	p.metrics.stalls.Inc()
	p.log.Warn().Dur("late", d).Msg("this peer stood still; it catches up before it goes on")
	p.hasten()
}

// tick makes the decisions that are due, starts the work they ask for, and returns when to look again at the latest.
func (p *Peer) tick() time.Duration {
	p.mu.Lock()
	if p.broken != nil || !p.joined {
		p.mu.Unlock()
		return tickEvery
	}
	ready := p.replica.Tick(p.now())
	ready.Entries = append(ready.Entries, p.lateWords()...)
	pos, err := p.write(ready.Entries)
	if err != nil {
		p.mu.Unlock()
		return tickEvery
	}
	wait := tickEvery
	for _, w := range ready.Work {
		if again := p.start(w); again > 0 {
			wait = min(wait, again)
		}
	}
	if len(ready.Entries) > 0 {
		p.notify()
	}
	p.report()
	now := p.now()
	p.mu.Unlock()
	p.lookAfter(ready.Awaited)
	if err := p.publish(p.ctx, pos, ready.Entries); err != nil && p.ctx.Err() == nil {
		p.log.Error().Err(err).Msg("decisions could not be made durable")
	}
	for _, e := range ready.Entries {
		if seal, ok := e.Body.(*ledger.RoundSealed); ok {
			p.wg.Go(func() { p.gossipPartial(seal) })
		}
	}
	if ready.WakeSet {
		wait = min(wait, max(time.Duration(ready.Wake-now)*time.Millisecond, time.Millisecond))
	}
	return wait
}

// settleIn is done once, when a starting peer has heard what the others know: it finds out whether its own log is still its own,
// says that it joined, and takes back what it said of bytes that are gone.
func (p *Peer) settleIn() error {
	p.mu.Lock()
	if p.joined {
		p.mu.Unlock()
		return nil
	}
	renew := p.mustRenew()
	p.mu.Unlock()
	if renew != "" {
		p.log.Warn().Str("reason", renew).Msg("this peer begins a new log")
		if err := p.renew(); err != nil {
			return err
		}
	}
	p.inspectModels()
	dropped := p.inspectUpdates()
	err := p.say(p.ctx, func() ([]ledger.Body, error) {
		l := p.replica.Ledger()
		self, known := l.Peer(p.self)
		var bodies []ledger.Body
		if !known || self.Name != p.cfg.Name {
			bodies = append(bodies, &ledger.PeerJoined{Name: p.cfg.Name, Mesh: p.cfg.Mesh})
		}
		return append(bodies, dropped...), nil
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.joined = true
	p.mu.Unlock()
	for _, d := range p.dir.Blobs().List() {
		p.syncModel(d)
	}
	return nil
}

// mustRenew returns why the log in the data directory cannot be gone on with, if so. It is called with p.mu held.
func (p *Peer) mustRenew() string {
	l := p.replica.Ledger()
	have := l.Vector()[p.self]
	for _, v := range p.vectors {
		if v[p.self] > have {
			return "the others hold more of this peer's log than its data directory: that was restored from a backup"
		}
	}
	if peer, ok := l.Peer(p.self); ok && peer.Left {
		return "the peer of this data directory has left the mesh"
	}
	return ""
}

// renew takes a new log id, and the old log for somebody else's.
func (p *Peer) renew() error {
	self, err := p.newIdentity()
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.adopt(p.replica.Ledger(), self)
	g := p.gossip
	p.mu.Unlock()
	if err := g.UpdateMeta(p.meta()); err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	p.look()
	for _, t := range p.others() {
		p.tryExchange(t)
	}
	return nil
}

// isFinal reports whether an update is counted for ever.
func isFinal(s *ledger.Session, key ledger.Key) bool {
	n, ok := s.PlacedIn(key)
	return ok && n <= s.Final()
}
