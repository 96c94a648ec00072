package gauss

import (
	"math/big"
	"math/bits"
)

// MaxDeviation is the largest standard deviation of a [Sampler].
const MaxDeviation = 1 << 41

// Most is the largest magnitude that a [Sampler] returns, at least 64 standard deviations. It replaces larger ones, which
// come with a probability below 2^-2900.
const Most = 1 << 47

// Sampler draws from the discrete Gaussian distribution.
type Sampler struct {
	sigma uint64
	// 2·σ² as two words
	denHi, denLo uint64
}

// New returns the sampler with standard deviation σ, 1 to [MaxDeviation].
func New(sigma uint64) *Sampler {
	hi, lo := bits.Mul64(2*sigma, sigma)
	return &Sampler{sigma: sigma, denHi: hi, denLo: lo}
}

// Sample draws a number. It is algorithm 3 of the paper with t = σ, which it has as σ + 1: any t gives the distribution, and this one small numbers.
func (g *Sampler) Sample(r *Stream) int64 {
	for {
		// A discrete Laplace number: |y| with probability proportional to exp(-|y|/σ).
		y, negative := g.laplace(r)
		// Accept it with probability exp(-(|y| - σ)²/2σ²).
		d := int64(y - g.sigma)
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

// laplace is algorithm 2 of the paper with scale σ.
func (g *Sampler) laplace(r *Stream) (y uint64, negative bool) {
	for {
		u := r.below(g.sigma)
		if !bernoulliExp1(r, 0, u, 0, g.sigma) {
			continue
		}
		var v uint64
		for v < Most && bernoulliExp1(r, 0, 1, 0, 1) {
			v++
		}
		negative = r.bit()
		hi, lo := bits.Mul64(g.sigma, v)
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
		if !bernoulliExp1(r, 0, 1, 0, 1) {
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
	gamma := float64(float(numHi, numLo)/float(denHi, denLo)) * (1 << 16)
	p := gamma
	for k := uint64(1); ; k++ {
		if !bernoulli(r, p, numHi, numLo, denHi, denLo, k) {
			return k&1 == 1
		}
		p = gamma / float64(k+1)
	}
}

// bernoulli is true with probability num/(den·k), of which p is 2^16 times the value in floating point: it compares a uniform number below 1
// with it, as many digits as are needed. The float decides only where its error cannot matter.
func bernoulli(r *Stream, p float64, numHi, numLo, denHi, denLo, k uint64) bool {
	first := r.uint16()
	switch u := float64(first); {
	case u+1 <= p-0x1p-20: // the number is below (u+1)/2^16
		return true
	case u >= p+0x1p-20:
		return false
	}
	return undecided(r, uint64(first), numHi, numLo, denHi, denLo, k)
}

// undecided is bernoulli where the first digit u of the number does not decide. The two words of num and den are exact.
func undecided(r *Stream, u, numHi, numLo, denHi, denLo, k uint64) bool {
	// num·2^16 - u·den·k, in units of den·k: the digits of p after the first.
	den := word(denHi, denLo)
	den.Mul(den, new(big.Int).SetUint64(k))
	rest := word(numHi, numLo)
	rest.Lsh(rest, 16)
	digit := new(big.Int).SetUint64(u)
	rest.Sub(rest, digit.Mul(digit, den))
	for rest.Sign() >= 0 && rest.Cmp(den) < 0 {
		rest.Lsh(rest, 64)
		digit.SetUint64(r.uint64())
		rest.Sub(rest, digit.Mul(digit, den))
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
