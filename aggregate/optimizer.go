package aggregate

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
	"github.com/fedmesh/fedmesh/model"
)

// The tensors of server state: "m/NAME" and "v/NAME" for each float tensor NAME, float64 for those of float64 and of a large scale and else float32,
// and the number of rounds that made it.
const (
	firstMoment  = "m/"
	secondMoment = "v/"
	stepCount    = "step"

	// wideScale is the first exponent of a scale that is large: pseudo-gradients are below 2^25·scale, and the sum of the squares of a million of them is
	// a float32 for smaller ones.
	wideScale = 29
)

// update is the rule of an optimizer for one element in its t-th round: x is the value, d the pseudo-gradient, m and v the moments. Each intermediate is a
// float64 and converted as such, so that no compiler fuses a product with a sum.
type update func(x, d, m, v float64) (nx, nm, nv float64)

// optimizer is a server optimizer: Reddi et al., "Adaptive federated optimization" (ICLR 2021), algorithm 2.
type optimizer struct {
	second  bool    // it has second moments
	initial float64 // second moment before the first round
	begin   func(t int64) update
}

// optimizing is a strategy that makes a step of an optimizer in the direction of the mean.
//
// The pseudo-gradient of each element of a float tensor is the exact quotient Δ = Σ w·(x_c - M) / Σ w, rounded once to float64. Integer
// and bool tensors take the mean.
type optimizing struct {
	summed
	opt optimizer
}

var _ Stateful = optimizing{}

// StateLayout implements [Stateful].
func (s optimizing) StateLayout(spec *Spec) (*model.Layout, error) {
	ts := []model.Tensor{{Name: stepCount, DType: model.I64}}
	for i, t := range spec.layout.Tensors() {
		if !t.DType.Float() {
			continue
		}
		d := model.F32
		if t.DType == model.F64 || spec.numbers[i].scale >= wideScale {
			d = model.F64
		}
		ts = append(ts, model.Tensor{Name: firstMoment + t.Name, DType: d, Shape: t.Shape})
		if s.opt.second {
			ts = append(ts, model.Tensor{Name: secondMoment + t.Name, DType: d, Shape: t.Shape})
		}
	}
	return model.NewLayout(ts)
}

func (s optimizing) Plan(ctx context.Context, r Round) (Plan, error) {
	if r.Prev.Source == nil {
		return nil, fmt.Errorf("aggregate: the previous model %s is needed: %w", r.Prev.Digest.Short(), ErrSource)
	}
	in, err := s.gather(ctx, r, true)
	if err != nil {
		return nil, err
	}
	layout, err := s.StateLayout(r.Spec)
	if err != nil {
		return nil, err
	}
	p := &stepPlan{ingredients: in, spec: r.Spec, prev: r.Prev.Source, opt: s.opt, layout: layout}
	steps, err := p.place(r.State.Source)
	if err != nil {
		return nil, err
	}
	if steps > 0 {
		p.state = r.State.Source
	}
	p.step = steps + 1
	p.update = s.opt.begin(p.step)
	return p, nil
}

// stepPlan computes a step of an optimizer.
type stepPlan struct {
	ingredients
	spec   *Spec
	prev   io.ReaderAt
	state  io.ReaderAt // nil before the first round
	opt    optimizer
	step   int64 // this one's number, from 1
	update update

	layout *model.Layout
	places [][2]place // of the moments of each tensor
	count  int64      // where the step count is
}

// place is where a tensor of the state is.
type place struct {
	offset int64
	number number
}

// place finds the tensors of the state and returns the number of rounds that made it.
func (p *stepPlan) place(state io.ReaderAt) (int64, error) {
	ts, header := p.layout.Tensors(), int64(len(p.layout.Header()))
	find := func(name string) place {
		i, ok := p.layout.Lookup(name)
		if !ok {
			return place{}
		}
		f := formatOf(ts[i].DType)
		return place{offset: header + ts[i].Offset, number: number{dtype: ts[i].DType, limit: f.inf()}}
	}
	for _, t := range p.spec.layout.Tensors() {
		p.places = append(p.places, [2]place{find(firstMoment + t.Name), find(secondMoment + t.Name)})
	}
	p.count = find(stepCount).offset
	if state == nil {
		return 0, nil
	}
	var b [8]byte
	if err := readAt(state, b[:], p.count); err != nil {
		return 0, fmt.Errorf("aggregate: server state: %w", err)
	}
	steps := int64(binary.LittleEndian.Uint64(b[:]))
	if steps < 0 || steps == math.MaxInt64 {
		return 0, fmt.Errorf("aggregate: server state: made by %d rounds: %w", steps, ErrSource)
	}
	return steps, nil
}

func (p *stepPlan) Range(ctx context.Context, ws *Workspace, from, to int64, sums []io.Reader, out Output) (Events, error) {
	var events Events
	if out.State == nil {
		return events, fmt.Errorf("aggregate: nowhere to write server state: %w", ErrSource)
	}
	var b stepBuffers
	err := p.each(ctx, p.spec, ws, from, to, sums, out.Model, func(span Span, acc Acc, d kernel.Divisor, dst []byte) error {
		n := &p.spec.numbers[span.Tensor]
		if n.dtype.Float() {
			return p.move(&b, span, acc, d, dst, out.State, &events)
		}
		events.Merge(p.spec.events(n.final(dst, acc.lo, acc.hi, uint64(p.total), d), span))
		return nil
	})
	if err == nil && p.spec.leads(from, to) {
		err = writeAt(out.State, binary.LittleEndian.AppendUint64(nil, uint64(p.step)), p.count)
	}
	return events, err
}

// stepBuffers hold some elements of everything that a step reads and writes.
type stepBuffers struct {
	raw        [8 * piece]byte
	x, d, m, v [piece]float64
	quotient   [8 * piece]byte
}

// move makes the step for a span of a float tensor: the model goes to dst, the state to where it belongs.
func (p *stepPlan) move(b *stepBuffers, span Span, acc Acc, div kernel.Divisor, dst []byte, state io.WriterAt, events *Events) error {
	n := &p.spec.numbers[span.Tensor]
	f64 := number{dtype: model.F64}
	for span.Count > 0 {
		k := min(span.Count, piece)
		x, d, m, v := b.x[:k], b.d[:k], b.m[:k], b.v[:k]
		raw := b.raw[:k*n.dtype.Size()]
		if err := readAt(p.prev, raw, span.Offset); err != nil {
			return fmt.Errorf("aggregate: previous model: %w", err)
		}
		n.load(x, raw)
		// Every quotient is in the range of float64.
		kernel.FinalF64(b.quotient[:8*k], acc.lo[:k], acc.hi[:k], div, n.scale, formatOf(model.F64).inf())
		f64.load(d, b.quotient[:8*k])
		for i := range v {
			m[i], v[i] = 0, p.opt.initial
		}
		for i, values := range [][]float64{m, v} {
			if err := p.readMoment(p.places[span.Tensor][i], b, values, span.First); err != nil {
				return err
			}
		}
		for i := range x {
			x[i], m[i], v[i] = p.update(x[i], d[i], m[i], v[i])
		}
		events.Merge(p.spec.events(n.store(dst[:k*n.dtype.Size()], x), span))
		for i, values := range [][]float64{m, v} {
			at := p.places[span.Tensor][i]
			if at.offset == 0 {
				continue
			}
			raw := b.raw[:k*at.number.dtype.Size()]
			at.number.store(raw, values)
			if err := writeAt(state, raw, at.offset+span.First*at.number.dtype.Size()); err != nil {
				return err
			}
		}
		span.First, span.Count, span.Offset = span.First+k, span.Count-k, span.Offset+k*n.dtype.Size()
		dst, acc.lo, acc.hi = dst[k*n.dtype.Size():], acc.lo[k:], acc.hi[k:]
	}
	return nil
}

func (p *stepPlan) readMoment(at place, b *stepBuffers, dst []float64, first int64) error {
	if p.state == nil || at.offset == 0 {
		return nil
	}
	size := at.number.dtype.Size()
	raw := b.raw[:int64(len(dst))*size]
	if err := readAt(p.state, raw, at.offset+first*size); err != nil {
		return fmt.Errorf("aggregate: server state: %w", err)
	}
	at.number.load(dst, raw)
	return nil
}

func writeAt(w io.WriterAt, p []byte, off int64) error {
	if _, err := w.WriteAt(p, off); err != nil {
		return fmt.Errorf("aggregate: write server state: %w", err)
	}
	return nil
}

// power returns x^n for n ≥ 0, the same everywhere.
func power(x float64, n int64) float64 {
	y := 1.0
	for ; n > 0; n >>= 1 {
		if n&1 == 1 {
			y = float64(y * x)
		}
		x = float64(x * x)
	}
	return y
}
