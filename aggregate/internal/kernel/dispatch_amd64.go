//go:build amd64 && !purego

package kernel

import (
	"encoding/binary"
	"math"
	"math/bits"

	"golang.org/x/sys/cpu"
)

//go:generate go run -C _gen . -out ../vector_amd64.s -stubs ../vector_amd64.go -pkg kernel

var hasAVX2 = cpu.X86.HasAVX2

// The functions below do as many of the first elements as come in whole vectors, and return how many that is: 0 where there
// are none or the processor has no AVX2. Assembly cannot be preempted, so they call it for a limited number of elements.
const (
	lanes  = 4
	atOnce = 1 << 16
)

func vectorFoldF32(lo, hi []uint64, p []byte, u, neg, least uint64) (done int) {
	for n := range vectors(len(lo)) {
		foldF32AVX2(&lo[done], &hi[done], &p[4*done], n, u, neg, least)
		done += n
	}
	return done
}

func vectorFoldBF16(lo, hi []uint64, p []byte, u, neg, least uint64) (done int) {
	for n := range vectors(len(lo)) {
		foldBF16AVX2(&lo[done], &hi[done], &p[2*done], n, u, neg, least)
		done += n
	}
	return done
}

func vectorFoldF16(lo, hi []uint64, p []byte, u, neg, least uint64) (done int) {
	for n := range vectors(len(lo)) {
		foldF16AVX2(&lo[done], &hi[done], &p[2*done], n, u, neg, least)
		done += n
	}
	return done
}

func vectorMerge(lo, hi, xlo, xhi []uint64) (done int) {
	for n := range vectors(len(lo)) {
		mergeAVX2(&lo[done], &hi[done], &xlo[done], &xhi[done], n)
		done += n
	}
	return done
}

func vectorBounds(lo, hi []uint64) (b bounds, done int) {
	for n := range vectors(len(lo)) {
		l, h, fl, fh := boundsAVX2(&lo[done], &hi[done], n)
		b = bounds{b.lo | l, b.hi | h, b.foldLo | fl, b.foldHi | fh}
		done += n
	}
	return b, done
}

// vectors yields the numbers of elements to do at once.
func vectors(n int) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		if !hasAVX2 {
			return
		}
		for n &^= lanes - 1; n > 0; n -= atOnce {
			if !yield(min(n, atOnce)) {
				return
			}
		}
	}
}

// vectorLargest returns the largest magnitude of the first elements of size 2 or 4, and the number of bytes looked at.
func vectorLargest(p []byte, size int) (m uint64, done int) {
	const block = 128
	if !hasAVX2 {
		return 0, 0
	}
	largest := largest32AVX2
	if size == 2 {
		largest = largest16AVX2
	}
	for len(p)-done >= block {
		n := min((len(p)-done)/block, atOnce*4/block)
		m = max(m, uint64(largest(&p[done], n)))
		done += n * block
	}
	return m, done
}

// final is a function that divides sums, as [finalF32AVX2].
type vectorFinal func(dst *byte, lo, hi *uint64, todo *byte, n int, inverse, limit uint64)

func vectorFinalF32(dst []byte, lo, hi []uint64, d Divisor, scale int, limit uint32, one func(i int)) (done int) {
	return finish(finalF32AVX2, 4, dst, lo, hi, d, scale, uint64(limit), one)
}

func vectorFinalBF16(dst []byte, lo, hi []uint64, d Divisor, scale int, limit uint16, one func(i int)) (done int) {
	return finish(finalBF16AVX2, 2, dst, lo, hi, d, scale, uint64(limit), one)
}

// finish calls one for each element, in order, whose result is in doubt or out of range.
func finish(final vectorFinal, size int, dst []byte, lo, hi []uint64, d Divisor, scale int, limit uint64, one func(i int)) (done int) {
	var todo [256]byte
	inverse := math.Float64bits(math.Ldexp(1/float64(d.d>>d.shift), scale-63))
	for hasAVX2 && len(lo)-done >= lanes {
		n := min(len(lo)-done, lanes*len(todo)) &^ (lanes - 1)
		final(&dst[size*done], &lo[done], &hi[done], &todo[0], n, inverse, limit)
		clear(todo[n/lanes:])
		for i := 0; i < n/lanes; i += 8 {
			for w := binary.LittleEndian.Uint64(todo[i:]); w != 0; w &= w - 1 {
				b := bits.TrailingZeros64(w)
				one(done + (i+b/8)*lanes + b%8)
			}
		}
		done += n
	}
	return done
}

// The kernels below move 16 bytes at a time, of which only the first two elements count.
const piece = 16

// pieces returns how many elements of the given width there are whose pieces lie within n bytes.
func pieces(n, width int) int {
	if !hasAVX2 || width == 0 || width > 8 || n < piece+2*width {
		return 0
	}
	return ((n-piece-2*width)/width + lanes) &^ (lanes - 1)
}

func vectorPack(p []byte, lo, hi []uint64, k Packing) int {
	width := int(k.Width)
	n := min(pieces(len(p), width), atOnce)
	if n == 0 || k.Shift >= 64 {
		return 0
	}
	var order [piece]byte
	for i := range order {
		order[i] = 0x80 // nothing
		if i < 2*width {
			order[i] = byte(i/width*8 + i%width)
		}
	}
	packAVX2(&p[0], &lo[0], &hi[0], n, uint64(k.Shift), 2*width, &order)
	return n
}

func vectorMergePacked(lo, hi []uint64, p []byte, k Packing) (b bounds, done int) {
	width := int(k.Width)
	n := min(pieces(len(p), width), atOnce)
	if n == 0 || k.Shift >= 64 {
		return b, 0
	}
	var order [piece]byte
	for i := range order {
		order[i] = 0x80
		if at := i%8 + width - 8; at >= 0 { // to the top of the word
			order[i] = byte(i/8*width + at)
		}
	}
	unused := uint64(64 - 8*width)
	all, fold := mergePackedAVX2(&lo[0], &hi[0], &p[0], n, unused, uint64(k.Shift), 2*width, &order)
	return bounds{lo: all >> unused, foldLo: fold}, n
}
