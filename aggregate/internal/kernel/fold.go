package kernel

import (
	"encoding/binary"
	"math/bits"
)

// Table turns the sign and exponent bits of a float32 or bfloat16 into the way its
// product of mantissa and weight, p < 2^62, is placed in the accumulator.
//
// The product is multiplied by mul into 128 bits. For exponents at or above the
// accumulator's least bit that is the shifted product. Below it, mul is so large that the
// product shifted right is the upper word, and down is all ones to select it. Numbers that vanish
// altogether, the subnormal ones and zero among them, have mul 0. Both signs have the same
// entries: with the sign as a ninth index bit the loop need not mask it off.
type Table struct {
	places [512]place
	least  uint64 // the exponent, with its bias, of the float32 whose last bit is the accumulator's least
}

type place struct{ mul, down uint64 }

// NewTable returns the table for least bit 2^(-63+scale), scale ≥ 0.
func NewTable(scale int) *Table {
	t := &Table{least: uint64(150 - 63 + scale)}
	for i := range t.places {
		// x = mantissa · 2^(exponent-150), so in least bits:
		switch shift := i&0xff - 150 + 63 - scale; {
		case shift >= 64: // |x| ≥ 2^24·scale, refused before it comes here
		case shift >= 0:
			t.places[i].mul = 1 << shift
		case shift > -64:
			t.places[i] = place{mul: 1 << (64 + shift), down: ^uint64(0)}
		}
	}
	return t
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
	foldF32(lo[n:], hi[n:], p[4*n:], u, neg, t)
}

func foldF32(lo, hi []uint64, p []byte, u, neg uint64, t *Table) {
	hi = hi[:len(lo)]
	flip := neg & 0x80000000_80000000
	// Two elements a turn, from one load: a sixth faster than one.
	i := 0
	for ; i+1 < len(lo); i += 2 {
		if len(p) < 8 {
			return // never: it tells the compiler so
		}
		b := binary.LittleEndian.Uint64(p) ^ flip
		p = p[8:]
		e := &t.places[b>>23&0x1ff]
		h, l := bits.Mul64(u*(b&0x7fffff|0x800000), e.mul)
		l ^= (l ^ h) & e.down
		h &^= e.down
		c := b >> 31 & 1
		s := -c // with the sign: ^x + 1 is -x, and the 1 rides in as the carry
		lo[i], c = bits.Add64(lo[i], l^s, c)
		hi[i], _ = bits.Add64(hi[i], h^s, c)

		b >>= 32
		e = &t.places[b>>23&0x1ff]
		h, l = bits.Mul64(u*(b&0x7fffff|0x800000), e.mul)
		l ^= (l ^ h) & e.down
		h &^= e.down
		c = b >> 31
		s = -c
		lo[i+1], c = bits.Add64(lo[i+1], l^s, c)
		hi[i+1], _ = bits.Add64(hi[i+1], h^s, c)
	}
	if i < len(lo) {
		fold32(&lo[i], &hi[i], binary.LittleEndian.Uint32(p)^uint32(flip), u, t)
	}
}

// FoldBF16 adds w·x for each bfloat16 x in p, |w| < 2^38. A bfloat16 is the upper half of a
// float32, so the table is the same.
func FoldBF16(lo, hi []uint64, p []byte, w int64, t *Table) {
	hi = hi[:len(lo)]
	p = p[:2*len(lo)]
	u, neg := split(w)
	n := vectorFoldBF16(lo, hi, p, u, neg, t.least)
	foldBF16(lo[n:], hi[n:], p[2*n:], u, neg, t)
}

func foldBF16(lo, hi []uint64, p []byte, u, neg uint64, t *Table) {
	hi = hi[:len(lo)]
	for i := range lo {
		if len(p) < 2 {
			return
		}
		fold32(&lo[i], &hi[i], uint32(binary.LittleEndian.Uint16(p))<<16^uint32(neg)&(1<<31), u, t)
		p = p[2:]
	}
}

// fold32 is one step of the loops above.
func fold32(lo, hi *uint64, b uint32, u uint64, t *Table) {
	e := &t.places[b>>23]
	h, l := bits.Mul64(u*uint64(b&0x7fffff|0x800000), e.mul)
	l ^= (l ^ h) & e.down
	h &^= e.down
	c := uint64(b >> 31)
	s := -c
	*lo, c = bits.Add64(*lo, l^s, c)
	*hi, _ = bits.Add64(*hi, h^s, c)
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
