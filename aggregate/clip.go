package aggregate

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/fedmesh/fedmesh/model"
)

func clipParams() []Param {
	return []Param{param("clip_norm", "0", rule{max: 1e6}, "largest L2 norm of an update's step from its base, longer ones are scaled down to it (Flower: clipping_norm); 0: none")}
}

// clipping bounds what one update can do: McMahan et al., "Learning differentially private recurrent language models" (ICLR 2018).
// A step x_c - M is scaled by min(1, C/‖x_c - M‖), element by element, and rounded to the tensor's dtype; then the steps are summed in
// place of the updates. The norm is that of all float tensors together. Integer and bool tensors are not steps: they stay as they are.
type clipping struct {
	norm float64 // 0: none
	grid *grid   // round toward zero to its multiples; nil: to nearest
}

// step returns the clipped step of an update from its base.
func (c clipping) step(ctx context.Context, s *Spec, u Update, base io.ReaderAt) (io.ReaderAt, error) {
	square, err := s.distance(ctx, u.Source, base)
	if err != nil {
		return nil, err
	}
	norm := math.Sqrt(square)
	if c.grid != nil {
		// An upper bound: the relative error of the sum is below 2^-30 for models of up to 2^33 elements.
		norm += float64(norm * 0x1p-30)
	}
	factor := 1.0
	if norm > c.norm {
		factor = c.norm / norm
	}
	return &stepReader{spec: s, model: u.Source, base: base, factor: factor, grid: c.grid}, nil
}

// stepReader is the canonical file of a step, factor·(model - base). Reads are of whole elements.
type stepReader struct {
	spec        *Spec
	model, base io.ReaderAt
	factor      float64
	grid        *grid
}

func (r *stepReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.model.ReadAt(p, off)
	if n < len(p) {
		return n, err
	}
	buf := make([]byte, min(len(p), 8*piece))
	var x, y [piece]float64
	for i, part := range r.spec.parts(off, p) {
		at := max(off, r.spec.start(i))
		num := &r.spec.numbers[i]
		if !num.dtype.Float() {
			if r.grid != nil {
				clear(part) // nothing that has no noise may go into a private model
			}
			continue
		}
		size := int(num.dtype.Size())
		for len(part) > 0 {
			b := buf[:min(len(part), size*piece)]
			if err := readAt(r.base, b, at); err != nil {
				return 0, fmt.Errorf("base model: %w", err)
			}
			k := len(b) / size
			if k == 0 {
				return 0, fmt.Errorf("read of %d bytes at %d: not whole elements of %s: %w", len(p), off, num.dtype, ErrSpec)
			}
			num.load(x[:k], part)
			num.load(y[:k], b)
			for j := range k {
				x[j] = float64((x[j] - y[j]) * r.factor)
			}
			if r.grid != nil {
				r.grid.store(i, num, part, x[:k])
			} else {
				num.store(part[:k*size], x[:k])
			}
			part, at = part[k*size:], at+int64(k*size)
		}
	}
	return n, nil
}

// grid is the spacing of the numbers that noise is made of, 2^exp[i] for each tensor.
type grid struct {
	exp []int
}

// store writes elements of a float tensor, rounded toward zero to multiples of the spacing.
func (g *grid) store(tensor int, n *number, dst []byte, xs []float64) {
	f, size := formatOf(n.dtype), int(n.dtype.Size())
	unit, per := math.Ldexp(1, g.exp[tensor]), math.Ldexp(1, -g.exp[tensor])
	dst = dst[:size*len(xs)]
	for i, x := range xs {
		t := math.Trunc(math.Abs(float64(x*per))) * unit
		if n.dtype == model.F32 { // what is below does the same, but every processor has this
			b := math.Float32bits(float32(t))
			if float64(math.Float32frombits(b)) > t {
				b-- // was rounded up
			}
			if b != 0 && uint64(b) < n.limit {
				binary.LittleEndian.PutUint32(dst[4*i:], b|math.Float32bits(float32(x))&(1<<31))
				continue
			}
		}
		mag := min(f.toward0(math.Float64bits(t)), n.limit-1)
		n.put(dst[i*size:], mag, x < 0)
	}
}
