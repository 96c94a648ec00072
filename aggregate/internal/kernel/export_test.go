package kernel

// The loops in Go, whatever the machine has, for the tests to compare with.

func GoFoldF32(lo, hi []uint64, p []byte, w int64, t *Table) {
	u, neg := split(w)
	foldF32(lo, hi, p, u, t.signed(neg))
}

func GoFoldBF16(lo, hi []uint64, p []byte, w int64, t *Table) {
	u, neg := split(w)
	foldBF16(lo, hi, p, u, t.signed(neg))
}

func GoFoldF16(lo, hi []uint64, p []byte, w int64) {
	u, neg := split(w)
	foldF16(lo, hi, p, u, neg)
}

func GoMerge(lo, hi, xlo, xhi []uint64) { merge(lo, hi, xlo, xhi) }

func GoCheck16(p []byte, limit uint16) int { return check16(p, limit) }

func GoCheck32(p []byte, limit uint32) int { return check32(p, limit) }

func GoLargest(p []byte, size int) uint64 { return largest(p, size) }

func GoFinalF32(dst []byte, lo, hi []uint64, d Divisor, scale int, limit uint32) Saturated {
	return finalF32(dst, lo, hi, d, scale, limit)
}

func GoFinalBF16(dst []byte, lo, hi []uint64, d Divisor, scale int, limit uint16) Saturated {
	return finalBF16(dst, lo, hi, d, scale, limit)
}
