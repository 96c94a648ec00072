package aggregate

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
	"github.com/fedmesh/fedmesh/model"
)

const (
	rangeBits = 24 // |x| < 2^24·scale
	// headroomBits is how much a seed's values may grow in training before they are out of range.
	headroomBits = 4
	maxScale     = math.MaxInt8
)

// format describes the floating-point dtypes; for the others all fields are 0.
type format struct {
	mantissa int // bits stored
	bias     int // of the exponent
	maxScale int // beyond it nothing finite is out of range, or the scale would not fit an int8
}

func formatOf(d model.DType) format {
	switch d {
	case model.F16:
		return format{mantissa: 10, bias: 15, maxScale: 0}
	case model.BF16:
		return format{mantissa: 7, bias: 127, maxScale: 128 - rangeBits}
	case model.F32:
		return format{mantissa: 23, bias: 127, maxScale: 128 - rangeBits}
	case model.F64:
		return format{mantissa: 52, bias: 1023, maxScale: maxScale}
	default:
		return format{}
	}
}

// inf returns the bits of infinity: the first magnitude that is not finite.
func (f format) inf() uint64 { return uint64(2*f.bias+1) << f.mantissa }

// limitBits returns the bits of the first magnitude out of range, 0 for integers.
func limitBits(d model.DType, scale int) uint64 {
	if !d.Float() {
		return 0
	}
	f := formatOf(d)
	return min(uint64(f.bias+rangeBits+scale)<<f.mantissa, f.inf())
}

// ValueError reports an element that cannot be summed.
type ValueError struct {
	Tensor string
	Index  int64  // of the element within the tensor, row-major
	Value  string // as "NaN" or "1e+30"
	Limit  string // what the value must be, as "|x| < 1.6777216e+07"
}

// Error implements error.
func (e *ValueError) Error() string {
	return fmt.Sprintf("aggregate: tensor %q: element %d is %s, want %s", e.Tensor, e.Index, e.Value, e.Limit)
}

// Check looks at the values of whole elements of a tensor, given by its position in the layout; elem is the
// index of the first. It returns a [*ValueError] for the first that is NaN, infinite or out of range, or a bool other than 0
// and 1. Nothing else may be summed.
func (s *Spec) Check(tensor int, elem int64, p []byte) error {
	n := &s.numbers[tensor]
	i := n.check(p, n.limit)
	if i < 0 {
		return nil
	}
	return &ValueError{
		Tensor: s.layout.Tensors()[tensor].Name,
		Index:  elem + int64(i),
		Value:  n.format(p[int64(i)*n.dtype.Size():]),
		Limit:  limitText(n.dtype, n.scale),
	}
}

// check returns the index of the first element that is not below the limit, or -1.
func (n *number) check(p []byte, limit uint64) int {
	switch n.dtype {
	case model.F16, model.BF16:
		return kernel.Check16(p, uint16(limit))
	case model.F32:
		return kernel.Check32(p, uint32(limit))
	case model.F64:
		return kernel.Check64(p, limit)
	case model.Bool:
		return kernel.CheckBool(p)
	default:
		return -1
	}
}

// format writes the first element of p for people.
func (n *number) format(p []byte) string {
	width := 64
	var x float64
	switch n.dtype {
	case model.F64:
		x = math.Float64frombits(binary.LittleEndian.Uint64(p))
	case model.F32:
		x, width = float64(math.Float32frombits(binary.LittleEndian.Uint32(p))), 32
	case model.BF16:
		x, width = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(p))<<16)), 32
	case model.F16: // every finite one is in range
		b := binary.LittleEndian.Uint16(p)
		x = math.Inf(1 - 2*int(b>>15))
		if b&0x3ff != 0 {
			x = math.NaN()
		}
	default:
		return strconv.Itoa(int(p[0]))
	}
	return strconv.FormatFloat(x, 'g', -1, width)
}

func limitText(d model.DType, scale int) string {
	switch f := formatOf(d); {
	case d == model.Bool:
		return "0 or 1"
	case limitBits(d, scale) == f.inf():
		return "a finite number"
	default:
		return "|x| < " + strconv.FormatFloat(math.Ldexp(1, rangeBits+scale), 'g', -1, 64)
	}
}

// ScanScales reads a session's seed, a canonical file of the layout, and returns the exponent of each
// tensor's scale: the smallest power of two, at least 1, such that the largest value is below 2^20·scale, a sixteenth of
// the range. So training may multiply it by sixteen, and what of float32 is not exact is at least 2^59 times smaller than it. Scales of
// float16, integer and bool tensors are 1. NaN, Inf, bools other than 0 and 1, and float64 values
// of 2^151 and more are refused with a [*ValueError].
func ScanScales(layout *model.Layout, seed io.ReaderAt) ([]int8, error) {
	s, err := NewSpec(layout, nil)
	if err != nil {
		return nil, err
	}
	largest := make([]uint64, len(s.numbers))
	var ws Workspace
	for span := range s.Blocks(0, s.Elements()) {
		n := &s.numbers[span.Tensor]
		f, size := formatOf(n.dtype), n.dtype.Size()
		p := ws.bytes(span.Count * size)
		if err := readAt(seed, p, span.Offset); err != nil {
			return nil, fmt.Errorf("aggregate: seed: %w", err)
		}
		// The scale may be chosen: only what none allows is wrong.
		wide := limitBits(n.dtype, f.maxScale)
		if i := n.check(p, wide); i >= 0 {
			return nil, &ValueError{
				Tensor: layout.Tensors()[span.Tensor].Name,
				Index:  span.First + int64(i),
				Value:  n.format(p[int64(i)*size:]),
				Limit:  limitText(n.dtype, f.maxScale),
			}
		}
		if n.dtype.Float() {
			largest[span.Tensor] = max(largest[span.Tensor], kernel.Largest(p, int(size)))
		}
	}
	scales := make([]int8, len(largest))
	for i, x := range largest {
		f := formatOf(s.numbers[i].dtype)
		// x < 2^(exponent-bias+1)
		above := int(x>>f.mantissa) - f.bias + 1
		scales[i] = int8(min(max(above-(rangeBits-headroomBits), 0), f.maxScale))
	}
	return scales, nil
}
