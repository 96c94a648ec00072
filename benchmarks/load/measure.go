package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// tries is how often each measurement is taken. They are short, and what the
// machine can do at best is asked for, so the fastest counts.
const tries = 5

// Copy copies the bytes of all updates in memory, with one goroutine, and
// returns how long that took at best.
func (l *Load) Copy() time.Duration {
	best := time.Duration(math.MaxInt64)
	for range tries {
		began := time.Now()
		for _, u := range l.Updates {
			copy(l.buf, u)
		}
		best = min(best, time.Since(began))
	}
	return best
}

// Sum computes the weighted mean of all updates as a peer does, with so many
// goroutines, but out of memory and into it. It returns how long that took at
// best, and the digest of the model, which every peer must come to.
func (l *Load) Sum(ctx context.Context, workers int) (best time.Duration, d model.Digest, err error) {
	best = math.MaxInt64
	for range tries {
		took, err := l.sum(ctx, workers)
		if err != nil {
			return 0, d, err
		}
		best = min(best, took)
	}
	return best, model.Sum(l.buf), nil
}

func (l *Load) sum(ctx context.Context, workers int) (time.Duration, error) {
	spec, plan, err := l.plan(ctx)
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	out := l.buf
	copy(out, l.Layout.Header())
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for from, to := range spec.Split(workers) {
		g.Go(func() error {
			offset, n := spec.Section(from, to)
			w := section{out[offset : offset : offset+n]}
			var ws aggregate.Workspace
			_, err := plan.Range(gctx, &ws, from, to, nil, aggregate.Output{Model: &w})
			return err
		})
	}
	err = g.Wait()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	return took, nil
}

func (l *Load) plan(ctx context.Context) (*aggregate.Spec, aggregate.Plan, error) {
	seed := bytes.NewReader(l.Seed)
	scales, err := aggregate.ScanScales(l.Layout, seed)
	if err != nil {
		return nil, nil, err
	}
	spec, err := aggregate.NewSpec(l.Layout, scales)
	if err != nil {
		return nil, nil, err
	}
	strategy, err := aggregate.Lookup("fedavg", nil)
	if err != nil {
		return nil, nil, err
	}
	base := model.Sum(l.Seed)
	round := aggregate.Round{Spec: spec, Prev: aggregate.Model{Digest: base, Source: seed}}
	for i, u := range l.Updates {
		round.Updates = append(round.Updates, aggregate.Update{Weight: l.Weights[i], Base: base, Source: bytes.NewReader(u)})
	}
	plan, err := strategy.Plan(ctx, round)
	return spec, plan, err
}

// section is a slice that is written to, up to its capacity.
type section struct{ p []byte }

func (s *section) Write(b []byte) (int, error) {
	if len(b) > cap(s.p)-len(s.p) {
		return 0, io.ErrShortWrite
	}
	s.p = append(s.p, b...)
	return len(b), nil
}
