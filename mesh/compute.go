package mesh

import (
	"context"
	"fmt"
	"time"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

const retryWorkIn = 250 * time.Millisecond // after work failed

// start begins a piece of work unless the session is busy with one, or others come first: then it returns in which time to ask
// again. It is called with p.mu held.
func (p *Peer) start(w ledger.Work) (again time.Duration) {
	st := p.local(w.Session)
	if st.busy || time.Now().Before(st.notUntil) || p.ctx.Err() != nil {
		return 0
	}
	if again := p.turnIn(st, w); again > 0 {
		return again
	}
	st.busy = true
	inARow := st.turn.goal > 0
	takes := make([][]target, len(w.Takes))
	for i, t := range w.Takes {
		takes[i] = p.among(t.Holders)
	}
	p.wg.Go(func() {
		err := p.work(p.ctx, w, takes, inARow)
		p.mu.Lock()
		st.busy = false
		if err != nil {
			st.notUntil = time.Now().Add(retryWorkIn)
			time.AfterFunc(retryWorkIn, p.wake)
		} else {
			st.turn.moved()
			p.said.over(lacking(w.Session))
		}
		p.notify()
		p.mu.Unlock()
		if err != nil && p.ctx.Err() == nil {
			p.lacks(w, err)
		}
		p.wake()
	})
	return 0
}

// work takes or computes the model that a session needs next. A later model that others have saves computing this one, as does this
// one when it is among several in a row.
func (p *Peer) work(ctx context.Context, w ledger.Work, takes [][]target, inARow bool) error {
	later := len(w.Takes) > 0 && (inARow || w.Takes[0].Round > w.Round.Number || w.Round.Number == 0)
	if later {
		if err := p.fetchResult(ctx, w.Takes[0].Result, takes[0]); err == nil || w.Round.Number == 0 {
			p.countTaken(w, err)
			return err
		}
	}
	if inARow {
		p.lookAhead(w)
	}
	missing, err := p.compute(ctx, w)
	if err == nil {
		p.metrics.rounds.WithLabelValues("computed").Inc()
		p.miss(w, nil)
		return nil
	}
	if !later && len(w.Takes) > 0 {
		if p.fetchResult(ctx, w.Takes[0].Result, takes[0]) == nil {
			p.countTaken(w, nil)
			return nil
		}
	}
	p.miss(w, missing)
	return err
}

// miss tells the replica which updates nobody delivers.
func (p *Peer) miss(w ledger.Work, keys []ledger.Key) {
	p.mu.Lock()
	p.replica.Missing(w.Session, w.Round.Inputs, keys, p.now())
	p.mu.Unlock()
}

// compute computes a round's model from its content. What is not here is had from others: as sums that they made, where the
// strategy needs no more and they are smaller, else as the updates' own bytes, which stay here until the round is final. What is here
// is durable before the peer gives its word. It returns the updates that could not be had.
func (p *Peer) compute(ctx context.Context, w ledger.Work) (missing []ledger.Key, err error) {
	st, err := p.prepare(w.Session)
	if err != nil {
		return nil, err
	}
	release := p.pin(blobsOf(w)...)
	defer release()
	began := time.Now()
	in, missing, err := p.gather(ctx, st, w)
	if err != nil {
		return missing, err
	}
	defer in.close()
	gathered := time.Now()
	plan, err := aggregate.PlanRound(ctx, st.strategy, in.round)
	if err != nil {
		return nil, fmt.Errorf("mesh: round %d: %w", w.Round.Number, err)
	}
	res, unpin, err := p.writeResult(ctx, st, plan, in)
	if err != nil {
		return nil, err
	}
	defer unpin()
	if err := p.noteMade(madeModel{
		Session: w.Session, Round: w.Round.Number, Inputs: w.Round.Inputs, Model: res.Model, State: res.State, Most: ledger.Most(w.Round.Content),
	}); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.replica.Computed(w.Round.Inputs, res, false)
	p.noteComputed(w.Session, w.Round.Number)
	name := p.nameOfSession(w.Session)
	p.mu.Unlock()
	p.wake()
	took := time.Since(gathered)
	p.metrics.round.WithLabelValues("gather").Observe(gathered.Sub(began).Seconds())
	p.metrics.round.WithLabelValues("compute").Observe(took.Seconds())
	p.log.Debug().Str("session", name).Uint64("round", w.Round.Number).Stringer("model", res.Model).Int("updates", len(in.content)).Int("sums", len(in.sums)).
		Dur("gathered", gathered.Sub(began)).Dur("took", took).Msg("a round was computed")
	// The model is served from now on; the word for it waits for the disk.
	unpinAll := p.pin(append(blobsOf(w), res.Model, res.State)...)
	p.wg.Go(func() {
		defer unpinAll()
		if err := p.syncAll(ctx, blobsOf(w)); err != nil {
			if ctx.Err() == nil {
				p.log.Error().Err(err).Str("session", name).Uint64("round", w.Round.Number).Msg("what a round was computed from could not be made durable")
			}
			return
		}
		p.syncResult(res)
	})
	return nil, nil
}

// blobsOf returns what a round is computed from; digests of nothing may be among it.
func blobsOf(w ledger.Work) []model.Digest {
	ds := []model.Digest{w.Previous.Model, w.Previous.State}
	for _, u := range w.Round.Content {
		ds = append(ds, u.Model, u.Base)
	}
	return ds
}
