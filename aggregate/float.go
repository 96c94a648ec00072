package aggregate

import (
	"encoding/binary"
	"iter"
	"math"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
	"github.com/fedmesh/fedmesh/model"
)

// load reads elements of a float tensor; all are exact in float64.
func (n *number) load(dst []float64, p []byte) {
	switch n.dtype {
	case model.F64:
		for i := range dst {
			dst[i] = math.Float64frombits(binary.LittleEndian.Uint64(p[8*i:]))
		}
	case model.F32:
		// Four a turn, so that the slices are looked at but once.
		for len(dst) >= 4 && len(p) >= 16 {
			d, a, b := (*[4]float64)(dst), binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
			d[0], d[1] = float64(math.Float32frombits(uint32(a))), float64(math.Float32frombits(uint32(a>>32)))
			d[2], d[3] = float64(math.Float32frombits(uint32(b))), float64(math.Float32frombits(uint32(b>>32)))
			dst, p = dst[4:], p[16:]
		}
		for i := range dst {
			dst[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:])))
		}
	case model.BF16:
		for i := range dst {
			dst[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(p[2*i:])) << 16))
		}
	case model.F16:
		for i := range dst {
			dst[i] = half(binary.LittleEndian.Uint16(p[2*i:]))
		}
	}
}

// half returns the value of a finite float16.
func half(b uint16) float64 {
	m, e := uint64(b&0x3ff), uint64(b>>10&0x1f)
	x := float64(m) * 0x1p-24
	if e != 0 {
		x = math.Float64frombits((e+1023-15)<<52 | m<<42)
	}
	return math.Copysign(x, float64(1-2*int(b>>15)))
}

// store writes elements of a float tensor, rounded to nearest, half to even. Magnitudes out of the tensor's range become the largest
// within and are counted. A zero is +0.
func (n *number) store(dst []byte, xs []float64) (sat kernel.Saturated) {
	f := formatOf(n.dtype)
	size := int(n.dtype.Size())
	dst = dst[:size*len(xs)]
	for i, x := range xs {
		if n.dtype == model.F32 { // what is below does the same, but every processor has this
			b := math.Float32bits(float32(x))
			if mag := b &^ (1 << 31); mag != 0 && uint64(mag) < n.limit {
				binary.LittleEndian.PutUint32(dst[4*i:], b)
				continue
			}
		}
		mag := f.nearest(math.Float64bits(x) &^ (1 << 63))
		if mag >= n.limit {
			mag = n.limit - 1
			if sat.Count == 0 {
				sat.First = i
			}
			sat.Count++
		}
		n.put(dst[i*size:], mag, x < 0)
	}
	return sat
}

// put writes a float by its magnitude's bits and its sign.
func (n *number) put(dst []byte, mag uint64, negative bool) {
	var sign uint64
	if negative && mag != 0 {
		sign = 1
	}
	switch n.dtype.Size() {
	case 2:
		binary.LittleEndian.PutUint16(dst, uint16(mag|sign<<15))
	case 4:
		binary.LittleEndian.PutUint32(dst, uint32(mag|sign<<31))
	default:
		binary.LittleEndian.PutUint64(dst, mag|sign<<63)
	}
}

// nearest returns the bits of the number of the format nearest to a float64 magnitude, given by its bits. What is
// not finite or too large is at least the bits of infinity.
func (f format) nearest(b uint64) uint64 {
	m, drop := f.align(b)
	if drop == 0 {
		return m
	}
	if drop > 63 {
		return 0
	}
	return (m + (1<<(drop-1) - 1) + m>>drop&1) >> drop
}

// toward0 is nearest, but rounds down.
func (f format) toward0(b uint64) uint64 {
	m, drop := f.align(b)
	if drop > 63 {
		return 0
	}
	return m >> drop
}

// align returns the bits of the format with drop more bits behind them.
func (f format) align(b uint64) (m uint64, drop int) {
	const mantissa, bias = 52, 1023
	drop = mantissa - f.mantissa
	e := int(b>>mantissa) - bias + f.bias
	switch {
	case f.bias == bias:
		return b, 0
	case e >= 2*f.bias+1: // infinity, NaN and what is larger than any of the format
		return f.inf() << drop, drop
	case e <= 0: // subnormal: fewer bits are left, the first no longer implicit
		if b>>mantissa == 0 {
			return 0, drop
		}
		return b&(1<<mantissa-1) | 1<<mantissa, drop + 1 - e
	}
	return uint64(e)<<mantissa | b&(1<<mantissa-1), drop
}

// start returns the first byte of a tensor in the canonical file.
func (s *Spec) start(tensor int) int64 {
	return int64(len(s.layout.Header())) + s.layout.Tensors()[tensor].Offset
}

// parts yields the parts of tensors in the bytes of a canonical file from offset on, in order. Bytes of the header are left out.
func (s *Spec) parts(offset int64, p []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		ts := s.layout.Tensors()
		at := offset - int64(len(s.layout.Header()))
		lo, hi := 0, len(ts) // the first tensor that ends after at
		for lo < hi {
			if mid := (lo + hi) / 2; ts[mid].Offset+ts[mid].Bytes() <= at {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		for i := lo; i < len(ts) && ts[i].Offset < at+int64(len(p)); i++ {
			from, to := max(ts[i].Offset-at, 0), min(ts[i].Offset+ts[i].Bytes()-at, int64(len(p)))
			if from < to && !yield(i, p[from:to]) {
				return
			}
		}
	}
}
