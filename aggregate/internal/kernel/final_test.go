package kernel_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
)

type finalCase struct {
	name  string
	size  int
	man   int
	scale int
	limit uint64
	// round returns the bits of the magnitude nearest to q; anything ≥ limit when there is none.
	round func(q *big.Rat) uint64
	final func(dst []byte, lo, hi []uint64, d kernel.Divisor) kernel.Saturated
}

func finalCases() []finalCase {
	f32 := func(q *big.Rat) uint64 { f, _ := new(big.Rat).Abs(q).Float32(); return uint64(math.Float32bits(f)) }
	f64 := func(q *big.Rat) uint64 { f, _ := new(big.Rat).Abs(q).Float64(); return math.Float64bits(f) }
	half := func(q *big.Rat) uint64 {
		return uint64(nearest(q, f16Limit, func(b int) *big.Rat { return new(big.Rat).SetFloat64(halfValue(uint64(b))) }))
	}
	bf16 := func(q *big.Rat) uint64 {
		return uint64(nearest(q, 0x7f80, func(b int) *big.Rat {
			if b == 0x7f80 {
				return new(big.Rat).SetFloat64(0x1p128)
			}
			return new(big.Rat).SetFloat64(float64(math.Float32frombits(uint32(b) << 16)))
		}))
	}
	var cs []finalCase
	for _, s := range []int{0, 3, 104} {
		l32, l16, l64 := uint32(min(f32Limit+s<<23, 0x7f800000)), uint16(min(bf16Limit+s<<7, 0x7f80)), uint64(f64Limit+s<<52)
		cs = append(cs,
			finalCase{"f32", 4, 23, s, uint64(l32), f32, func(dst []byte, lo, hi []uint64, d kernel.Divisor) kernel.Saturated {
				return kernel.FinalF32(dst, lo, hi, d, s, l32)
			}},
			finalCase{"bf16", 2, 7, s, uint64(l16), bf16, func(dst []byte, lo, hi []uint64, d kernel.Divisor) kernel.Saturated {
				return kernel.FinalBF16(dst, lo, hi, d, s, l16)
			}},
			finalCase{"f64", 8, 52, s, l64, f64, func(dst []byte, lo, hi []uint64, d kernel.Divisor) kernel.Saturated {
				return kernel.FinalF64(dst, lo, hi, d, s, l64)
			}})
	}
	return append(cs, finalCase{"f16", 2, 10, 0, f16Limit, half, func(dst []byte, lo, hi []uint64, d kernel.Divisor) kernel.Saturated {
		return kernel.FinalF16(dst, lo, hi, d, f16Limit)
	}})
}

// dividend returns a sum that total divides into something adversarial.
func dividend(r *rand.Rand, c finalCase, total uint64) *big.Int {
	bound := new(big.Int).Lsh(big.NewInt(3), 125)
	one := func(k uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), k) }
	z := new(big.Int)
	switch r.IntN(6) {
	case 0: // any magnitude
		z.SetUint64(r.Uint64())
		z.Lsh(z, 64).Add(z, new(big.Int).SetUint64(r.Uint64())).Rsh(z, uint(1+r.IntN(128)))
	case 1: // near a power of two
		z.Add(one(uint(r.IntN(126))), big.NewInt(r.Int64N(5)-2))
	case 2: // tiny
		z.SetInt64(r.Int64N(4))
	default: // a number of the format, or half way to the next one, or one least bit beside
		bits := floatBits(r, c.size, c.man, c.limit) & (1<<(8*c.size-1) - 1)
		m, e := bits&(1<<c.man-1), int(bits>>c.man)
		if e > 0 {
			m |= 1 << c.man
			e--
		}
		emin := map[string]int{"f16": -14, "f64": -1022}[c.name]
		if emin == 0 {
			emin = -126
		}
		z.SetUint64(2*m + r.Uint64N(2))
		z.Mul(z, new(big.Int).SetUint64(total))
		if k := e + emin - c.man - 1 + 63 - c.scale; k >= 0 {
			z.Lsh(z, uint(k))
		} else {
			z.Rsh(z, uint(-k))
		}
		z.Add(z, big.NewInt(r.Int64N(3)-1))
	}
	if z.Cmp(bound) >= 0 {
		z.Rsh(z, uint(z.BitLen()-125))
	}
	if r.IntN(2) == 0 {
		z.Neg(z)
	}
	return z
}

// TestFinalFloat compares with rationals of math/big: a quarter of a million quotients of each of float32 and float64,
// fewer where the oracle is slow.
func TestFinalFloat(t *testing.T) {
	t.Parallel()
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	for _, c := range finalCases() {
		r := rand.New(rand.NewPCG(4, uint64(c.scale)))
		n, saturated := 500, 0
		if c.size == 2 {
			n = 60
		}
		rounds := rounds
		if c.scale > 0 {
			rounds /= 8
		}
		for range rounds {
			total := total(r)
			lo, hi, dst := make([]uint64, n), make([]uint64, n), make([]byte, c.size*n)
			for i := range n {
				set(lo, hi, i, dividend(r, c, total))
			}
			got := c.final(dst, lo, hi, kernel.NewDivisor(total))
			var want kernel.Saturated
			for i := range n {
				z := sum(lo, hi, i)
				b := c.round(quotient(z, total, c.scale))
				if b >= c.limit {
					b = c.limit - 1
					if want.Count++; want.Count == 1 {
						want.First = i
					}
				}
				if b != 0 && z.Sign() < 0 {
					b |= 1 << (8*c.size - 1)
				}
				if x := get(dst, i, c.size); x != b {
					t.Fatalf("%s, scale %d: %v / %d: got %x, want %x", c.name, c.scale, z, total, x, b)
				}
			}
			if got != want {
				t.Fatalf("%s, scale %d: got %+v, want %+v", c.name, c.scale, got, want)
			}
			saturated += want.Count
		}
		if saturated == 0 {
			t.Errorf("%s, scale %d: nothing was out of range: the test is too tame", c.name, c.scale)
		}
	}
}

// TestFinalInt compares with math/big; half of the dividends are ties or beside one.
func TestFinalInt(t *testing.T) {
	t.Parallel()
	for _, k := range ints() {
		r := rand.New(rand.NewPCG(5, uint64(k.Size)))
		smallest := big.NewInt(0)
		largest := new(big.Int).SetUint64(k.Max)
		if k.Signed {
			smallest.Sub(smallest.Neg(largest), big.NewInt(1))
		}
		for range 100 {
			n, total := 200, total(r)
			lo, hi, dst := make([]uint64, n), make([]uint64, n), make([]byte, k.Size*n)
			for i := range n {
				// 2·value ± 1 is half way to the next.
				z := intValue(k, intBits(r, k))
				z.Lsh(z, 1).Add(z, big.NewInt(r.Int64N(5)-2)).Mul(z, new(big.Int).SetUint64(total))
				z.Rsh(z, 1).Add(z, big.NewInt(r.Int64N(3)-1))
				if r.IntN(2) == 0 {
					z.SetInt64(r.Int64()-math.MaxInt64/2).Lsh(z, uint(r.IntN(62)))
				}
				set(lo, hi, i, z)
			}
			got := kernel.FinalInt(dst, lo, hi, total, k)
			var want kernel.Saturated
			for i := range n {
				z := sum(lo, hi, i)
				// floor((2z + total) / 2·total), less one if that was a tie and is odd
				tt := new(big.Int).SetUint64(2 * total)
				q, m := new(big.Int).Lsh(z, 1), new(big.Int)
				q.Add(q, new(big.Int).SetUint64(total)).DivMod(q, tt, m)
				if m.Sign() == 0 && q.Bit(0) == 1 {
					q.Sub(q, big.NewInt(1))
				}
				if q.Cmp(smallest) < 0 || q.Cmp(largest) > 0 {
					if want.Count++; want.Count == 1 {
						want.First = i
					}
					if q.Sign() < 0 {
						q.Set(smallest)
					} else {
						q.Set(largest)
					}
				}
				if x := intValue(k, get(dst, i, k.Size)); x.Cmp(q) != 0 {
					t.Fatalf("%+v: %v / %d: got %v, want %v", k, z, total, x, q)
				}
			}
			if got != want {
				t.Fatalf("%+v: got %+v, want %+v", k, got, want)
			}
		}
	}
}
