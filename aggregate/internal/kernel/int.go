package kernel

import (
	"encoding/binary"
	"math/bits"
)

// Int describes an integer element.
type Int struct {
	Size   int // bytes: 1, 2, 4 or 8
	Signed bool
	// Max is the largest value a result may have; the smallest is 0, or -Max-1 when Signed.
	Max uint64
}

// FoldInt adds w·x for each integer x in p, |w| < 2^38.
func FoldInt(lo, hi []uint64, p []byte, w int64, k Int) {
	hi = hi[:len(lo)]
	p = p[:k.Size*len(lo)]
	for i := range lo {
		x := k.load(p[i*k.Size:])
		h, l := bits.Mul64(x, uint64(w))
		// The product of the unsigned words exceeds the signed one by 2^64 times
		// the other factor, for each factor that is negative.
		h -= x & uint64(w>>63)
		if k.Signed {
			h -= uint64(w) & uint64(int64(x)>>63)
		}
		var c uint64
		lo[i], c = bits.Add64(lo[i], l, 0)
		hi[i], _ = bits.Add64(hi[i], h, c)
	}
}

// load returns the first element of p as a word, sign-extended when signed.
func (k Int) load(p []byte) uint64 {
	var x uint64
	switch k.Size {
	case 1:
		x = uint64(p[0])
	case 2:
		x = uint64(binary.LittleEndian.Uint16(p))
	case 4:
		x = uint64(binary.LittleEndian.Uint32(p))
	default:
		x = binary.LittleEndian.Uint64(p)
	}
	if k.Signed {
		up := 64 - 8*k.Size
		x = uint64(int64(x<<up) >> up)
	}
	return x
}

func (k Int) store(p []byte, x uint64) {
	switch k.Size {
	case 1:
		p[0] = byte(x)
	case 2:
		binary.LittleEndian.PutUint16(p, uint16(x))
	case 4:
		binary.LittleEndian.PutUint32(p, uint32(x))
	default:
		binary.LittleEndian.PutUint64(p, x)
	}
}

// FinalInt writes each sum divided by total ≥ 1, rounded to the nearest integer, half to
// even. What is beyond the range of k becomes the nearest end of it and is counted.
func FinalInt(dst []byte, lo, hi []uint64, total uint64, k Int) (sat Saturated) {
	hi = hi[:len(lo)]
	dst = dst[:k.Size*len(lo)]
	for i := range lo {
		h, l, s := abs(hi[i], lo[i])
		qh, r := h/total, h%total
		q, r := bits.Div64(r, l, total)
		if r > total-r || r == total-r && q&1 == 1 {
			var c uint64
			q, c = bits.Add64(q, 1, 0)
			qh += c
		}
		limit := k.Max
		if s != 0 {
			limit = 0
			if k.Signed {
				limit = k.Max + 1
			}
		}
		if qh != 0 || q > limit {
			sat.add(i)
			q = limit
		}
		k.store(dst[i*k.Size:], (q^s)-s)
	}
	return sat
}
