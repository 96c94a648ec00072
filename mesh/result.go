package mesh

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

const (
	maxWorkers      = 8
	rangesPerWorker = 4 // so that none is waited for long at the end, and the digest follows closely
)

// workers is how many goroutines compute a round. How many there are, and which ranges they take, does not reach the bits.
func workers() int { return min(runtime.GOMAXPROCS(0), maxWorkers) }

// writeResult writes what a round gives, ranges in parallel, and returns its digests; the blobs are pinned until unpin.
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
	d, err := p.writeRanges(ctx, spec, plan, in, w, state)
	if err != nil {
		return res, nil, fmt.Errorf("mesh: %w", err)
	}
	var unpins []func()
	unpin = func() {
		for _, f := range unpins {
			f()
		}
	}
	commit := func(w *store.Writer, d model.Digest) error {
		unpins = append(unpins, p.pin(d))
		return w.Commit(ctx, d, false)
	}
	res.Model = d
	err = commit(w, d)
	if err == nil && state != nil {
		h := model.NewHash()
		if err = hashPart(h, state, 0, st.state.Size()); err == nil {
			res.State = model.Digest(h.Sum(nil))
			err = commit(state, res.State)
		}
	}
	if err != nil {
		unpin()
		return res, nil, fmt.Errorf("mesh: %w", err)
	}
	return res, unpin, nil
}

// writeRanges computes all ranges, state nil where there is none, and returns the digest of the model.
func (p *Peer) writeRanges(ctx context.Context, spec *aggregate.Spec, plan aggregate.Plan, in *ingredients, w, state *store.Writer) (model.Digest, error) {
	type piece struct {
		from, to int64
		done     chan struct{}
	}
	var pieces []piece
	for from, to := range spec.Split(rangesPerWorker * workers()) {
		pieces = append(pieces, piece{from, to, make(chan struct{})})
	}
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(workers(), len(pieces)) {
		g.Go(func() error {
			var ws aggregate.Workspace
			for i := next.Add(1) - 1; i < int64(len(pieces)); i = next.Add(1) - 1 {
				q := pieces[i]
				offset, _ := spec.Section(q.from, q.to)
				out := aggregate.Output{Model: io.NewOffsetWriter(w, offset)}
				if state != nil {
					out.State = state
				}
				if err := p.writeRange(ctx, plan, in, &ws, q.from, q.to, out); err != nil {
					return err
				}
				close(q.done)
			}
			return nil
		})
	}
	h := model.NewHash()
	g.Go(func() error { // the digest is of the file in order, so it follows behind
		at := int64(0)
		for _, q := range pieces {
			select {
			case <-q.done:
			case <-ctx.Done():
				return ctx.Err()
			}
			offset, size := spec.Section(q.from, q.to)
			if err := hashPart(h, w, at, offset+size); err != nil {
				return err
			}
			at = offset + size
		}
		return hashPart(h, w, at, spec.Layout().Size())
	})
	err := g.Wait()
	return model.Digest(h.Sum(nil)), err
}

// writeRange computes one range, and tells of what is unusual in it.
func (p *Peer) writeRange(ctx context.Context, plan aggregate.Plan, in *ingredients, ws *aggregate.Workspace, from, to int64, out aggregate.Output) error {
	sums, done, err := p.openSums(ctx, in.sums, from, to)
	if err != nil {
		return err
	}
	defer done()
	events, err := plan.Range(ctx, ws, from, to, sums, out)
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

// hashPart feeds a file's bytes from one offset to another into a hash.
func hashPart(h io.Writer, r io.ReaderAt, from, to int64) error {
	_, err := io.CopyBuffer(h, struct{ io.Reader }{io.NewSectionReader(r, from, to-from)}, make([]byte, copyBuffer))
	return err
}
