package kernel

import (
	"encoding/binary"
	"math/bits"
)

// Packing is how sums are packed: each is shifted right by Shift bits, all zero in all of them, and takes the lowest Width bytes.
// The one packing of some sums has the largest shift and then the smallest width; both are 0 if all sums are.
type Packing struct {
	Shift uint8 // below MaxShift
	Width uint8 // at most MaxWidth
}

// Limits of a [Packing]: sums are in [-2^125, 2^125).
const (
	MaxShift = 126
	MaxWidth = 16
)

const sumBits = 125

// bounds are the bits set in any sum, and in any sum inverted if it is negative.
type bounds struct{ lo, hi, foldLo, foldHi uint64 }

// PackingOf returns the packing of sums.
func PackingOf(lo, hi []uint64) Packing {
	hi = hi[:len(lo)]
	b, n := vectorBounds(lo, hi)
	b.add(lo[n:], hi[n:])
	if b.lo|b.hi == 0 {
		return Packing{}
	}
	shift := bits.TrailingZeros64(b.lo)
	if b.lo == 0 {
		shift = 64 + bits.TrailingZeros64(b.hi)
	}
	return Packing{Shift: uint8(shift), Width: widthOf(bits128(b.foldHi, b.foldLo) - shift)}
}

func (b *bounds) add(lo, hi []uint64) {
	hi = hi[:len(lo)]
	for i, l := range lo {
		h := hi[i]
		s := uint64(int64(h) >> 63)
		b.lo |= l
		b.hi |= h
		b.foldLo |= l ^ s
		b.foldHi |= h ^ s
	}
}

func bits128(h, l uint64) int {
	if h != 0 {
		return 64 + bits.Len64(h)
	}
	return bits.Len64(l)
}

// widthOf returns the bytes of a magnitude of n bits with its sign.
func widthOf(n int) uint8 { return uint8(n/8 + 1) }

// Pack writes the sums, packed, to p, k.Width bytes each.
func Pack(p []byte, lo, hi []uint64, k Packing) {
	hi = hi[:len(lo)]
	p = p[:int(k.Width)*len(lo)]
	if k.Width == 0 {
		return
	}
	n := vectorPack(p, lo, hi, k)
	pack(p[n*int(k.Width):], lo[n:], hi[n:], k)
}

func pack(p []byte, lo, hi []uint64, k Packing) {
	hi = hi[:len(lo)]
	width, shift := int(k.Width), uint(k.Shift)
	var word [16]byte
	for i, l := range lo {
		l, h := right(hi[i], l, shift)
		// More than is needed, which the next one overwrites.
		switch {
		case width <= 8 && len(p) >= 8:
			binary.LittleEndian.PutUint64(p, l)
		case len(p) >= 16:
			binary.LittleEndian.PutUint64(p, l)
			binary.LittleEndian.PutUint64(p[8:], h)
		default:
			binary.LittleEndian.PutUint64(word[:], l)
			binary.LittleEndian.PutUint64(word[8:], h)
			copy(p, word[:width])
		}
		p = p[width:]
	}
}

// right returns the words of h:l shifted right by n < 128.
func right(h, l uint64, n uint) (rl, rh uint64) {
	if n >= 64 {
		l, h, n = h, uint64(int64(h)>>63), n-64
	}
	return l>>(n&63) | h<<1<<(^n&63), uint64(int64(h) >> (n & 63))
}

// left returns the words of h:l shifted left by n < 128.
func left(h, l uint64, n uint) (rl, rh uint64) {
	if n >= 64 {
		l, h, n = 0, l, n-64
	}
	return l << (n & 63), h<<(n&63) | l>>1>>(^n&63)
}

// MergePacked adds the sums in p, k.Width bytes each, and reports whether k is their packing and each of them was in
// [-2^125, 2^125), where every sum of weighted values is whose |weights| add up to less than 2^38.
func MergePacked(lo, hi []uint64, p []byte, k Packing) bool {
	hi = hi[:len(lo)]
	p = p[:int(k.Width)*len(lo)]
	if k.Width == 0 || k.Width > MaxWidth || k.Shift >= MaxShift {
		return k == Packing{}
	}
	b, n := vectorMergePacked(lo, hi, p, k)
	b.mergePacked(lo[n:], hi[n:], p[n*int(k.Width):], k)
	used := bits128(b.foldHi, b.foldLo)
	return b.lo&1 == 1 && widthOf(used) == k.Width && used+int(k.Shift) <= sumBits
}

// mergePacked is the loop of [MergePacked]; of the bits found, those not shifted are told.
func (b *bounds) mergePacked(lo, hi []uint64, p []byte, k Packing) {
	hi = hi[:len(lo)]
	width, shift := int(k.Width), uint(k.Shift)
	var word [16]byte
	for i := range lo {
		var l, h uint64
		switch {
		case width <= 8 && len(p) >= 8:
			l = binary.LittleEndian.Uint64(p)
		case len(p) >= 16:
			l, h = binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
		default:
			copy(word[:], p[:width])
			l, h = binary.LittleEndian.Uint64(word[:]), binary.LittleEndian.Uint64(word[8:])
		}
		p = p[width:]
		// Extend the sign.
		if width <= 8 {
			up := uint(64-8*width) & 63
			l = uint64(int64(l<<up) >> up)
			h = uint64(int64(l) >> 63)
		} else {
			up := uint(128-8*width) & 63
			h = uint64(int64(h<<up) >> up)
		}
		s := uint64(int64(h) >> 63)
		b.lo |= l
		b.foldLo |= l ^ s
		b.foldHi |= h ^ s
		l, h = left(h, l, shift)
		var c uint64
		lo[i], c = bits.Add64(lo[i], l, 0)
		hi[i], _ = bits.Add64(hi[i], h, c)
	}
}
