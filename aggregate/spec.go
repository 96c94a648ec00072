package aggregate

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"sort"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
	"github.com/fedmesh/fedmesh/model"
)

// Block is the most elements that are computed at a time. Their accumulators, 512 KiB, stay in a second-level
// cache while all updates are added.
const Block = 32768

// MaxTotalWeight is the largest sum of the weights of a round's updates.
const MaxTotalWeight = 1<<38 - 1

// ErrSpec is wrapped by the errors for scales and ranges that do not fit the layout.
var ErrSpec = errors.New("does not fit the layout")

// Spec is a layout with the scale of each tensor: all that must be agreed on for sums to be the
// same everywhere. It is immutable. Make one with [NewSpec].
type Spec struct {
	layout  *model.Layout
	scales  []int8
	numbers []number
	first   []int64 // number of the first element of each tensor, and of the one after the last
}

// number is how the elements of a tensor are summed.
type number struct {
	dtype model.DType
	scale int
	table *kernel.Table // float32 and bfloat16
	limit uint64        // floats: bits of the first magnitude out of range
	kind  kernel.Int    // integers and bool
}

// Span is a part of a tensor: at most [Block] elements within one of the blocks into which all
// elements are divided.
type Span struct {
	Tensor int   // position in [model.Layout.Tensors]
	First  int64 // its first element within the tensor
	Count  int64
	Offset int64 // its first byte in the canonical file
}

// NewSpec returns the spec of a layout whose tensors have the scales 2^scales[i], in canonical order; nil is 1 for
// all. Scales are those that [ScanScales] may return, else the error wraps [ErrSpec].
func NewSpec(layout *model.Layout, scales []int8) (*Spec, error) {
	ts := layout.Tensors()
	if scales == nil {
		scales = make([]int8, len(ts))
	}
	if len(scales) != len(ts) {
		return nil, fmt.Errorf("aggregate: %d scales for %d tensors: %w", len(scales), len(ts), ErrSpec)
	}
	s := &Spec{
		layout:  layout,
		scales:  append([]int8(nil), scales...),
		numbers: make([]number, len(ts)),
		first:   make([]int64, len(ts)+1),
	}
	var tables [maxScale + 1]*kernel.Table
	for i, t := range ts {
		s.first[i+1] = s.first[i] + t.Elements()
		scale := int(scales[i])
		if most := formatOf(t.DType).maxScale; scale < 0 || scale > most {
			return nil, fmt.Errorf("aggregate: tensor %q: scale 2^%d, a tensor of %s may have 2^0 to 2^%d: %w", t.Name, scale, t.DType, most, ErrSpec)
		}
		n := number{dtype: t.DType, scale: scale, limit: limitBits(t.DType, scale), kind: intKind(t.DType)}
		if t.DType == model.F32 || t.DType == model.BF16 {
			if tables[scale] == nil {
				tables[scale] = kernel.NewTable(scale)
			}
			n.table = tables[scale]
		}
		s.numbers[i] = n
	}
	return s, nil
}

func intKind(d model.DType) kernel.Int {
	k := kernel.Int{Size: int(d.Size())}
	switch d {
	case model.Bool:
		k.Max = 1
	case model.U8, model.U16, model.U32, model.U64:
		k.Max = math.MaxUint64 >> (64 - 8*k.Size)
	case model.I8, model.I16, model.I32, model.I64:
		k.Signed = true
		k.Max = math.MaxInt64 >> (64 - 8*k.Size)
	}
	return k
}

// Layout returns the layout.
func (s *Spec) Layout() *model.Layout { return s.layout }

// Elements returns the number of elements of all tensors.
func (s *Spec) Elements() int64 { return s.first[len(s.first)-1] }

// Section returns the first byte in the canonical file, and the number of bytes, of the elements [from, to).
func (s *Spec) Section(from, to int64) (offset, n int64) {
	offset = s.offset(from)
	return offset, s.offset(to) - offset
}

// Split divides all elements into n ranges of about the same size, at the borders of blocks: ranges to
// compute at the same time. It yields fewer when there are fewer blocks, and one for an empty model.
func (s *Spec) Split(n int) iter.Seq2[int64, int64] {
	return func(yield func(from, to int64) bool) {
		blocks := (s.Elements() + Block - 1) / Block
		parts := max(1, min(int64(n), blocks))
		for i := range parts {
			from, to := share(blocks, parts, i), share(blocks, parts, i+1)
			if !yield(from*Block, min(to*Block, s.Elements())) {
				return
			}
		}
	}
}

// share returns how many of n things the first i of m parts have.
func share(n, m, i int64) int64 { return n/m*i + min(i, n%m) }

// Blocks yields the spans of the elements [from, to), in order.
func (s *Spec) Blocks(from, to int64) iter.Seq[Span] {
	return func(yield func(Span) bool) {
		from, to := max(from, 0), min(to, s.Elements())
		if from >= to {
			return
		}
		for i := s.tensor(from); from < to; i++ {
			for from < min(to, s.first[i+1]) {
				end := min(to, s.first[i+1], blockEnd(from))
				if !yield(Span{Tensor: i, First: from - s.first[i], Count: end - from, Offset: s.offset(from)}) {
					return
				}
				from = end
			}
		}
	}
}

// blockEnd returns the first element after the block that e is in.
func blockEnd(e int64) int64 { return (e/Block + 1) * Block }

// tensor returns the tensor that element e is in.
func (s *Spec) tensor(e int64) int {
	return sort.Search(len(s.first), func(i int) bool { return s.first[i] > e }) - 1
}

// offset returns the byte of element e in the canonical file.
func (s *Spec) offset(e int64) int64 {
	if e >= s.Elements() {
		return s.layout.Size()
	}
	i := s.tensor(e)
	t := s.layout.Tensors()[i]
	return int64(len(s.layout.Header())) + t.Offset + (e-s.first[i])*t.DType.Size()
}

func (s *Spec) checkRange(from, to int64) error {
	if from < 0 || from > to || to > s.Elements() {
		return fmt.Errorf("aggregate: range [%d, %d) of %d elements: %w", from, to, s.Elements(), ErrSpec)
	}
	return nil
}
