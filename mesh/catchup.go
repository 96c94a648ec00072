package mesh

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// A peer that starts, or that stood still, is not ready before it knows what the others know: it would accept updates for rounds that are
// over, and serve models that are old.

// catchUp exchanges with everybody in reach and then lets the peer take part. Nobody in reach counts as everybody once the time
// for looking has passed: availability first. Where gossip reaches others and no exchange succeeds, that is given longer.
func (p *Peer) catchUp(all []target, alone time.Time) {
	reached := 0
	var wg sync.WaitGroup
	answers := make([]bool, len(all))
	for i, t := range all {
		wg.Go(func() { answers[i] = p.tryExchange(t) })
	}
	wg.Wait()
	for _, ok := range answers {
		if ok {
			reached++
		}
	}
	if why := p.behind(reached, len(all), alone); why != nil {
		p.mu.Lock()
		p.why = why
		p.mu.Unlock()
		return
	}
	if err := p.settleIn(); err != nil {
		if p.ctx.Err() == nil {
			p.mu.Lock()
			p.why = err
			p.mu.Unlock()
			if skipped, due := p.said.again("settle"); due {
				p.log.Error().Err(err).Int("skipped", skipped).Msg("this peer cannot take part")
			}
		}
		return
	}
	p.mu.Lock()
	p.synced, p.why = true, nil
	p.replica.SetSynced(true)
	p.notify()
	p.mu.Unlock()
	if reached == 0 && len(all) > 0 {
		p.log.Warn().Int("peers", len(all)).Msg("no peer in reach tells what it knows; this peer goes on with what it knew")
	}
	p.log.Info().Int("peers", reached).Msg("ready")
	p.wake()
}

// behind returns what a peer that has exchanged with so many of those in reach waits for still, if for anything.
func (p *Peer) behind(reached, of int, alone time.Time) error {
	left := time.Until(alone)
	switch {
	case of == 0 && left > 0 && (len(p.cfg.Join) > 0 || p.knowsOthers()):
		return fmt.Errorf("this peer looks for the others; when it finds none it goes on alone in %v", left.Round(time.Second/10))
	case of > 0 && reached < of && left > 0, of > 0 && reached == 0 && left+p.cfg.StallAfter > 0:
		return fmt.Errorf("this peer is catching up: it has heard from %d of the %d peers in reach what they know", reached, of)
	}
	return nil
}

// notSynced is why a peer is not ready that has not caught up. It is called with p.mu held.
func (p *Peer) notSynced() error {
	if p.why != nil {
		return p.why
	}
	return errors.New("this peer has not yet heard what the others know")
}

// knowsOthers reports whether the ledger names peers other than this one.
func (p *Peer) knowsOthers() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.replica.Ledger().Peers() {
		if q.Log != p.self && !q.Left {
			return true
		}
	}
	return false
}
