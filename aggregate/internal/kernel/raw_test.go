package kernel_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
)

func words(r *rand.Rand, n, shift int) []uint64 {
	w := make([]uint64, n)
	for i := range w {
		w[i] = uint64(int64(r.Uint64()) >> shift)
	}
	return w
}

func TestRaw(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for n := range 100 {
		lo, hi := words(r, n, 0), words(r, n, 2)
		p := make([]byte, kernel.RawSize*n)
		kernel.PutRaw(p, lo, hi)
		xlo, xhi := make([]uint64, n), make([]uint64, n)
		if !kernel.MergeRaw(xlo, xhi, p) {
			t.Fatal("sums in range were reported")
		}
		if !slices.Equal(lo, xlo) || !slices.Equal(hi, xhi) {
			t.Fatalf("%d elements came back different", n)
		}
		for i := range n {
			if get(p, 2*i, 8) != lo[i] || get(p, 2*i+1, 8) != hi[i] {
				t.Fatalf("element %d is not little-endian", i)
			}
		}
		// Merge agrees with MergeRaw, Sub undoes both.
		ylo, yhi := slices.Clone(lo), slices.Clone(hi)
		kernel.Merge(ylo, yhi, xlo, xhi)
		kernel.MergeRaw(xlo, xhi, p)
		if !slices.Equal(ylo, xlo) || !slices.Equal(yhi, xhi) {
			t.Fatal("merged words and merged bytes differ")
		}
		for i := range n {
			if z := sum(lo, hi, i); z.Lsh(z, 1).Cmp(sum(ylo, yhi, i)) != 0 {
				t.Fatalf("twice %v is not %v", sum(lo, hi, i), sum(ylo, yhi, i))
			}
		}
		kernel.Sub(ylo, yhi, lo, hi)
		if !slices.Equal(ylo, lo) || !slices.Equal(yhi, hi) {
			t.Fatal("subtracting did not undo adding")
		}
	}
}

func TestMergeRawRange(t *testing.T) {
	for _, c := range []struct {
		hi uint64
		ok bool
	}{
		{1<<61 - 1, true},
		{1 << 61, false},
		{^uint64(1<<61 - 1), true}, // -2^125
		{^uint64(1 << 61), false},
		{1 << 63, false},
	} {
		for at := range 3 {
			lo, hi := make([]uint64, 3), make([]uint64, 3)
			hi[at] = c.hi
			p := make([]byte, 3*kernel.RawSize)
			kernel.PutRaw(p, lo, hi)
			if got := kernel.MergeRaw(lo, hi, p); got != c.ok {
				t.Errorf("upper word %x: got %v", c.hi, got)
			}
		}
	}
}
