package kernel

import (
	"encoding/binary"
	"math/bits"
)

// RawSize is the number of bytes of one raw accumulator: the 128-bit integer, little-endian.
const RawSize = 16

// Merge adds the accumulators xlo, xhi.
func Merge(lo, hi, xlo, xhi []uint64) {
	n := len(lo)
	hi, xlo, xhi = hi[:n], xlo[:n], xhi[:n]
	n = vectorMerge(lo, hi, xlo, xhi)
	merge(lo[n:], hi[n:], xlo[n:], xhi[n:])
}

func merge(lo, hi, xlo, xhi []uint64) {
	n := len(lo)
	hi, xlo, xhi = hi[:n], xlo[:n], xhi[:n]
	for i := range lo {
		var c uint64
		lo[i], c = bits.Add64(lo[i], xlo[i], 0)
		hi[i], _ = bits.Add64(hi[i], xhi[i], c)
	}
}

// Sub subtracts the accumulators xlo, xhi.
func Sub(lo, hi, xlo, xhi []uint64) {
	n := len(lo)
	hi, xlo, xhi = hi[:n], xlo[:n], xhi[:n]
	for i := range lo {
		var b uint64
		lo[i], b = bits.Sub64(lo[i], xlo[i], 0)
		hi[i], _ = bits.Sub64(hi[i], xhi[i], b)
	}
}

// MergeRaw adds the raw accumulators in p and reports whether each of them was in
// [-2^125, 2^125), where every sum of weighted values is whose |weights| add up to less than 2^38.
func MergeRaw(lo, hi []uint64, p []byte) bool {
	hi = hi[:len(lo)]
	p = p[:RawSize*len(lo)]
	var beyond uint64
	for i := range lo {
		if len(p) < RawSize {
			break
		}
		l, h := binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])
		p = p[RawSize:]
		beyond |= h ^ uint64(int64(h)>>63)
		var c uint64
		lo[i], c = bits.Add64(lo[i], l, 0)
		hi[i], _ = bits.Add64(hi[i], h, c)
	}
	return beyond>>61 == 0
}

// PutRaw writes the accumulators to p as [MergeRaw] reads them.
func PutRaw(p []byte, lo, hi []uint64) {
	hi = hi[:len(lo)]
	p = p[:RawSize*len(lo)]
	for i := range lo {
		if len(p) < RawSize {
			break
		}
		binary.LittleEndian.PutUint64(p, lo[i])
		binary.LittleEndian.PutUint64(p[8:], hi[i])
		p = p[RawSize:]
	}
}
