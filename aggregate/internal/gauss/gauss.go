package gauss

import (
	"math/big"
	"math/bits"
)

// MaxVariance is the largest parameter S of a [Sampler].
const MaxVariance = 1 << 44

// Most is the largest magnitude that a [Sampler] returns, at least 64 standard deviations. It replaces larger ones, which
// come with a probability below 2^-2900.
const Most = 1 << 28

// Sampler draws from the discrete Gaussian distribution.
type Sampler struct {
	s uint64 // the variance parameter
	t uint64 // the scale of the discrete Laplace distribution that is drawn from first
	// 2·S·t² as two words
	denHi, denLo uint64
}

// New returns the sampler with S = variance, 1 to [MaxVariance].
func New(variance uint64) *Sampler {
	t := new(big.Int).Sqrt(new(big.Int).SetUint64(variance)).Uint64() + 1
	hi, lo := bits.Mul64(2*variance, t*t)
	return &Sampler{s: variance, t: t, denHi: hi, denLo: lo}
}

// Sample draws a number.
func (g *Sampler) Sample(r *Stream) int64 {
	for {
		// A discrete Laplace number: |y| with probability proportional to exp(-|y|/t).
		y, negative := g.laplace(r)
		if y > Most {
			y = Most
		}
		// Accept it with probability exp(-(|y| - S/t)²/2S).
		d := int64(y*g.t) - int64(g.s)
		if d < 0 {
			d = -d
		}
		hi, lo := bits.Mul64(uint64(d), uint64(d))
		if !bernoulliExp(r, hi, lo, g.denHi, g.denLo) {
			continue
		}
		if negative {
			return -int64(y)
		}
		return int64(y)
	}
}

// laplace is algorithm 2 of the paper with scale t.
func (g *Sampler) laplace(r *Stream) (y uint64, negative bool) {
	for {
		u := r.below(g.t)
		if !bernoulliExp(r, 0, u, 0, g.t) {
			continue
		}
		var v uint64
		for v < Most && bernoulliExp(r, 0, 1, 0, 1) {
			v++
		}
		negative = r.bit()
		hi, lo := bits.Mul64(g.t, v)
		if y = u + lo; hi != 0 || y > Most {
			y = Most
		}
		if negative && y == 0 {
			continue
		}
		return y, negative
	}
}

// bernoulliExp is algorithm 1 of the paper: true with probability exp(-γ), γ = num/den, given in two words each; den > 0, and both are below 2^120.
func bernoulliExp(r *Stream, numHi, numLo, denHi, denLo uint64) bool {
	// exp(-γ) is that of 1 as often as 1 is in γ, and of the rest.
	for numHi > denHi || numHi == denHi && numLo >= denLo {
		if !bernoulliExp1(r, denHi, denLo, denHi, denLo) {
			return false
		}
		var b uint64
		numLo, b = bits.Sub64(numLo, denLo, 0)
		numHi, _ = bits.Sub64(numHi, denHi, b)
	}
	return bernoulliExp1(r, numHi, numLo, denHi, denLo)
}

// bernoulliExp1 is bernoulliExp for γ ≤ 1.
func bernoulliExp1(r *Stream, numHi, numLo, denHi, denLo uint64) bool {
	// The first k at which a coin of probability γ/k shows tails is odd with probability exp(-γ).
	gamma := float(numHi, numLo) / float(denHi, denLo)
	for k := uint64(1); ; k++ {
		if !bernoulli(r, gamma/float64(k), numHi, numLo, denHi, denLo, k) {
			return k&1 == 1
		}
	}
}

// bernoulli is true with probability num/(den·k), whose value in floating point is p: it compares a uniform number below 1
// with it, as many digits as are needed. The float decides only where its error cannot matter.
func bernoulli(r *Stream, p float64, numHi, numLo, denHi, denLo, k uint64) bool {
	u := float64(r.uint16())
	switch p = float64(p * (1 << 16)); {
	case u+1 <= p-0x1p-20: // the number is below (u+1)/2^16
		return true
	case u >= p+0x1p-20:
		return false
	}
	// num·2^16 - u·den·k, in units of den·k: the digits of p after the first.
	den := word(denHi, denLo)
	den.Mul(den, new(big.Int).SetUint64(k))
	rest := word(numHi, numLo)
	rest.Lsh(rest, 16)
	rest.Sub(rest, new(big.Int).Mul(den, big.NewInt(int64(u))))
	digit := new(big.Int)
	for rest.Sign() >= 0 && rest.Cmp(den) < 0 {
		rest.Lsh(rest, 64)
		x := digit.SetUint64(r.uint64())
		rest.Sub(rest, x.Mul(x, den))
	}
	return rest.Sign() > 0
}

// float returns a number of two words, with a relative error below 2^-51.
func float(hi, lo uint64) float64 { return float64(float64(hi)*(1<<64)) + float64(lo) }

func word(hi, lo uint64) *big.Int {
	x := new(big.Int).SetUint64(hi)
	x.Lsh(x, 64)
	return x.Or(x, new(big.Int).SetUint64(lo))
}
