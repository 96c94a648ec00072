package aggregate

import (
	"context"
	"fmt"
	"io"
)

// Elements are compared in pieces of so many, counted from the first of each tensor, so that sums of squares are added up in the same order
// whoever does it.
const piece = 2048

// pieces yields the pieces of the float tensors in order, with ctx checked. Integer and bool tensors have no distances: they are counters
// and masks, and one counter would outweigh all that is trained.
func (s *Spec) pieces(ctx context.Context, yield func(Span) error) error {
	for i, t := range s.layout.Tensors() {
		if !t.DType.Float() {
			continue
		}
		for first := int64(0); first < t.Elements(); first += piece {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("aggregate: %w", err)
			}
			span := Span{Tensor: i, First: first, Count: min(piece, t.Elements()-first), Offset: s.start(i) + first*t.DType.Size()}
			if err := yield(span); err != nil {
				return err
			}
		}
	}
	return nil
}

// squares returns Σ (a-b)². Four sums side by side are quicker than one.
func squares(a, b []float64) float64 {
	var s0, s1, s2, s3 float64
	b = b[:len(a)]
	i := 0
	for ; i+3 < len(a); i += 4 {
		d0, d1, d2, d3 := a[i]-b[i], a[i+1]-b[i+1], a[i+2]-b[i+2], a[i+3]-b[i+3]
		s0 += float64(d0 * d0)
		s1 += float64(d1 * d1)
		s2 += float64(d2 * d2)
		s3 += float64(d3 * d3)
	}
	for ; i < len(a); i++ {
		d := a[i] - b[i]
		s0 += float64(d * d)
	}
	return (s0 + s1) + (s2 + s3)
}

// distance returns the square of the L2 distance between the float tensors of two models.
func (s *Spec) distance(ctx context.Context, a, b io.ReaderAt) (float64, error) {
	var raw [8 * piece]byte
	var x, y [piece]float64
	var sum float64
	err := s.pieces(ctx, func(span Span) error {
		n := &s.numbers[span.Tensor]
		p := raw[:span.Count*n.dtype.Size()]
		for _, side := range []struct {
			source io.ReaderAt
			dst    []float64
		}{{a, x[:span.Count]}, {b, y[:span.Count]}} {
			if err := readAt(side.source, p, span.Offset); err != nil {
				return fmt.Errorf("aggregate: %w", err)
			}
			n.load(side.dst, p)
		}
		sum += squares(x[:span.Count], y[:span.Count])
		return nil
	})
	return sum, err
}
