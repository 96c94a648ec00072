package kernel_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
)

func TestMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 6))
	for n := range 100 {
		lo, hi, xlo, xhi := make([]uint64, n), make([]uint64, n), make([]uint64, n), make([]uint64, n)
		sums(r, lo, hi)
		sums(r, xlo, xhi)
		ylo, yhi := slices.Clone(lo), slices.Clone(hi)
		kernel.Merge(ylo, yhi, xlo, xhi)
		for i := range n {
			x := sum(lo, hi, i)
			set(lo, hi, i, x.Add(x, sum(xlo, xhi, i))) // as 128 bits hold it
		}
		if !slices.Equal(ylo, lo) || !slices.Equal(yhi, hi) {
			t.Fatal("merged sums are not those of integers")
		}
		kernel.Sub(ylo, yhi, xlo, xhi)
		kernel.Merge(ylo, yhi, xlo, xhi)
		if !slices.Equal(ylo, lo) || !slices.Equal(yhi, hi) {
			t.Fatal("adding did not undo subtracting")
		}
	}
}
