package mesh

import (
	"context"
	"time"
)

// askAround exchanges entries with other peers, one after the other and with another as well where one takes long, until what was
// looked for is found.
func (p *Peer) askAround(ctx context.Context, found func() bool) bool {
	if found() {
		return true
	}
	next := p.others()
	ctx, cancel := context.WithCancel(ctx)
	ended, running := make(chan target), 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-ended
		}
	}()
	ask := func() bool {
		if len(next) == 0 || ctx.Err() != nil {
			return false
		}
		t := next[0]
		next = next[1:]
		running++
		go func() {
			if err := p.exchange(ctx, t); err != nil && ctx.Err() == nil {
				p.log.Debug().Err(err).Str("peer", t.name).Msg("exchange failed")
			}
			ended <- t
		}()
		return true
	}
	hedge := time.NewTicker(hedgeAfter)
	defer hedge.Stop()
	for {
		if running == 0 {
			if !ask() {
				return false
			}
			hedge.Reset(hedgeAfter)
		}
		select {
		case <-ended:
			running--
			if found() {
				return true
			}
		case <-hedge.C:
			if running < askedAtOnce {
				ask()
			}
		case <-ctx.Done():
			return found()
		}
	}
}
