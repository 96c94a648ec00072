package kernel_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
)

// packable fills accumulators with sums of at most the given bits above shift.
func packable(r *rand.Rand, lo, hi []uint64, bits, shift int) {
	for i := range lo {
		z := big.NewInt(0)
		for range 4 {
			z.Lsh(z, 32).Add(z, big.NewInt(int64(r.Uint32())))
		}
		z.Rsh(z, uint(128-bits))
		switch r.IntN(8) {
		case 0:
			z.SetInt64(0)
		case 1: // the largest and the smallest
			z.Sub(z.Lsh(big.NewInt(1), uint(bits)), big.NewInt(1))
		}
		if r.IntN(2) == 0 {
			z.Not(z)
		}
		set(lo, hi, i, z.Lsh(z, uint(shift)))
	}
}

// packingOf finds the packing by trying.
func packingOf(lo, hi []uint64) kernel.Packing {
	var k kernel.Packing
	zs := make([]*big.Int, len(lo))
	zero := true
	for i := range lo {
		zs[i] = sum(lo, hi, i)
		zero = zero && zs[i].Sign() == 0
	}
	if zero {
		return k
	}
	for all := true; all; {
		for _, z := range zs {
			all = all && z.Bit(int(k.Shift)) == 0
		}
		if all {
			k.Shift++
		}
	}
	for _, z := range zs {
		z.Rsh(z, uint(k.Shift))
		if z.Sign() < 0 {
			z.Not(z)
		}
		k.Width = max(k.Width, uint8(z.BitLen()/8+1))
	}
	return k
}

func TestPack(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(25, 25))
	ns := lengths(r)
	for round := range 1200 {
		n := ns[r.IntN(300)]
		if round%150 == 0 {
			n = ns[300+r.IntN(10)]
		}
		var g guard
		lo, hi := g.uint64s(r, n), g.uint64s(r, n)
		bits := r.IntN(126)
		packable(r, lo, hi, bits, r.IntN(126-bits))
		k := kernel.PackingOf(lo, hi)
		if want := packingOf(lo, hi); k != want {
			t.Fatalf("%d sums: packing %+v, want %+v", n, k, want)
		}
		width := int(k.Width)
		p := g.bytes(r, width*n)
		kernel.Pack(p, lo, hi, k)
		for i := range n {
			z := sum(lo, hi, i)
			z.Rsh(z, uint(k.Shift))
			got := p[i*width : (i+1)*width]
			for j, b := range got {
				if want := byte(new(big.Int).And(new(big.Int).Rsh(z, uint(8*j)), big.NewInt(0xff)).Uint64()); b != want {
					t.Fatalf("%+v: %v packed as % x", k, z, got)
				}
			}
		}
		xlo, xhi := g.uint64s(r, n), g.uint64s(r, n)
		sums(r, xlo, xhi)
		wlo, whi := slices.Clone(xlo), slices.Clone(xhi)
		kernel.GoMerge(wlo, whi, lo, hi)
		if !kernel.MergePacked(xlo, xhi, p, k) {
			t.Fatalf("%+v: %d sums refused", k, n)
		}
		if !slices.Equal(xlo, wlo) || !slices.Equal(xhi, whi) {
			t.Fatalf("%+v: %d sums added differ", k, n)
		}
		if !g.intact() {
			t.Fatalf("%+v: %d sums: wrote outside", k, n)
		}
	}
}

// TestMergePackedRefuses: any packing but the one, in every place of a vector.
func TestMergePackedRefuses(t *testing.T) {
	r := rand.New(rand.NewPCG(26, 26))
	for range 800 {
		n := 1 + r.IntN(40)
		lo, hi := make([]uint64, n), make([]uint64, n)
		// One sum decides about width and shift, the others would do with less.
		bits := 1 + r.IntN(125)
		shift := r.IntN(126 - bits)
		packable(r, lo, hi, bits-1, shift)
		for i := range lo {
			if r.IntN(2) == 0 {
				lo[i], hi[i] = 0, 0
			}
		}
		at := r.IntN(n)
		z := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		z.Add(z, big.NewInt(1)).Lsh(z, uint(shift))
		if bits == 1 {
			z.Lsh(big.NewInt(1), uint(shift))
		}
		if r.IntN(2) == 0 {
			z.Neg(z)
		}
		set(lo, hi, at, z)
		k := kernel.PackingOf(lo, hi)
		for _, c := range []kernel.Packing{
			{Shift: k.Shift, Width: k.Width + 1},
			{Shift: k.Shift - 1, Width: k.Width},
			{Shift: k.Shift - 1, Width: k.Width + 1},
			{Shift: k.Shift, Width: k.Width + 8},
		} {
			if c.Shift > k.Shift || c.Width > kernel.MaxWidth {
				continue
			}
			if c.Width == k.Width && packedWidth(lo, hi, int(c.Shift)) > c.Width {
				continue // does not fit
			}
			p := make([]byte, int(c.Width)*n)
			kernel.Pack(p, lo, hi, c)
			if kernel.MergePacked(make([]uint64, n), make([]uint64, n), p, c) {
				t.Fatalf("%+v was accepted for sums of %+v", c, k)
			}
		}
		// The same bytes mean more under a larger shift.
		p := make([]byte, int(k.Width)*n)
		kernel.Pack(p, lo, hi, k)
		for up := k.Shift; up < 140; up++ {
			want := up < kernel.MaxShift && fits(lo, hi, int(up)-int(k.Shift))
			if got := kernel.MergePacked(make([]uint64, n), make([]uint64, n), p, kernel.Packing{Shift: up, Width: k.Width}); got != want {
				t.Fatalf("%+v with shift %d: got %v", k, up, got)
			}
		}
	}
	for _, k := range []kernel.Packing{{Shift: 1}, {Width: 1}, {Width: 17}, {Shift: math.MaxUint8, Width: 1}} {
		if n := 3; kernel.MergePacked(make([]uint64, n), make([]uint64, n), make([]byte, n*int(k.Width)), k) {
			t.Errorf("%+v was accepted", k)
		}
	}
}

func packedWidth(lo, hi []uint64, shift int) (w uint8) {
	for i := range lo {
		z := sum(lo, hi, i)
		z.Rsh(z, uint(shift))
		if z.Sign() < 0 {
			z.Not(z)
		}
		w = max(w, uint8(z.BitLen()/8+1))
	}
	return w
}

// fits reports whether all sums, times 2^up, are in range.
func fits(lo, hi []uint64, up int) bool {
	for i := range lo {
		z := sum(lo, hi, i)
		z.Lsh(z, uint(up))
		if z.Sign() < 0 {
			z.Not(z)
		}
		if z.BitLen() > 125 {
			return false
		}
	}
	return true
}
