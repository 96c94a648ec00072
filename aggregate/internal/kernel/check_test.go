package kernel_test

import (
	"math/rand/v2"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int
		limit uint64
		check func(p []byte) int
	}{
		{"f16", 2, f16Limit, func(p []byte) int { return kernel.Check16(p, f16Limit) }},
		{"bf16", 2, bf16Limit, func(p []byte) int { return kernel.Check16(p, bf16Limit) }},
		{"f32", 4, f32Limit, func(p []byte) int { return kernel.Check32(p, f32Limit) }},
		{"f64", 8, f64Limit, func(p []byte) int { return kernel.Check64(p, f64Limit) }},
	} {
		r := rand.New(rand.NewPCG(7, 7))
		sign := uint64(1) << (8*c.size - 1)
		for n := range 70 {
			p := make([]byte, c.size*n)
			var largest uint64
			for i := range n {
				x := r.Uint64N(c.limit)
				if r.IntN(3) == 0 {
					x = c.limit - 1
				}
				largest = max(largest, x)
				put(p, i, c.size, x|sign*r.Uint64N(2))
			}
			if i := c.check(p); i != -1 {
				t.Fatalf("%s: %x refused", c.name, get(p, i, c.size))
			}
			if got := kernel.Largest(p, c.size); got != largest {
				t.Fatalf("%s: largest of %d is %x, got %x", c.name, n, largest, got)
			}
			for at := range n {
				good := get(p, at, c.size)
				for _, bad := range []uint64{c.limit, c.limit | sign, c.limit + r.Uint64N(sign-c.limit), sign - 1, 2*sign - 1} {
					put(p, at, c.size, bad)
					if got := c.check(p); got != at {
						t.Fatalf("%s: %x at %d of %d: got %d", c.name, bad, at, n, got)
					}
				}
				if at%2 == 0 {
					put(p, n-1, c.size, c.limit) // the first counts
					if got := c.check(p); got != at && at != n-1 {
						t.Fatalf("%s: the first is %d, got %d", c.name, at, got)
					}
				}
				put(p, n-1, c.size, 0)
				put(p, at, c.size, good)
			}
		}
	}
}

func TestCheckBool(t *testing.T) {
	for _, c := range []struct {
		p    []byte
		want int
	}{
		{nil, -1},
		{[]byte{0, 1, 1}, -1},
		{[]byte{0, 1, 2, 255}, 2},
	} {
		if got := kernel.CheckBool(c.p); got != c.want {
			t.Errorf("%v: got %d, want %d", c.p, got, c.want)
		}
	}
}
