package kernel_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
)

type floatCase struct {
	name           string
	size, mantissa int
	scale          int
	limit          uint64
	value          func(bits uint64) float64
	fold           func(lo, hi []uint64, p []byte, w int64)
}

func floatCases() []floatCase {
	f32 := func(b uint64) float64 { return float64(math.Float32frombits(uint32(b))) }
	bf16 := func(b uint64) float64 { return float64(math.Float32frombits(uint32(b) << 16)) }
	var cs []floatCase
	for _, s := range []int{0, 1, 7, 104} {
		t := kernel.NewTable(s)
		cs = append(cs,
			floatCase{"f32", 4, 23, s, uint64(min(f32Limit+s<<23, 0x7f800000)), f32, func(lo, hi []uint64, p []byte, w int64) { kernel.FoldF32(lo, hi, p, w, t) }},
			floatCase{"bf16", 2, 7, s, uint64(min(bf16Limit+s<<7, 0x7f80)), bf16, func(lo, hi []uint64, p []byte, w int64) { kernel.FoldBF16(lo, hi, p, w, t) }},
			floatCase{"f64", 8, 52, s, uint64(f64Limit + s<<52), math.Float64frombits, func(lo, hi []uint64, p []byte, w int64) { kernel.FoldF64(lo, hi, p, w, s) }})
	}
	return append(cs, floatCase{"f16", 2, 10, 0, f16Limit, halfValue, kernel.FoldF16})
}

// TestFoldFloat compares with math/big, over all lengths to 40 and at random values.
func TestFoldFloat(t *testing.T) {
	t.Parallel()
	for _, c := range floatCases() {
		r := rand.New(rand.NewPCG(1, uint64(c.scale)))
		for round := range 200 {
			n := round % 40
			if round > 190 {
				n = 1000
			}
			w := weight(r)
			lo, hi, p := make([]uint64, n), make([]uint64, n), make([]byte, c.size*n)
			want := make([]*big.Int, n)
			for i := range n {
				b := floatBits(r, c.size, c.mantissa, c.limit)
				put(p, i, c.size, b)
				// What is there before has any value that leaves room.
				want[i] = new(big.Int).Rsh(big.NewInt(r.Int64()-math.MaxInt64/2), 1)
				want[i].Lsh(want[i], uint(r.IntN(64)))
				set(lo, hi, i, want[i])
				want[i].Add(want[i], leastBits(c.value(b), w, c.scale))
			}
			c.fold(lo, hi, p, w)
			for i := range n {
				if got := sum(lo, hi, i); got.Cmp(want[i]) != 0 {
					t.Fatalf("%s, scale %d: element %d of %d: %d × %v (bits %x): got %v, want %v", c.name, c.scale, i, n, w,
						c.value(get(p, i, c.size)), get(p, i, c.size), got, want[i])
				}
			}
		}
	}
}

// TestFoldHalves goes through all values of the two 16-bit formats.
func TestFoldHalves(t *testing.T) {
	t.Parallel()
	for _, c := range floatCases() {
		if c.size != 2 {
			continue
		}
		var p []byte
		for b := range c.limit {
			p = append(p, byte(b), byte(b>>8), byte(b), byte(b>>8)|0x80)
		}
		lo, hi := make([]uint64, len(p)/2), make([]uint64, len(p)/2)
		c.fold(lo, hi, p, -maxWeight)
		for i := range lo {
			if got, want := sum(lo, hi, i), leastBits(c.value(get(p, i, 2)), -maxWeight, c.scale); got.Cmp(want) != 0 {
				t.Fatalf("%s, scale %d: bits %x: got %v, want %v", c.name, c.scale, get(p, i, 2), got, want)
			}
		}
	}
}

// TestFoldRefusedValues shows that what a check would have refused does no harm: nothing is read or written
// beyond, and the same bits come out each time.
func TestFoldRefusedValues(t *testing.T) {
	for _, c := range floatCases() {
		r := rand.New(rand.NewPCG(2, 2))
		p := make([]byte, 8*1024)
		for i := range p {
			p[i] = byte(r.Uint32()) | byte(i&1)*0x7f
		}
		n := len(p) / c.size
		lo, hi := make([]uint64, 2*n), make([]uint64, 2*n)
		c.fold(lo[:n], hi[:n], p, maxWeight)
		c.fold(lo[n:], hi[n:], p, maxWeight)
		for i := range n {
			if lo[i] != lo[n+i] || hi[i] != hi[n+i] {
				t.Fatalf("%s: two folds of one value differ", c.name)
			}
		}
	}
}

func ints() []kernel.Int {
	var ks []kernel.Int
	for _, size := range []int{1, 2, 4, 8} {
		ks = append(ks,
			kernel.Int{Size: size, Signed: true, Max: 1<<(8*size-1) - 1},
			kernel.Int{Size: size, Max: math.MaxUint64 >> (64 - 8*size)})
	}
	return append(ks, kernel.Int{Size: 1, Max: 1}) // bool
}

// intValue returns the value of bits as an element of kind k.
func intValue(k kernel.Int, b uint64) *big.Int {
	z := new(big.Int).SetUint64(b)
	if k.Signed && b > k.Max {
		z.Sub(z, new(big.Int).Lsh(big.NewInt(1), uint(8*k.Size)))
	}
	return z
}

func intBits(r *rand.Rand, k kernel.Int) uint64 {
	mask := uint64(math.MaxUint64) >> (64 - 8*k.Size)
	if k.Max == 1 {
		return r.Uint64N(2)
	}
	switch r.IntN(4) {
	case 0:
		return k.Max
	case 1:
		return (k.Max + 1) & mask // the smallest, of both kinds
	case 2:
		return mask - r.Uint64N(3)
	}
	return r.Uint64() & mask
}

func TestFoldInt(t *testing.T) {
	for _, k := range ints() {
		r := rand.New(rand.NewPCG(3, uint64(k.Size)))
		for n := range 100 {
			w := weight(r)
			lo, hi, p := make([]uint64, n), make([]uint64, n), make([]byte, k.Size*n)
			want := make([]*big.Int, n)
			for i := range n {
				b := intBits(r, k)
				put(p, i, k.Size, b)
				want[i] = big.NewInt(r.Int64() - math.MaxInt64/2)
				set(lo, hi, i, want[i])
				want[i].Add(want[i], new(big.Int).Mul(intValue(k, b), big.NewInt(w)))
			}
			kernel.FoldInt(lo, hi, p, w, k)
			for i := range n {
				if got := sum(lo, hi, i); got.Cmp(want[i]) != 0 {
					t.Fatalf("%+v: element %d of %d: %d × %x: got %v, want %v", k, i, n, w, get(p, i, k.Size), got, want[i])
				}
			}
		}
	}
}
