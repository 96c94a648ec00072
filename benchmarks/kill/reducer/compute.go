package reducer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

// workers is how many goroutines compute a round, as many as a fedmesh peer
// takes.
func workers() int { return min(runtime.GOMAXPROCS(0), 8) }

// compute writes the model of a round over some updates, of which all blobs and
// bases must be here, and returns its digest.
func compute(ctx context.Context, blobs *store.Blobs, spec *aggregate.Spec, number uint64, prev string, updates []api.UpdateInfo) (d model.Digest, err error) {
	var opened []io.Closer
	defer func() {
		for _, c := range opened {
			err = errors.Join(err, c.Close())
		}
	}()
	open := func(digest string) (io.ReaderAt, error) {
		d, err := model.ParseDigest(digest)
		if err != nil {
			return nil, err
		}
		b, err := blobs.Open(d)
		if err != nil {
			return nil, err
		}
		opened = append(opened, b)
		return b, nil
	}
	round := aggregate.Round{Spec: spec, Number: number, Base: func(d model.Digest) (io.ReaderAt, error) { return open(d.String()) }}
	if round.Prev.Digest, err = model.ParseDigest(prev); err != nil {
		return d, fmt.Errorf("reducer: %w", err)
	}
	if round.Prev.Source, err = open(prev); err != nil {
		return d, fmt.Errorf("reducer: %w", err)
	}
	for _, u := range updates {
		base, err := model.ParseDigest(u.Base)
		if err != nil {
			return d, fmt.Errorf("reducer: %w", err)
		}
		source, err := open(u.Digest)
		if err != nil {
			return d, fmt.Errorf("reducer: %w", err)
		}
		round.Updates = append(round.Updates, aggregate.Update{Weight: u.Weight, Base: base, BaseRound: u.BaseRound, Name: u.Combiner, Source: source})
	}
	w, err := blobs.Create()
	if err != nil {
		return d, fmt.Errorf("reducer: %w", err)
	}
	defer w.Abort()
	if err := Mean(ctx, round, w); err != nil {
		return d, err
	}
	h := model.NewHash()
	if _, err := io.Copy(h, io.NewSectionReader(w, 0, spec.Layout().Size())); err != nil {
		return d, fmt.Errorf("reducer: %w", err)
	}
	d = model.Digest(h.Sum(nil))
	if err := w.Commit(ctx, d, false); err != nil {
		return d, fmt.Errorf("reducer: %w", err)
	}
	return d, nil
}

// Mean writes the model that federated averaging makes of a round, as a
// canonical file.
func Mean(ctx context.Context, round aggregate.Round, w io.WriterAt) error {
	strategy, err := aggregate.Lookup("fedavg", nil)
	if err != nil {
		return fmt.Errorf("reducer: %w", err)
	}
	plan, err := aggregate.PlanRound(ctx, strategy, round)
	if err != nil {
		return fmt.Errorf("reducer: %w", err)
	}
	if _, err := w.WriteAt(round.Spec.Layout().Header(), 0); err != nil {
		return fmt.Errorf("reducer: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	for from, to := range round.Spec.Split(workers()) {
		g.Go(func() error {
			offset, _ := round.Spec.Section(from, to)
			var ws aggregate.Workspace
			_, err := plan.Range(ctx, &ws, from, to, nil, aggregate.Output{Model: io.NewOffsetWriter(w, offset)})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("reducer: %w", err)
	}
	return nil
}
