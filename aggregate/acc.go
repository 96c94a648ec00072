package aggregate

import (
	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
	"github.com/fedmesh/fedmesh/model"
)

// Acc holds the exact sums of some elements, in memory. The zero value holds none; [Acc.Reset] sizes it. Adding
// and merging commute, and subtracting undoes them. Lengths that do not agree are a mistake of the program and panic.
type Acc struct {
	lo, hi []uint64
}

// Reset makes a the sums of n elements, all zero. Memory is reused.
func (a *Acc) Reset(n int) {
	if cap(a.lo) < n {
		a.lo, a.hi = make([]uint64, n), make([]uint64, n)
		return
	}
	a.lo, a.hi = a.lo[:n], a.hi[:n]
	clear(a.lo)
	clear(a.hi)
}

// Len returns the number of elements.
func (a *Acc) Len() int { return len(a.lo) }

// AddWeighted adds weight·x for each element x in p, of a tensor given by its position in the layout. The values must
// have passed [Spec.Check], else the sum means nothing; |weight| ≤ [MaxTotalWeight].
func (a *Acc) AddWeighted(s *Spec, tensor int, p []byte, weight int64) {
	s.numbers[tensor].fold(a.lo, a.hi, p, weight)
}

// Merge adds the sums in b.
func (a *Acc) Merge(b *Acc) { kernel.Merge(a.lo, a.hi, b.lo, b.hi) }

// Sub subtracts the sums in b.
func (a *Acc) Sub(b *Acc) { kernel.Sub(a.lo, a.hi, b.lo, b.hi) }

// Finalise writes each sum divided by total, 1 to [MaxTotalWeight], to dst as elements of the tensor; elem is the index of
// the first.
func (a *Acc) Finalise(s *Spec, tensor int, elem, total int64, dst []byte) Events {
	sat := s.numbers[tensor].final(dst, a.lo, a.hi, uint64(total), kernel.NewDivisor(uint64(total)))
	return s.events(sat, Span{Tensor: tensor, First: elem})
}

func (n *number) fold(lo, hi []uint64, p []byte, w int64) {
	switch n.dtype {
	case model.F32:
		kernel.FoldF32(lo, hi, p, w, n.table)
	case model.BF16:
		kernel.FoldBF16(lo, hi, p, w, n.table)
	case model.F16:
		kernel.FoldF16(lo, hi, p, w)
	case model.F64:
		kernel.FoldF64(lo, hi, p, w, n.scale)
	default:
		kernel.FoldInt(lo, hi, p, w, n.kind)
	}
}

func (n *number) final(dst []byte, lo, hi []uint64, total uint64, d kernel.Divisor) kernel.Saturated {
	switch n.dtype {
	case model.F32:
		return kernel.FinalF32(dst, lo, hi, d, n.scale, uint32(n.limit))
	case model.BF16:
		return kernel.FinalBF16(dst, lo, hi, d, n.scale, uint16(n.limit))
	case model.F16:
		return kernel.FinalF16(dst, lo, hi, d, uint16(n.limit))
	case model.F64:
		return kernel.FinalF64(dst, lo, hi, d, n.scale, n.limit)
	default:
		return kernel.FinalInt(dst, lo, hi, total, n.kind)
	}
}

// Events is what happened while a range was computed that people should know of.
type Events struct {
	// Saturated is the number of results that the tensor's range or dtype did not hold and that
	// became the nearest that it does.
	Saturated int64
	// Tensor and Index say where the first of them is, when there are any.
	Tensor string
	Index  int64
	// Kept, when not empty, is why the model is the previous one: see [PlanRound].
	Kept string
}

// Merge adds what happened in a later range.
func (e *Events) Merge(later Events) {
	if e.Saturated == 0 {
		e.Tensor, e.Index = later.Tensor, later.Index
	}
	e.Saturated += later.Saturated
	if e.Kept == "" {
		e.Kept = later.Kept
	}
}

func (s *Spec) events(sat kernel.Saturated, span Span) Events {
	if sat.Count == 0 {
		return Events{}
	}
	return Events{Saturated: int64(sat.Count), Tensor: s.layout.Tensors()[span.Tensor].Name, Index: span.First + int64(sat.First)}
}
