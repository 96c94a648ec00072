package kernel_test

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"sort"
)

const (
	maxWeight = 1<<38 - 1

	f32Limit  = (127 + 24) << 23
	f16Limit  = 0x7c00
	bf16Limit = (127 + 24) << 7
	f64Limit  = (1023 + 24) << 52
)

// put stores the lowest bytes of x, little-endian, as element i of p.
func put(p []byte, i, size int, x uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], x)
	copy(p[i*size:(i+1)*size], b[:])
}

func get(p []byte, i, size int) uint64 {
	var b [8]byte
	copy(b[:], p[i*size:(i+1)*size])
	return binary.LittleEndian.Uint64(b[:])
}

// halfValue returns the value of float16 bits. All are float64s.
func halfValue(b uint64) float64 {
	m, e := float64(b&0x3ff), int(b>>10&0x1f)
	x := math.Ldexp(m, -24)
	if e > 0 {
		x = math.Ldexp(m+1024, e-25)
	}
	if b>>15 == 1 {
		x = -x
	}
	return x
}

// leastBits returns w·x/2^(-63+scale) truncated toward zero.
func leastBits(x float64, w int64, scale int) *big.Int {
	f := new(big.Float).SetPrec(300).SetFloat64(x)
	f.Mul(f, new(big.Float).SetPrec(300).SetInt64(w))
	f.SetMantExp(f, 63-scale)
	z, _ := f.Int(nil)
	return z
}

// set stores z in the accumulator at i; sum returns it.
func set(lo, hi []uint64, i int, z *big.Int) {
	m := new(big.Int).And(z, new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1)))
	lo[i] = new(big.Int).And(m, new(big.Int).SetUint64(math.MaxUint64)).Uint64()
	hi[i] = m.Rsh(m, 64).Uint64()
}

func sum(lo, hi []uint64, i int) *big.Int {
	z := big.NewInt(int64(hi[i]))
	return z.Lsh(z, 64).Add(z, new(big.Int).SetUint64(lo[i]))
}

// quotient returns z·2^(-63+scale)/total.
func quotient(z *big.Int, total uint64, scale int) *big.Rat {
	den := new(big.Int).SetUint64(total)
	den.Lsh(den, 63)
	return new(big.Rat).SetFrac(new(big.Int).Lsh(z, uint(scale)), den)
}

// nearest returns which of the increasing values of bits 0 to n is nearest to |q|, of two the even
// one. Value n, the first that is out of range, stands for all beyond it.
func nearest(q *big.Rat, n int, value func(bits int) *big.Rat) int {
	q = new(big.Rat).Abs(q)
	i := sort.Search(n+1, func(i int) bool { return value(i).Cmp(q) > 0 }) // value(i-1) ≤ q < value(i)
	if i > n {
		return n
	}
	above := new(big.Rat).Sub(value(i), q)
	below := new(big.Rat).Sub(q, value(i-1))
	switch c := below.Cmp(above); {
	case c < 0 || c == 0 && (i-1)%2 == 0:
		return i - 1
	default:
		return i
	}
}

// weight returns one of many magnitudes and either sign.
func weight(r *rand.Rand) int64 {
	w := 1 + r.Int64N(maxWeight)>>r.IntN(38)
	switch r.IntN(8) {
	case 0:
		w = maxWeight
	case 1:
		w = 1
	}
	if r.IntN(2) == 0 {
		return -w
	}
	return w
}

// total returns one of many magnitudes, powers of two among them.
func total(r *rand.Rand) uint64 {
	t := 1 + r.Uint64N(maxWeight)>>r.IntN(38)
	switch r.IntN(8) {
	case 0:
		return maxWeight
	case 1:
		return 1 << r.IntN(38)
	}
	return t
}

// floatBits returns the bits of a finite float of the given format below the limit, often at an edge.
func floatBits(r *rand.Rand, size, mantissa int, limit uint64) uint64 {
	x := r.Uint64() & (1<<(8*size-1) - 1)
	frac := uint64(1)<<mantissa - 1
	bias := (uint64(1)<<(8*size-1-mantissa) - 1) >> 1
	exponent := func(lo, hi int) uint64 { // one of 2^lo..2^hi, kept in the format
		e := int(bias) + lo + r.IntN(hi-lo+1)
		return uint64(min(max(e, 0), int(2*bias))) << mantissa
	}
	switch r.IntN(10) {
	case 0:
		x = 0
	case 1:
		x &= frac // subnormal
	case 2:
		x = limit - 1 - r.Uint64N(3)
	case 3: // where truncation begins, for float32 and for float64
		x = x&frac | exponent(-42, -38)
	case 4:
		x = x&frac | exponent(-13, -9)
	case 5: // nothing but zeros or ones in the mantissa
		x = exponent(-45, 23) | frac*r.Uint64N(2)
	case 6: // where the last bit of a product vanishes
		x = x&frac | exponent(-104, -80)
	case 7, 8:
		x = x&frac | exponent(-30, 23)
	}
	if x >= limit {
		x = limit - 1
	}
	return x | r.Uint64N(2)<<(8*size-1)
}
