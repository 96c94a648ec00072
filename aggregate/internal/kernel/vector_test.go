package kernel_test

import (
	"bytes"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
)

// The tests in this file compare each kernel with the loop in Go that it stands for, over all short lengths and some long
// ones, on slices that begin anywhere, and look at what is around them. With -tags purego they compare a loop with itself.

func lengths(r *rand.Rand) []int {
	var ns []int
	for n := range 301 {
		ns = append(ns, n)
	}
	for range 12 {
		ns = append(ns, 300+r.IntN(3000))
	}
	return append(ns, 32768, 1<<16+5, 1<<17+1)
}

// guarded returns slices of n words and n·size bytes, out of line with vectors and inside of larger ones, and a function that reports whether
// what is around them is as it was.
type guard struct {
	words [][]uint64
	parts [][]byte
}

const canary = 0xa5

func (g *guard) uint64s(r *rand.Rand, n int) []uint64 {
	at := r.IntN(4)
	w := make([]uint64, n+12)
	for i := range w {
		w[i] = canary * 0x0101_0101_0101_0101
	}
	g.words = append(g.words, w[:at], w[at+n:])
	return w[at : at+n]
}

func (g *guard) bytes(r *rand.Rand, n int) []byte {
	at := r.IntN(32)
	p := bytes.Repeat([]byte{canary}, n+96)
	g.parts = append(g.parts, p[:at], p[at+n:])
	return p[at : at+n]
}

func (g *guard) intact() bool {
	for _, w := range g.words {
		for _, x := range w {
			if x != canary*0x0101_0101_0101_0101 {
				return false
			}
		}
	}
	for _, p := range g.parts {
		for _, b := range p {
			if b != canary {
				return false
			}
		}
	}
	return true
}

// sums fills accumulators with values of all magnitudes, many at the edges of a word.
func sums(r *rand.Rand, lo, hi []uint64) {
	for i := range lo {
		lo[i], hi[i] = r.Uint64(), uint64(int64(r.Uint64())>>(1+r.IntN(64)))
		switch r.IntN(8) {
		case 0:
			lo[i] = 0
		case 1:
			lo[i] = math.MaxUint64 - r.Uint64N(3)
		case 2:
			lo[i] = 1<<63 - 1 + r.Uint64N(3)
		case 3:
			lo[i] >>= r.IntN(64)
			hi[i] = 0
		case 4: // small and negative
			lo[i] = -(r.Uint64() >> r.IntN(64))
			hi[i] = math.MaxUint64
		case 5:
			lo[i], hi[i] = 0, 0
		}
	}
}

func TestVectorFold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		size, mantissa int
		scales         []int
		limit          func(scale int) uint64
		fold, want     func(lo, hi []uint64, p []byte, w int64, t *kernel.Table)
	}{
		{"f32", 4, 23, []int{0, 3, 104}, func(s int) uint64 { return uint64(min(f32Limit+s<<23, 0x7f800000)) }, kernel.FoldF32, kernel.GoFoldF32},
		{"bf16", 2, 7, []int{0, 3, 104}, func(s int) uint64 { return uint64(min(bf16Limit+s<<7, 0x7f80)) }, kernel.FoldBF16, kernel.GoFoldBF16},
		{
			"f16", 2, 10,
			[]int{0},
			func(int) uint64 { return f16Limit },
			func(lo, hi []uint64, p []byte, w int64, _ *kernel.Table) { kernel.FoldF16(lo, hi, p, w) },
			func(lo, hi []uint64, p []byte, w int64, _ *kernel.Table) { kernel.GoFoldF16(lo, hi, p, w) },
		},
	} {
		for _, scale := range c.scales {
			r := rand.New(rand.NewPCG(21, uint64(scale)))
			table := kernel.NewTable(scale)
			for _, n := range lengths(r) {
				var g guard
				lo, hi, p := g.uint64s(r, n), g.uint64s(r, n), g.bytes(r, c.size*n)
				sums(r, lo, hi)
				wlo, whi := slices.Clone(lo), slices.Clone(hi)
				for range 1 + r.IntN(3) {
					for i := range n {
						put(p, i, c.size, floatBits(r, c.size, c.mantissa, c.limit(scale)))
					}
					w := weight(r)
					for _, w := range []int64{w, -w}[r.IntN(2):] { // some cancel
						c.fold(lo, hi, p, w, table)
						c.want(wlo, whi, p, w, table)
						for i := range n {
							if lo[i] != wlo[i] || hi[i] != whi[i] {
								t.Fatalf("%s, scale %d: element %d of %d, bits %x, weight %d: got %x:%x, want %x:%x", c.name, scale, i, n, get(p, i, c.size), w, hi[i], lo[i], whi[i], wlo[i])
							}
						}
					}
				}
				if !g.intact() {
					t.Fatalf("%s: %d elements: wrote outside", c.name, n)
				}
			}
		}
	}
}

// TestVectorFoldHalves goes through all values of 16 bits, for weights around each power of two.
func TestVectorFoldHalves(t *testing.T) {
	t.Parallel()
	table := kernel.NewTable(0)
	var f16, bf16 []byte
	for b := range 1 << 16 {
		if b&0x7fff < f16Limit {
			f16 = append(f16, byte(b), byte(b>>8))
		}
		if b&0x7fff < bf16Limit {
			bf16 = append(bf16, byte(b), byte(b>>8))
		}
	}
	lo, hi := make([]uint64, 1<<16), make([]uint64, 1<<16)
	wlo, whi := slices.Clone(lo), slices.Clone(hi)
	for shift := range 38 {
		for _, w := range []int64{1<<shift - 1, 1 << shift, 1<<(shift+1) - 1, -(1<<(shift+1) - 1)} {
			n := len(f16) / 2
			kernel.FoldF16(lo[:n], hi[:n], f16, w)
			kernel.GoFoldF16(wlo[:n], whi[:n], f16, w)
			n = len(bf16) / 2
			kernel.FoldBF16(lo[:n], hi[:n], bf16, w, table)
			kernel.GoFoldBF16(wlo[:n], whi[:n], bf16, w, table)
			if !slices.Equal(lo, wlo) || !slices.Equal(hi, whi) {
				t.Fatalf("weight %d: sums differ", w)
			}
		}
	}
}

func TestVectorMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(22, 22))
	for _, n := range lengths(r) {
		var g guard
		lo, hi, xlo, xhi := g.uint64s(r, n), g.uint64s(r, n), g.uint64s(r, n), g.uint64s(r, n)
		sums(r, lo, hi)
		sums(r, xlo, xhi)
		for i := range n {
			if r.IntN(4) == 0 { // adds up to nothing, or to all ones
				xlo[i] = -lo[i] - r.Uint64N(2)
			}
		}
		wlo, whi := slices.Clone(lo), slices.Clone(hi)
		kernel.Merge(lo, hi, xlo, xhi)
		kernel.GoMerge(wlo, whi, xlo, xhi)
		if !slices.Equal(lo, wlo) || !slices.Equal(hi, whi) || !g.intact() {
			t.Fatalf("%d elements differ, or something around them", n)
		}
	}
}

func TestVectorCheck(t *testing.T) {
	r := rand.New(rand.NewPCG(23, 23))
	for _, n := range lengths(r) {
		var g guard
		p := g.bytes(r, n)
		for i := range p {
			p[i] = byte(r.Uint32()) & 0x3f
		}
		for range 4 {
			if n > 0 {
				p[r.IntN(n)] = byte(r.Uint32())
			}
			for _, size := range []int{2, 4, 8} {
				if got, want := kernel.Largest(p, size), kernel.GoLargest(p, size); got != want {
					t.Fatalf("largest of %d bytes by %d is %x, got %x", n, size, want, got)
				}
			}
			for range 4 {
				if l := 1 + uint16(r.UintN(1<<15-1)); kernel.Check16(p, l) != kernel.GoCheck16(p, l) {
					t.Fatalf("check of %d bytes for %x: got %d, want %d", n, l, kernel.Check16(p, l), kernel.GoCheck16(p, l))
				}
				if l := 1 + uint32(r.UintN(1<<31-1)); kernel.Check32(p, l) != kernel.GoCheck32(p, l) {
					t.Fatalf("check of %d bytes for %x: got %d, want %d", n, l, kernel.Check32(p, l), kernel.GoCheck32(p, l))
				}
			}
		}
		if !g.intact() {
			t.Fatal("wrote outside")
		}
	}
}

// nearTies makes sums whose quotients are half way between two floats with a mantissa of the given bits, or next to it.
func nearTies(r *rand.Rand, lo, hi []uint64, total uint64, mantissa int) {
	for i := range lo {
		if r.IntN(2) == 0 {
			continue
		}
		m := 1<<(mantissa+1) | r.Uint64N(1<<(mantissa+1)) | 1 // one bit more than are kept
		z := new(big.Int).Mul(new(big.Int).SetUint64(m), new(big.Int).SetUint64(total))
		z.Lsh(z, uint(r.IntN(max(1, 125-z.BitLen()))))
		switch r.IntN(4) {
		case 0:
			z.Add(z, big.NewInt(1))
		case 1:
			z.Sub(z, big.NewInt(1))
		case 2:
			d := new(big.Int).Rsh(z, uint(r.IntN(60)))
			z.Add(z, d)
		}
		if r.IntN(2) == 0 {
			z.Neg(z)
		}
		set(lo, hi, i, z)
	}
}

func TestVectorFinal(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name           string
		size, mantissa int
		final, want    func(dst []byte, lo, hi []uint64, d kernel.Divisor, scale int) kernel.Saturated
	}{
		{
			"f32", 4, 23,
			func(dst []byte, lo, hi []uint64, d kernel.Divisor, s int) kernel.Saturated {
				return kernel.FinalF32(dst, lo, hi, d, s, uint32(min(f32Limit+s<<23, 0x7f800000)))
			},
			func(dst []byte, lo, hi []uint64, d kernel.Divisor, s int) kernel.Saturated {
				return kernel.GoFinalF32(dst, lo, hi, d, s, uint32(min(f32Limit+s<<23, 0x7f800000)))
			},
		},
		{
			"bf16", 2, 7,
			func(dst []byte, lo, hi []uint64, d kernel.Divisor, s int) kernel.Saturated {
				return kernel.FinalBF16(dst, lo, hi, d, s, uint16(min(bf16Limit+s<<7, 0x7f80)))
			},
			func(dst []byte, lo, hi []uint64, d kernel.Divisor, s int) kernel.Saturated {
				return kernel.GoFinalBF16(dst, lo, hi, d, s, uint16(min(bf16Limit+s<<7, 0x7f80)))
			},
		},
	} {
		r := rand.New(rand.NewPCG(24, 24))
		for round, n := range lengths(r) {
			var g guard
			lo, hi, dst := g.uint64s(r, n), g.uint64s(r, n), g.bytes(r, c.size*n)
			sums(r, lo, hi)
			w := total(r)
			nearTies(r, lo, hi, w, c.mantissa)
			d, scale, want := kernel.NewDivisor(w), []int{0, 5, 104}[round%3], make([]byte, len(dst))
			got := c.final(dst, lo, hi, d, scale)
			if s := c.want(want, lo, hi, d, scale); got != s {
				t.Fatalf("%s: %d elements: %+v, want %+v", c.name, n, got, s)
			}
			for i := range n {
				if get(dst, i, c.size) != get(want, i, c.size) {
					t.Fatalf("%s, scale %d: element %d of %d, %x:%x / %d: got %x, want %x", c.name, scale, i, n, hi[i], lo[i], w, get(dst, i, c.size), get(want, i, c.size))
				}
			}
			if !g.intact() {
				t.Fatalf("%s: %d elements: wrote outside", c.name, n)
			}
		}
	}
}
