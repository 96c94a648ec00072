package kernel

import (
	"encoding/binary"
	"math/bits"
)

// Saturated says which results of a block were out of range.
type Saturated struct {
	Count int
	First int // index of the first of them, when Count > 0
}

func (s *Saturated) add(i int) {
	if s.Count == 0 {
		s.First = i
	}
	s.Count++
}

// append adds those of a later part, which begins at element n.
func (s *Saturated) append(n int, later Saturated) {
	if s.Count == 0 && later.Count > 0 {
		s.First = n + later.First
	}
	s.Count += later.Count
}

// Divisor divides by one total weight with multiplications: Möller and Granlund,
// "Improved division by invariant integers", IEEE Transactions on Computers 60 (2011), algorithm 4.
type Divisor struct {
	d     uint64 // the total, shifted left until its top bit is set
	v     uint64 // floor((2^128-1)/d) - 2^64
	r     uint64 // floor((2^127-1)/d)
	shift int
}

// NewDivisor returns the divisor by total, which must not be 0.
func NewDivisor(total uint64) Divisor {
	shift := bits.LeadingZeros64(total)
	d := total << shift
	v, _ := bits.Div64(^d, ^uint64(0), d)
	r, _ := bits.Div64(1<<63-1, ^uint64(0), d)
	return Divisor{d: d, v: v, r: r, shift: shift}
}

// abs returns the magnitude of a sum, and all ones if it is negative.
func abs(h, l uint64) (ah, al, neg uint64) {
	neg = uint64(int64(h) >> 63)
	l, b := bits.Sub64(l^neg, neg, 0)
	h, _ = bits.Sub64(h^neg, neg, b)
	return h, l, neg
}

// quotient returns the magnitude h:l · 2^-63 divided by the total as q·2^(e-62), with the top bit
// of q at 62 and its last bit set if anything is below it: all that rounding to 61 bits or
// fewer needs to know. For zero, q and e mean nothing.
func (d Divisor) quotient(h, l uint64) (q uint64, e int) {
	// Bring the top bit to 126, so that the upper word is less than d.
	k := 0
	if h == 0 {
		h, l, k = l>>1, l<<63, 63
	}
	z := uint(bits.LeadingZeros64(h)-1) & 63
	h = h<<z | l>>1>>(^z&63)
	l <<= z
	// Divide by d: the quotient has 63 or 64 bits.
	q, f := bits.Mul64(d.v, h)
	f, c := bits.Add64(f, l, 0)
	q += h + c + 1
	r := l - q*d.d
	_, b := bits.Sub64(f, r, 0)
	q -= b
	r += d.d & -b
	if r >= d.d {
		r -= d.d
		q++
	}
	t := ^q >> 63
	q = (q>>1 | q&1 | (r|-r)>>63) << t
	return q, d.shift - k - int(z) - int(t)
}

// FinalF32 writes each sum divided by the total, rounded to the nearest float32, half to even.
// Magnitudes whose bits are limit or more become the bits below it and are counted. A result
// of zero is +0. No sum but zero is so small that its result is subnormal.
//
// 24 bits of the quotient are needed and an estimate has 61 that are right, so the exact division is
// only made when the estimate is next to half way between two results: by chance never, but
// real ties are common where weights are equal.
func FinalF32(dst []byte, lo, hi []uint64, d Divisor, scale int, limit uint32) (sat Saturated) {
	hi = hi[:len(lo)]
	dst = dst[:4*len(lo)]
	n := vectorFinalF32(dst, lo, hi, d, scale, limit, func(i int) {
		// Mostly half way between two results, so divide at once.
		h, l, neg := abs(hi[i], lo[i])
		q, e := d.quotient(h, l)
		x := format{mantissa: 23, emin: -126}.round(q, e+scale)
		if h|l == 0 {
			x = 0
		}
		if x >= uint64(limit) {
			x = uint64(limit - 1)
			sat.add(i)
		}
		binary.LittleEndian.PutUint32(dst[4*i:], uint32(x|neg&(1<<31)))
	})
	sat.append(n, finalF32(dst[4*n:], lo[n:], hi[n:], d, scale, limit))
	return sat
}

func finalF32(dst []byte, lo, hi []uint64, d Divisor, scale int, limit uint32) (sat Saturated) {
	const half = 1 << 38 // of the last bit that is kept
	hi = hi[:len(lo)]
	// One less than the bias of float32: the implicit bit of the mantissa adds one to the
	// exponent when both are put together, as does a mantissa rounded up to the next power of two.
	bias := 126 + scale + d.shift
	for i := range lo {
		if len(dst) < 4 {
			return sat // never: it tells the compiler so
		}
		h, l := hi[i], lo[i]
		neg := uint64(int64(h) >> 63)
		l, c := bits.Sub64(l^neg, neg, 0)
		h, _ = bits.Sub64(h^neg, neg, c)
		// The 64 bits from the first one on. A branch would guess wrong where magnitudes mix.
		f := uint(bits.LeadingZeros64(h)) >> 6
		h |= l & -uint64(f)
		l &^= -uint64(f)
		z := uint(bits.LeadingZeros64(h))
		h = h<<(z&63) | l>>1>>(^z&63)
		// The true quotient is in [q, q+3): one may be missing because h was cut off, one
		// because r was, one because q is. The shift that leaves 62 or 63 bits keeps that so.
		q, _ := bits.Mul64(h, d.r)
		t := q >> 63
		q >>= t
		m := uint32((q + half) >> 39)
		if (half-q)&(2*half-1) < 3 {
			m = d.nearest(hi[i], lo[i])
		}
		x := m + uint32(bias+int(t)-int(z)-int(f<<6))<<23
		if h == 0 {
			x = 0
		}
		if x >= limit {
			x = limit - 1
			sat.add(i)
		}
		binary.LittleEndian.PutUint32(dst, x|uint32(neg)&(1<<31))
		dst = dst[4:]
	}
	return sat
}

// nearest returns the 24 bits of the mantissa of the nearest float32.
func (d Divisor) nearest(h, l uint64) uint32 {
	h, l, _ = abs(h, l)
	q, _ := d.quotient(h, l)
	return uint32((q + (1<<38 - 1) + q>>39&1) >> 39)
}

// FinalF16 is [FinalF32] for float16, subnormal results included; scale is 0.
func FinalF16(dst []byte, lo, hi []uint64, d Divisor, limit uint16) Saturated {
	return finalFloat(dst, lo, hi, d, 0, format{size: 2, mantissa: 10, emin: -14}, uint64(limit))
}

// FinalBF16 is [FinalF32] for bfloat16.
func FinalBF16(dst []byte, lo, hi []uint64, d Divisor, scale int, limit uint16) (sat Saturated) {
	hi = hi[:len(lo)]
	dst = dst[:2*len(lo)]
	n := vectorFinalBF16(dst, lo, hi, d, scale, limit, func(i int) {
		if finalBF16(dst[2*i:2*i+2], lo[i:i+1], hi[i:i+1], d, scale, limit).Count > 0 {
			sat.add(i)
		}
	})
	sat.append(n, finalBF16(dst[2*n:], lo[n:], hi[n:], d, scale, limit))
	return sat
}

func finalBF16(dst []byte, lo, hi []uint64, d Divisor, scale int, limit uint16) Saturated {
	return finalFloat(dst, lo, hi, d, scale, format{size: 2, mantissa: 7, emin: -126}, uint64(limit))
}

// FinalF64 is [FinalF32] for float64.
func FinalF64(dst []byte, lo, hi []uint64, d Divisor, scale int, limit uint64) Saturated {
	return finalFloat(dst, lo, hi, d, scale, format{size: 8, mantissa: 52, emin: -1022}, limit)
}

// format describes a floating-point format.
type format struct {
	size     int
	mantissa int // bits stored
	emin     int // exponent of the smallest normal number
}

func finalFloat(dst []byte, lo, hi []uint64, d Divisor, scale int, f format, limit uint64) (sat Saturated) {
	hi = hi[:len(lo)]
	dst = dst[:f.size*len(lo)]
	for i := range lo {
		h, l, neg := abs(hi[i], lo[i])
		some := h | l
		q, e := d.quotient(h, l)
		x := f.round(q, e+scale)
		if some == 0 {
			x = 0
		}
		if x >= limit {
			x = limit - 1
			sat.add(i)
		}
		if x == 0 {
			neg = 0
		}
		if f.size == 2 {
			binary.LittleEndian.PutUint16(dst[2*i:], uint16(x|neg&(1<<15)))
		} else {
			binary.LittleEndian.PutUint64(dst[8*i:], x|neg&(1<<63))
		}
	}
	return sat
}

// round returns the bits of the number nearest to q·2^(e-62), as [Divisor.quotient] returns it.
// The exponent may be beyond the format's: then so are the bits.
func (f format) round(q uint64, e int) uint64 {
	drop := 62 - f.mantissa
	if e < f.emin { // subnormal: fewer bits are left
		drop += f.emin - e
		e = f.emin
		if drop > 63 {
			return 0 // less than half of the smallest number
		}
	}
	m := (q + (1<<(drop-1) - 1) + q>>drop&1) >> drop
	return m + uint64(e-f.emin)<<f.mantissa
}
