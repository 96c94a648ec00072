package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

const (
	fetchAtOnce  = 4 // blobs fetched at a time
	errorsToShow = 3
)

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

// gather opens everything that a round is computed from.
func (p *Peer) gather(ctx context.Context, st *session, w ledger.Work) (in *ingredients, missing []ledger.Key, err error) {
	sums, missing, err := p.fetchFor(ctx, st, w)
	if err != nil {
		return nil, missing, err
	}
	for _, s := range sums {
		p.metrics.sums.WithLabelValues(s.origin()).Inc()
	}
	in = &ingredients{content: w.Round.Content, sums: sums}
	if err = p.openAll(st, w, in, covered(sums)); err != nil {
		in.close()
		return nil, nil, err
	}
	return in, nil, nil
}

// fetchFor fetches what a round is computed from and is not here, but for the updates that sums stand for, which it returns.
func (p *Peer) fetchFor(ctx context.Context, st *session, w ledger.Work) (sums []sumSource, missing []ledger.Key, err error) {
	if missing, err = p.fetchBases(ctx, w); err != nil {
		return nil, missing, err
	}
	sums = p.sumsFor(ctx, st, w)
	stood := covered(sums)
	var fetch []*ledger.UpdateHeld
	for _, u := range w.Round.Content {
		if !stood[u.Key()] {
			fetch = append(fetch, u)
		}
	}
	if missing, err = p.fetchContent(ctx, w.Session, fetch); err != nil {
		return nil, missing, err
	}
	return sums, nil, nil
}

func (p *Peer) openAll(st *session, w ledger.Work, in *ingredients, covered map[ledger.Key]bool) error {
	open := func(d model.Digest) (*store.Blob, error) {
		b, err := p.open(d)
		if err == nil {
			in.files = append(in.files, b)
		}
		return b, err
	}
	prev, err := open(w.Previous.Model)
	if err != nil {
		return err
	}
	in.round = aggregate.Round{
		Spec:   st.spec,
		Number: w.Round.Number,
		Inputs: w.Round.Inputs,
		Prev:   aggregate.Model{Digest: w.Previous.Model, Source: prev},
		Base:   func(d model.Digest) (io.ReaderAt, error) { return open(d) },
		Secret: p.cfg.Secret,
	}
	if !w.Previous.State.IsZero() {
		state, err := open(w.Previous.State)
		if err != nil {
			return err
		}
		in.round.State = aggregate.Model{Digest: w.Previous.State, Source: state}
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
	var bases []model.Digest
	for _, u := range w.Round.Content {
		if u.Base != w.Previous.Model && !slices.Contains(bases, u.Base) && !p.dir.Blobs().Has(u.Base) {
			bases = append(bases, u.Base)
		}
	}
	failed := fetchEach(len(bases), func(i int) error { return p.fetchModel(ctx, bases[i], p.others()) })
	for _, u := range w.Round.Content {
		if i := slices.Index(bases, u.Base); i >= 0 && failed[i] != nil {
			missing = append(missing, u.Key())
			err = failed[i]
		}
	}
	return missing, err
}

// fetchEach fetches n things, a few at a time, and returns the errors.
func fetchEach(n int, fetch func(i int) error) []error {
	failed := make([]error, n)
	var g errgroup.Group
	g.SetLimit(fetchAtOnce)
	for i := range n {
		g.Go(func() error {
			failed[i] = fetch(i)
			return nil
		})
	}
	_ = g.Wait()
	return failed
}

// fetchContent fetches updates, from those who say that they hold them, then from anybody.
func (p *Peer) fetchContent(ctx context.Context, key ledger.SessionKey, content []*ledger.UpdateHeld) (missing []ledger.Key, err error) {
	failed := fetchEach(len(content), func(i int) error {
		if u := content[i]; !p.dir.Blobs().Has(u.Model) {
			return p.fetch(ctx, u.Model, p.sourcesOf(key, u))
		}
		return nil
	})
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
