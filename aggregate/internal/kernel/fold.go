package kernel

import (
	"encoding/binary"
	"math/bits"
)

// Table turns the sign and exponent bits of a float32 or bfloat16 into the way its
// product of mantissa and weight, p < 2^62, is placed in the accumulator.
//
// For exponents at or above the accumulator's least bit that is p shifted left, by less than 64: p·mul, where mul is a power of two
// or, of products to be subtracted, the two's complement of one, for which neg is all ones. For those below it is p shifted right, the
// upper word of p·tiny, with its sign in sign. Numbers that vanish altogether, the subnormal ones and zero among them,
// have neither mul nor tiny.
type Table struct {
	// Places of all exponents for positive products, then for negative ones, then for positive ones again: from 0 on they are found by sign
	// and exponent for a positive weight, from 256 on for a negative one.
	places [768]place
	least  uint64 // the exponent, with its bias, of the float32 whose last bit is the accumulator's least
}

type place struct{ mul, neg, tiny, sign uint64 }

// NewTable returns the table for least bit 2^(-63+scale), scale ≥ 0.
func NewTable(scale int) *Table {
	t := &Table{least: uint64(150 - 63 + scale)}
	for i := range t.places {
		e := &t.places[i]
		e.sign = -uint64(i >> 8 & 1)
		// x = mantissa · 2^(exponent-150), so in least bits:
		switch shift := i&0xff - 150 + 63 - scale; {
		case shift >= 64: // |x| ≥ 2^24·scale, refused before it comes here
		case shift >= 0:
			e.mul, e.neg = 1<<shift, e.sign
			e.mul = (e.mul ^ e.neg) - e.neg
		case shift > -64:
			e.tiny = 1 << (64 + shift)
		}
	}
	return t
}

// signed returns the places for a weight of a sign.
func (t *Table) signed(neg uint64) *[512]place {
	if neg == 0 {
		return (*[512]place)(t.places[:])
	}
	return (*[512]place)(t.places[256:])
}

// split returns |w| and all ones if w is negative.
func split(w int64) (abs, neg uint64) {
	neg = uint64(w >> 63)
	return (uint64(w) ^ neg) - neg, neg
}

// FoldF32 adds w·x for each float32 x in p, |w| < 2^38.
func FoldF32(lo, hi []uint64, p []byte, w int64, t *Table) {
	hi = hi[:len(lo)]
	p = p[:4*len(lo)]
	u, neg := split(w)
	n := vectorFoldF32(lo, hi, p, u, neg, t.least)
	foldF32(lo[n:], hi[n:], p[4*n:], u, t.signed(neg))
}

func foldF32(lo, hi []uint64, p []byte, u uint64, t *[512]place) {
	n := foldEightF32(lo, hi, p, u, t)
	lo, hi, p = lo[n:], hi[n:], p[4*n:]
	for i := range lo {
		b := uint64(binary.LittleEndian.Uint32(p[4*i:]))
		if fold32(&lo[i], &hi[i], b, u, t) != 0 {
			foldTiny(&lo[i], &hi[i], b, u, t)
		}
	}
}

// foldEightF32 folds as many of the first elements as come in eights, and returns how many that is. Eight a turn, from four loads, are
// quicker than one or two, as the slices are looked at but once.
func foldEightF32(lo, hi []uint64, p []byte, u uint64, t *[512]place) (n int) {
	for len(lo) >= 8 && len(hi) >= 8 && len(p) >= 32 {
		l, h := (*[8]uint64)(lo), (*[8]uint64)(hi)
		b := binary.LittleEndian.Uint64(p)
		tiny := fold32(&l[0], &h[0], b, u, t)
		tiny |= fold32(&l[1], &h[1], b>>32, u, t)
		b = binary.LittleEndian.Uint64(p[8:])
		tiny |= fold32(&l[2], &h[2], b, u, t)
		tiny |= fold32(&l[3], &h[3], b>>32, u, t)
		b = binary.LittleEndian.Uint64(p[16:])
		tiny |= fold32(&l[4], &h[4], b, u, t)
		tiny |= fold32(&l[5], &h[5], b>>32, u, t)
		b = binary.LittleEndian.Uint64(p[24:])
		tiny |= fold32(&l[6], &h[6], b, u, t)
		tiny |= fold32(&l[7], &h[7], b>>32, u, t)
		if tiny != 0 {
			for i := range l {
				foldTiny(&l[i], &h[i], uint64(binary.LittleEndian.Uint32(p[4*i:])), u, t)
			}
		}
		lo, hi, p = lo[8:], hi[8:], p[32:]
		n += 8
	}
	return n
}

// FoldBF16 adds w·x for each bfloat16 x in p, |w| < 2^38. A bfloat16 is the upper half of a
// float32, so the table is the same.
func FoldBF16(lo, hi []uint64, p []byte, w int64, t *Table) {
	hi = hi[:len(lo)]
	p = p[:2*len(lo)]
	u, neg := split(w)
	n := vectorFoldBF16(lo, hi, p, u, neg, t.least)
	foldBF16(lo[n:], hi[n:], p[2*n:], u, t.signed(neg))
}

func foldBF16(lo, hi []uint64, p []byte, u uint64, t *[512]place) {
	n := foldEightBF16(lo, hi, p, u, t)
	lo, hi, p = lo[n:], hi[n:], p[2*n:]
	for i := range lo {
		b := uint64(binary.LittleEndian.Uint16(p[2*i:])) << 16
		if fold32(&lo[i], &hi[i], b, u, t) != 0 {
			foldTiny(&lo[i], &hi[i], b, u, t)
		}
	}
}

// foldEightBF16 is [foldEightF32] for bfloat16.
func foldEightBF16(lo, hi []uint64, p []byte, u uint64, t *[512]place) (n int) {
	const upper = 0xffff0000
	for len(lo) >= 8 && len(hi) >= 8 && len(p) >= 16 {
		l, h := (*[8]uint64)(lo), (*[8]uint64)(hi)
		b := binary.LittleEndian.Uint64(p)
		tiny := fold32(&l[0], &h[0], b<<16&upper, u, t)
		tiny |= fold32(&l[1], &h[1], b&upper, u, t)
		tiny |= fold32(&l[2], &h[2], b>>16&upper, u, t)
		tiny |= fold32(&l[3], &h[3], b>>32&upper, u, t)
		b = binary.LittleEndian.Uint64(p[8:])
		tiny |= fold32(&l[4], &h[4], b<<16&upper, u, t)
		tiny |= fold32(&l[5], &h[5], b&upper, u, t)
		tiny |= fold32(&l[6], &h[6], b>>16&upper, u, t)
		tiny |= fold32(&l[7], &h[7], b>>32&upper, u, t)
		if tiny != 0 {
			for i := range l {
				foldTiny(&l[i], &h[i], uint64(binary.LittleEndian.Uint16(p[2*i:]))<<16, u, t)
			}
		}
		lo, hi, p = lo[8:], hi[8:], p[16:]
		n += 8
	}
	return n
}

// fold32 is one step of the loops above, of the float32 in the lower half of b. It returns whether that is for foldTiny, as anything but 0.
func fold32(lo, hi *uint64, b, u uint64, t *[512]place) (tiny uint64) {
	e := &t[b>>23&0x1ff]
	x := u * (b&0x7fffff | 0x800000)
	h, l := bits.Mul64(x, e.mul)
	h -= x & e.neg // the factor was 2^64 too large
	tiny = e.tiny
	var c uint64
	*lo, c = bits.Add64(*lo, l, 0)
	*hi, _ = bits.Add64(*hi, h, c)
	return tiny
}

// foldTiny does what fold32 leaves of a number that is less than the least bit or not a multiple of it, and nothing for others.
func foldTiny(lo, hi *uint64, b, u uint64, t *[512]place) {
	e := &t[b>>23&0x1ff]
	h, _ := bits.Mul64(u*(b&0x7fffff|0x800000), e.tiny)
	s := e.sign // ^x + 1 is -x, and the 1 rides in as the carry
	var c uint64
	*lo, c = bits.Add64(*lo, h^s, s&1)
	*hi, _ = bits.Add64(*hi, s, c)
}

// FoldF16 adds w·x for each float16 x in p, |w| < 2^38; scale is 0. Every float16 is a multiple
// of 2^-24 and less than 2^16, so it is placed exactly.
func FoldF16(lo, hi []uint64, p []byte, w int64) {
	hi = hi[:len(lo)]
	p = p[:2*len(lo)]
	u, neg := split(w)
	const least = 1<<64 - 33 // as below
	n := vectorFoldF16(lo, hi, p, u, neg, least)
	foldF16(lo[n:], hi[n:], p[2*n:], u, neg)
}

func foldF16(lo, hi []uint64, p []byte, u, neg uint64) {
	hi = hi[:len(lo)]
	for i := range lo {
		if len(p) < 2 {
			return
		}
		b := uint64(binary.LittleEndian.Uint16(p)) ^ neg&0x8000
		p = p[2:]
		e := b >> 10 & 0x1f
		norm := (e + 0x1f) >> 5 // 0 for the subnormal numbers, else 1
		// x = mantissa · 2^(e-25) with e at least 1, in least bits 2^(e+38); five of these go to the
		// mantissa so that the shift stays below 64.
		h, l := bits.Mul64(u*(b&0x3ff|norm<<10)<<5, 1<<((e+34-norm)&63))
		c := b >> 15
		s := -c
		lo[i], c = bits.Add64(lo[i], l^s, c)
		hi[i], _ = bits.Add64(hi[i], h^s, c)
	}
}

// FoldF64 adds w·x for each float64 x in p, |w| < 2^38, least bit 2^(-63+scale).
func FoldF64(lo, hi []uint64, p []byte, w int64, scale int) {
	hi = hi[:len(lo)]
	p = p[:8*len(lo)]
	u, neg := split(w)
	// x = mantissa · 2^(exponent-1075). The product of mantissa and weight, below 2^91, starts at the
	// place of the largest exponent, 34 bits up, and is shifted right from there.
	top := int64(1075 - 63 + 34 + scale)
	for i := range lo {
		if len(p) < 8 {
			return
		}
		b := binary.LittleEndian.Uint64(p) ^ neg&(1<<63)
		p = p[8:]
		h, l := bits.Mul64(u, b&(1<<52-1)|1<<52)
		h = h<<34 | l>>30
		l <<= 34
		// Out of range is refused before; 127 and more leaves nothing, as for the subnormal numbers.
		r := min(max(top-int64(b>>52&0x7ff), 0), 127)
		far := uint64((63 - r) >> 63) // all ones for 64 and more: the upper word moves down
		l ^= (l ^ h) & far
		h &^= far
		k := uint64(r) & 63
		l = l>>k | h<<1<<(63-k)
		h >>= k
		c := b >> 63
		s := -c
		lo[i], c = bits.Add64(lo[i], l^s, c)
		hi[i], _ = bits.Add64(hi[i], h^s, c)
	}
}
