package aggregate

import (
	"fmt"
	"math"
	"math/big"
	"sort"
)

// Weights of a session with a staleness factor have ten fractional bits.
const staleOne = 1 << 10

// staleness gives updates from older models less weight: Xie, Koyejo and Gupta, "Asynchronous federated optimization" (2019), the polynomial
// function, and Nguyen et al., "Federated learning with buffered asynchronous aggregation" (AISTATS 2022), with a = 1/2. The factor of an update that was trained from the model of
// round b and counts in round r is (1 + τ)^-a, where τ = r - 1 - b. It is rounded to the nearest 1/1024, half up, and is
// at least that. A factor of 1 goes with an update from x_{r-1} itself, whatever its number: empty rounds do not age it.
type staleness struct {
	num, den uint64 // of the exponent a; den is 0 when all factors are 1
}

func stalenessParams() []Param {
	return []Param{
		param("staleness", "constant", rule{words: []string{"constant", "polynomial"}},
			"weight of an update from an older model: as any other, or times (1 + rounds it is behind)^-staleness_exponent"),
		param("staleness_exponent", "0.5", rule{max: 8}, "a of the polynomial, at most three decimals"),
	}
}

func newStaleness(a args) (staleness, error) {
	x := a.numbers["staleness_exponent"]
	thousandths := math.Round(x * 1000)
	if thousandths/1000 != x {
		return staleness{}, fmt.Errorf("aggregate: staleness_exponent is %v, want at most three decimals: %w", x, ErrStrategy)
	}
	if a.words["staleness"] != "polynomial" {
		return staleness{}, nil
	}
	num, den := uint64(thousandths), uint64(1000)
	for _, p := range []uint64{2, 2, 2, 5, 5, 5} {
		if num%p == 0 {
			num, den = num/p, den/p
		}
	}
	return staleness{num: num, den: den}, nil
}

// unit is the weight of one example that is not stale.
func (s staleness) unit() int64 {
	if s.den == 0 {
		return 1
	}
	return staleOne
}

// factor returns the weight of one example that is so many rounds behind. It is exact: f is right when
// (f - 1/2)/1024 ≤ (1+τ)^-a, that is (1+τ)^num · (2f-1)^den ≤ 2048^den, and f+1 is not.
func (s staleness) factor(behind uint64) int64 {
	if s.den == 0 {
		return 1
	}
	behind = min(behind, 1<<32)
	den := new(big.Int).SetUint64(s.den)
	power := new(big.Int).Exp(new(big.Int).SetUint64(1+behind), new(big.Int).SetUint64(s.num), nil)
	whole := new(big.Int).Exp(big.NewInt(2*staleOne), den, nil)
	f := sort.Search(staleOne, func(i int) bool { // the first f = i+1 that is too large
		x := new(big.Int).Exp(big.NewInt(int64(2*i+1)), den, nil)
		return x.Mul(x, power).Cmp(whole) > 0
	})
	return max(int64(f), 1)
}

// weights returns the weights of updates in the sum.
func (s staleness) weights(r Round, updates []Update, examples func(Update) int64) ([]int64, error) {
	factors := map[uint64]int64{}
	out := make([]int64, len(updates))
	for i, u := range updates {
		if u.Weight < 1 || u.Weight > MaxTotalWeight {
			return nil, fmt.Errorf("aggregate: update %d: weight %d, want 1 to %d: %w: %w", i, u.Weight, int64(MaxTotalWeight), ErrWeight, ErrRound)
		}
		var behind uint64
		if s.den != 0 && u.Base != r.Prev.Digest {
			if r.Number == 0 {
				return nil, fmt.Errorf("aggregate: the number of the round is needed to tell how stale updates are: %w", ErrSource)
			}
			behind = max(r.Number-1, u.BaseRound) - u.BaseRound
		}
		f := factors[behind]
		if f == 0 {
			f = s.factor(behind)
			factors[behind] = f
		}
		w := examples(u)
		if w > MaxTotalWeight/s.unit() {
			return nil, fmt.Errorf("aggregate: update %d: weight %d, want at most %d where staleness has fractions: %w: %w", i, w, MaxTotalWeight/s.unit(), ErrWeight, ErrRound)
		}
		out[i] = w * f
	}
	return out, nil
}
