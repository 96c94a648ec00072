package mesh

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

const maxWorkers = 8

// workers is how many goroutines compute a round, a range each. The ranges do not reach the bits.
func workers() int { return min(runtime.GOMAXPROCS(0), maxWorkers) }

// writeResult writes what a round gives, range by range in parallel, and returns its digests; the blobs are pinned until unpin.
func (p *Peer) writeResult(ctx context.Context, st *session, plan aggregate.Plan, in *ingredients) (res ledger.Result, unpin func(), err error) {
	spec := st.spec
	w, err := p.dir.Blobs().Create()
	if err != nil {
		return res, nil, fmt.Errorf("mesh: %w", err)
	}
	defer w.Abort()
	if _, err := w.WriteAt(spec.Layout().Header(), 0); err != nil {
		return res, nil, fmt.Errorf("mesh: %w", err)
	}
	var state *store.Writer
	if st.state != nil {
		if state, err = p.dir.Blobs().Create(); err != nil {
			return res, nil, fmt.Errorf("mesh: %w", err)
		}
		defer state.Abort()
		if _, err := state.WriteAt(st.state.Header(), 0); err != nil {
			return res, nil, fmt.Errorf("mesh: %w", err)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	for from, to := range spec.Split(workers()) {
		g.Go(func() error {
			offset, _ := spec.Section(from, to)
			out := aggregate.Output{Model: io.NewOffsetWriter(w, offset)}
			if state != nil {
				out.State = state
			}
			return p.writeRange(gctx, plan, in, from, to, out)
		})
	}
	if err := g.Wait(); err != nil {
		return res, nil, fmt.Errorf("mesh: %w", err)
	}
	var unpins []func()
	unpin = func() {
		for _, f := range unpins {
			f()
		}
	}
	commit := func(w *store.Writer, size int64) (model.Digest, error) {
		d, err := digestOf(w, size)
		if err != nil {
			return d, err
		}
		unpins = append(unpins, p.pin(d))
		return d, w.Commit(ctx, d, false)
	}
	res.Model, err = commit(w, spec.Layout().Size())
	if err == nil && state != nil {
		res.State, err = commit(state, st.state.Size())
	}
	if err != nil {
		unpin()
		return res, nil, fmt.Errorf("mesh: %w", err)
	}
	return res, unpin, nil
}

// writeRange computes one range, and tells of what is unusual in it.
func (p *Peer) writeRange(ctx context.Context, plan aggregate.Plan, in *ingredients, from, to int64, out aggregate.Output) error {
	sums, done, err := p.openSums(ctx, in.sums, from, to)
	if err != nil {
		return err
	}
	defer done()
	var ws aggregate.Workspace
	events, err := plan.Range(ctx, &ws, from, to, sums, out)
	if err != nil {
		return err
	}
	if events.Kept != "" && from == 0 {
		p.events.warn("", "the round keeps the previous model: "+events.Kept)
	}
	if events.Saturated > 0 {
		p.events.warn(events.Tensor, fmt.Sprintf("%d values of the result are beyond the tensor's range and were cut to it, first element %d", events.Saturated, events.Index))
	}
	return nil
}

func digestOf(r io.ReaderAt, size int64) (model.Digest, error) {
	h := model.NewHash()
	_, err := io.CopyBuffer(h, struct{ io.Reader }{io.NewSectionReader(r, 0, size)}, make([]byte, copyBuffer))
	return model.Digest(h.Sum(nil)), err
}
