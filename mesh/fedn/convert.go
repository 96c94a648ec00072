package fedn

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// errShape is returned for a model whose tensors are not those of the session.
var errShape = errors.New("fedn: other tensors than the session's")

// errValue is returned for a number that the session's dtype cannot hold.
var errValue = errors.New("fedn: a value that the session cannot hold")

// convertible returns nil when two layouts have the same names and shapes.
func convertible(from, to *model.Layout) error {
	fs, ts := from.Tensors(), to.Tensors()
	if len(fs) != len(ts) {
		return fmt.Errorf("%w: their number is %d, the session's %d", errShape, len(fs), len(ts))
	}
	for _, t := range ts {
		i, ok := from.Lookup(t.Name)
		if !ok {
			return fmt.Errorf("%w: no tensor %q", errShape, t.Name)
		}
		if got := fs[i].Shape; fmt.Sprint(got) != fmt.Sprint(t.Shape) {
			return fmt.Errorf("%w: tensor %q has shape %v, the session's %v", errShape, t.Name, got, t.Shape)
		}
	}
	return nil
}

// convert writes a file in another layout of the same names and shapes. Numbers are
// rounded to nearest even; those that the new dtype cannot hold are refused.
func convert(dir string, f *file, to *model.Layout) (*file, error) {
	if err := convertible(f.layout, to); err != nil {
		return nil, err
	}
	from := f.layout.Tensors()
	in, out := make([]byte, 0, 8*aggregate.Block), make([]byte, 0, 8*aggregate.Block)
	return write(dir, to, func(w io.Writer) error {
		for _, t := range to.Tensors() {
			i, _ := f.layout.Lookup(t.Name)
			src := from[i]
			at := int64(len(f.layout.Header())) + src.Offset
			for first, n := int64(0), src.Elements(); first < n; first += aggregate.Block {
				count := min(n-first, aggregate.Block)
				in, out = in[:count*src.DType.Size()], out[:count*t.DType.Size()]
				if _, err := f.ReadAt(in, at+first*src.DType.Size()); err != nil {
					return err
				}
				for e := range count {
					err := put(t.DType, out[e*t.DType.Size():], get(src.DType, in[e*src.DType.Size():]))
					if err != nil {
						return fmt.Errorf("tensor %q, element %d: %w", t.Name, first+e, err)
					}
				}
				if _, err := w.Write(out); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// number is a value of any dtype: an integer, of which negative ones wrap, or a float.
type number struct {
	float    float64
	integer  uint64
	negative bool
	exact    bool // it is the integer
}

func get(d model.DType, b []byte) number {
	switch d {
	case model.F16:
		return number{float: model.HalfToFloat(binary.LittleEndian.Uint16(b))}
	case model.BF16:
		return number{float: float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16))}
	case model.F32:
		return number{float: float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))}
	case model.F64:
		return number{float: math.Float64frombits(binary.LittleEndian.Uint64(b))}
	}
	var u uint64
	for i := range d.Size() {
		u |= uint64(b[i]) << (8 * i)
	}
	signed := d == model.I8 || d == model.I16 || d == model.I32 || d == model.I64
	if bits := 8 * d.Size(); signed && u>>(bits-1) == 1 {
		u |= ^uint64(0) << (bits - 1)
		return number{float: float64(int64(u)), integer: u, negative: true, exact: true}
	}
	return number{float: float64(u), integer: u, exact: true}
}

func put(d model.DType, b []byte, n number) error {
	refused := func() error { return fmt.Errorf("%w: %v does not fit %v", errValue, n.float, d) }
	switch d {
	case model.F16:
		h := model.FloatToHalf(n.float)
		if h&0x7c00 == 0x7c00 {
			return refused()
		}
		binary.LittleEndian.PutUint16(b, h)
		return nil
	case model.BF16:
		u := math.Float32bits(float32(n.float))
		u += 0x7fff + u>>16&1
		if u>>16&0x7f80 == 0x7f80 {
			return refused()
		}
		binary.LittleEndian.PutUint16(b, uint16(u>>16))
		return nil
	case model.F32:
		f := float32(n.float)
		if math.IsInf(float64(f), 0) || f != f {
			return refused()
		}
		binary.LittleEndian.PutUint32(b, math.Float32bits(f))
		return nil
	case model.F64:
		binary.LittleEndian.PutUint64(b, math.Float64bits(n.float))
		return nil
	}
	if !n.exact {
		r := math.RoundToEven(n.float)
		switch {
		case r >= 0 && r < 1<<64:
			n = number{float: n.float, integer: uint64(r)}
		case r < 0 && r >= -1<<63:
			n = number{float: n.float, integer: uint64(int64(r)), negative: true}
		default: // NaN too
			return refused()
		}
	}
	var low, high uint64 // the least as a two's complement, and the largest
	bits := 8 * d.Size()
	switch d {
	case model.Bool:
		high = 1
	case model.U8, model.U16, model.U32, model.U64:
		high = ^uint64(0) >> (64 - bits)
	default:
		low, high = ^uint64(0)<<(bits-1), ^uint64(0)>>(65-bits)
	}
	if n.negative && (low == 0 || n.integer < low) || !n.negative && n.integer > high {
		return refused()
	}
	for i := range d.Size() {
		b[i] = byte(n.integer >> (8 * i))
	}
	return nil
}
