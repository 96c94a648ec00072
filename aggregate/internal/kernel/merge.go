package kernel

import "math/bits"

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
