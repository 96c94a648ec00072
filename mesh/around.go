package mesh

import (
	"context"
	"sync/atomic"
	"time"
)

// askedAtOnce bounds how many peers are asked for one thing at a time. There is more than one only while nobody answers.
const askedAtOnce = 3

// pace is how long answers take to begin, smoothed, in nanoseconds. On a slow network all do, and asking others as well would only slow it
// down more.
type pace struct{ mean atomic.Int64 }

func (a *pace) note(took time.Duration) {
	old := a.mean.Load()
	a.mean.Store(old + (int64(took)-old)/4) // one of two at a time may be lost
}

// hedge is how long a peer may take without anything arriving until another is asked as well.
func (a *pace) hedge() time.Duration {
	return min(max(hedgeAfter, 3*time.Duration(a.mean.Load())), firstByte)
}

// askAround exchanges entries with other peers, one after the other and with another as well where one takes long, until what was
// looked for is found.
func (p *Peer) askAround(ctx context.Context, found func() bool) bool {
	if found() {
		return true
	}
	next := p.callerFirst(ctx)
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
				p.log.Debug().Err(err).Str("peer", t.name).Msg("an exchange failed")
			}
			ended <- t
		}()
		return true
	}
	hedge := time.NewTicker(p.pace.hedge())
	defer hedge.Stop()
	for {
		if running == 0 {
			if !ask() {
				return false
			}
			hedge.Reset(p.pace.hedge())
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
