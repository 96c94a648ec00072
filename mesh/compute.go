package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

const (
	workers      = 2                      // goroutines that compute a round, a range each
	fetchAtOnce  = 4                      // updates fetched at a time
	retryWorkIn  = 250 * time.Millisecond // after work failed
	errorsToShow = 3
)

// start begins a piece of work unless the session is busy with one. It is called with p.mu held.
func (p *Peer) start(w ledger.Work) {
	st := p.local(w.Session)
	if st.busy || time.Now().Before(st.notUntil) || p.ctx.Err() != nil {
		return
	}
	st.busy = true
	takes := make([][]target, len(w.Takes))
	for i, t := range w.Takes {
		takes[i] = p.among(t.Holders)
	}
	p.wg.Go(func() {
		err := p.work(p.ctx, w, takes)
		p.mu.Lock()
		st.busy = false
		if err != nil {
			st.notUntil = time.Now().Add(retryWorkIn)
			time.AfterFunc(retryWorkIn, p.wake)
		}
		p.notify()
		p.mu.Unlock()
		if err != nil && p.ctx.Err() == nil {
			p.log.Warn().Err(err).Stringer("session", w.Session).Uint64("round", w.Round.Number).Msg("a model could not be had; trying again")
		}
		p.wake()
	})
}

// work takes or computes the model that a session needs next. A later model that others have saves computing this one.
func (p *Peer) work(ctx context.Context, w ledger.Work, takes [][]target) error {
	began := time.Now()
	later := len(w.Takes) > 0 && (w.Takes[0].Round > w.Round.Number || w.Round.Number == 0)
	if later {
		if err := p.fetchModel(ctx, w.Takes[0].Model, takes[0]); err == nil || w.Round.Number == 0 {
			return err
		}
	}
	missing, err := p.compute(ctx, w)
	if err == nil {
		p.metrics.compute.Observe(time.Since(began).Seconds())
		p.miss(w, nil)
		return nil
	}
	if !later && len(w.Takes) > 0 {
		if p.fetchModel(ctx, w.Takes[0].Model, takes[0]) == nil {
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

// ingredients are the open files that a round is computed from.
type ingredients struct {
	round   aggregate.Round
	content []*ledger.UpdateHeld
	sums    []sumSource
	files   []*store.Blob
}

func (in *ingredients) close() {
	for _, f := range in.files {
		_ = f.Close()
	}
}

// compute computes a round's model from its content. What is not here is had from others: as sums that they made, where the
// strategy needs no more and they are smaller, else as the updates' own bytes, which stay here until the round is final. It returns the updates that could not be had.
func (p *Peer) compute(ctx context.Context, w ledger.Work) (missing []ledger.Key, err error) {
	st, err := p.prepare(w.Session)
	if err != nil {
		return nil, err
	}
	release := p.pin(blobsOf(w)...)
	defer release()
	in, missing, err := p.gather(ctx, st, w)
	if err != nil {
		return missing, err
	}
	defer in.close()
	plan, err := aggregate.PlanRound(ctx, st.strategy, in.round)
	if err != nil {
		return nil, fmt.Errorf("mesh: round %d: %w", w.Round.Number, err)
	}
	d, unpin, err := p.writeModel(ctx, st.spec, plan, in)
	if err != nil {
		return nil, err
	}
	defer unpin()
	if err := p.noteMade(madeModel{Session: w.Session, Round: w.Round.Number, Inputs: w.Round.Inputs, Model: d}); err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.replica.Computed(w.Round.Inputs, d, false)
	p.mu.Unlock()
	if len(in.sums) == 0 {
		p.syncModel(d)
		return nil, nil
	}
	// The model came from sums. It is served already; the word for it waits for the updates themselves.
	p.wake()
	unpinAll := p.pin(blobsOf(w)...)
	p.wg.Go(func() {
		defer unpinAll()
		p.vouch(ctx, w, d)
	})
	return nil, nil
}

// vouch makes a model that came from sums durable, so that the peer gives its word for it, once the updates themselves are here: it
// must be able to compute the round again, should a late seal amend it. It tries for as long as the round stands as it is.
func (p *Peer) vouch(ctx context.Context, w ledger.Work, d model.Digest) {
	for {
		_, err := p.fetchUpdates(ctx, w)
		if err == nil {
			p.syncModel(d)
			return
		}
		select {
		case <-time.After(retryWorkIn):
		case <-ctx.Done():
			return
		}
		p.mu.Lock()
		s, n := p.replica.Ledger().Session(w.Session), w.Round.Number
		stands := n > s.Final() && n < s.Open() && s.Round(n).Inputs == w.Round.Inputs
		p.mu.Unlock()
		if !stands {
			p.syncModel(d) // another version of the round counts now; this one may be an update's base
			return
		}
		p.log.Debug().Err(err).Uint64("round", n).Msg("updates of a round that was computed from sums are not to be had; trying again")
	}
}

func blobsOf(w ledger.Work) []model.Digest {
	ds := []model.Digest{w.Previous}
	for _, u := range w.Round.Content {
		ds = append(ds, u.Model, u.Base)
	}
	return ds
}

// gather opens everything that a round is computed from.
func (p *Peer) gather(ctx context.Context, st *session, w ledger.Work) (in *ingredients, missing []ledger.Key, err error) {
	if missing, err = p.fetchBases(ctx, w); err != nil {
		return nil, missing, err
	}
	in = &ingredients{content: w.Round.Content, sums: p.sumsFor(ctx, st, w)}
	covered := map[ledger.Key]bool{}
	for _, s := range in.sums {
		for _, k := range s.keys {
			covered[k] = true
		}
	}
	var fetch []*ledger.UpdateHeld
	for _, u := range w.Round.Content {
		if !covered[u.Key()] {
			fetch = append(fetch, u)
		}
	}
	if missing, err = p.fetchContent(ctx, w.Session, fetch); err != nil {
		return nil, missing, err
	}
	if err = p.openAll(st, w, in, covered); err != nil {
		in.close()
		return nil, nil, err
	}
	return in, nil, nil
}

func (p *Peer) openAll(st *session, w ledger.Work, in *ingredients, covered map[ledger.Key]bool) error {
	open := func(d model.Digest) (*store.Blob, error) {
		b, err := p.open(d)
		if err == nil {
			in.files = append(in.files, b)
		}
		return b, err
	}
	prev, err := open(w.Previous)
	if err != nil {
		return err
	}
	in.round = aggregate.Round{
		Spec:   st.spec,
		Number: w.Round.Number,
		Inputs: w.Round.Inputs,
		Prev:   aggregate.Model{Digest: w.Previous, Source: prev},
		Base:   func(d model.Digest) (io.ReaderAt, error) { return open(d) },
	}
	for _, u := range w.Round.Content {
		up := aggregate.Update{Weight: int64(u.Weight), Base: u.Base, BaseRound: u.BaseRound, Name: u.Combiner}
		if !covered[u.Key()] {
			b, err := open(u.Model)
			if err != nil {
				return err
			}
			up.Source = b
		}
		in.round.Updates = append(in.round.Updates, up)
	}
	return nil
}

// fetchBases makes sure that the bases of a round's updates are here.
func (p *Peer) fetchBases(ctx context.Context, w ledger.Work) (missing []ledger.Key, err error) {
	var failed error
	for _, u := range w.Round.Content {
		if u.Base == w.Previous || p.dir.Blobs().Has(u.Base) {
			continue
		}
		if err := p.fetchModel(ctx, u.Base, p.others()); err != nil {
			missing = append(missing, u.Key())
			failed = err
		}
	}
	return missing, failed
}

// fetchUpdates makes sure that the bytes of a round's content are here.
func (p *Peer) fetchUpdates(ctx context.Context, w ledger.Work) (missing []ledger.Key, err error) {
	return p.fetchContent(ctx, w.Session, w.Round.Content)
}

// fetchContent fetches updates, from those who say that they hold them, then from anybody.
func (p *Peer) fetchContent(ctx context.Context, key ledger.SessionKey, content []*ledger.UpdateHeld) (missing []ledger.Key, err error) {
	failed := make([]error, len(content))
	var g errgroup.Group
	g.SetLimit(fetchAtOnce)
	for i, u := range content {
		if p.dir.Blobs().Has(u.Model) {
			continue
		}
		g.Go(func() error {
			failed[i] = p.fetch(ctx, u.Model, p.sourcesOf(key, u))
			return nil
		})
	}
	_ = g.Wait()
	var shown []error
	for i, err := range failed {
		if err == nil {
			continue
		}
		missing = append(missing, content[i].Key())
		if len(shown) < errorsToShow {
			shown = append(shown, fmt.Errorf("update %s: %w", content[i].Key(), err))
		}
	}
	return missing, errors.Join(shown...)
}

// sourcesOf returns the living peers to ask for an update: its holders first.
func (p *Peer) sourcesOf(key ledger.SessionKey, u *ledger.UpdateHeld) []target {
	p.mu.Lock()
	defer p.mu.Unlock()
	var holders []ledger.LogID
	if s := p.replica.Ledger().Session(key); s != nil {
		holders = s.HoldersOf(u)
	}
	out := p.among(holders)
	for _, t := range p.living() {
		if !slices.Contains(holders, t.log) {
			out = append(out, t)
		}
	}
	return out
}

// writeModel writes a round's model, range by range in parallel, and returns its digest; the blob is pinned until unpin.
func (p *Peer) writeModel(ctx context.Context, spec *aggregate.Spec, plan aggregate.Plan, in *ingredients) (d model.Digest, unpin func(), err error) {
	w, err := p.dir.Blobs().Create()
	if err != nil {
		return d, nil, fmt.Errorf("mesh: %w", err)
	}
	defer w.Abort()
	if _, err := w.WriteAt(spec.Layout().Header(), 0); err != nil {
		return d, nil, fmt.Errorf("mesh: %w", err)
	}
	g, gctx := errgroup.WithContext(ctx)
	for from, to := range spec.Split(workers) {
		g.Go(func() error {
			sums, done, err := p.openSums(gctx, in.sums, from, to)
			if err != nil {
				return err
			}
			defer done()
			offset, _ := spec.Section(from, to)
			var ws aggregate.Workspace
			events, err := plan.Range(gctx, &ws, from, to, sums, aggregate.Output{Model: io.NewOffsetWriter(w, offset)})
			if err == nil && events.Kept != "" && from == 0 {
				p.events.warn("", "the round keeps the previous model: "+events.Kept)
			}
			if err == nil && events.Saturated > 0 {
				p.events.warn(events.Tensor, fmt.Sprintf("%d values of the mean are beyond the tensor's range and were cut to it, first element %d", events.Saturated, events.Index))
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return d, nil, fmt.Errorf("mesh: %w", err)
	}
	h := model.NewHash()
	if _, err := io.CopyBuffer(h, struct{ io.Reader }{io.NewSectionReader(w, 0, spec.Layout().Size())}, make([]byte, copyBuffer)); err != nil {
		return d, nil, fmt.Errorf("mesh: %w", err)
	}
	d = model.Digest(h.Sum(nil))
	unpin = p.pin(d)
	if err := w.Commit(ctx, d, false); err != nil {
		unpin()
		return d, nil, fmt.Errorf("mesh: %w", err)
	}
	return d, unpin, nil
}
