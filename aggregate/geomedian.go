package aggregate

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
	"github.com/fedmesh/fedmesh/model"
)

// geoMedian is the geometric median, by the smoothed Weiszfeld algorithm: from the mean on,
//
//	β_c = α_c / max(ν, ‖z - y_c‖),  z = Σ β_c·y_c / Σ β_c
//
// a fixed number of times, with the norm over all float tensors. The iterates are not kept: z is the exact mean of the candidates with the
// weights β_c / Σ β_c in units of 2^-36, so each iteration streams over the candidates once. Integer and bool
// tensors take the last weights' mean.
type geoMedian struct {
	comparing
	iterations int
	nu         float64
	examples   bool
}

func geoMedianInfo() Info {
	return Info{
		Name:    "geomedian",
		Summary: "geometric median of the updates",
		Paper:   "Pillutla et al., Robust aggregation for federated learning, IEEE Transactions on Signal Processing 70, 2022, the smoothed Weiszfeld algorithm",
		Params: []Param{
			param("iterations", "8", rule{min: 1, max: 1000, integer: true}, "passes of Weiszfeld's algorithm"),
			param("nu", "1e-06", positive(), "distances below it count as it"),
			weightingParam(),
		},
	}
}

func newGeoMedian(a args) (Strategy, error) {
	return geoMedian{comparing{info: geoMedianInfo()}, int(a.numbers["iterations"]), a.numbers["nu"], a.words["weighting"] == "examples"}, nil
}

func (s geoMedian) Plan(ctx context.Context, r Round) (Plan, error) {
	cs, err := candidates(r, s.fewest)
	if err != nil {
		return nil, err
	}
	alpha := make([]float64, len(cs))
	for i, c := range cs {
		alpha[i] = 1
		if s.examples {
			alpha[i] = float64(c.weight)
		}
	}
	p := &meanPlan{spec: r.Spec}
	for _, c := range cs {
		p.terms = append(p.terms, Term{Source: c.source})
	}
	p.total = share36(alpha, p.terms)
	beta := make([]float64, len(cs))
	for range s.iterations {
		squares, err := r.Spec.fromMean(ctx, p.terms, p.total)
		if err != nil {
			return nil, err
		}
		for i, d := range squares {
			beta[i] = alpha[i] / max(s.nu, math.Sqrt(d))
		}
		p.total = share36(beta, p.terms)
	}
	return p, nil
}

// share36 sets the terms' weights to what each β is of their sum, in units of 2^-36, and returns their sum. At least one is not zero.
func share36(beta []float64, terms []Term) (total int64) {
	sorted := slices.Sorted(slices.Values(beta))
	var sum float64
	for _, b := range sorted {
		sum += b
	}
	for i, b := range beta {
		terms[i].Weight = int64(math.RoundToEven(b / sum * (1 << 36)))
		total += terms[i].Weight
	}
	return total
}

// fromMean returns the squares of the L2 distances of the terms' models from their weighted mean, over the float tensors.
func (s *Spec) fromMean(ctx context.Context, terms []Term, total int64) ([]float64, error) {
	out, rows := make([]float64, len(terms)), make([][]float64, len(terms))
	for i := range rows {
		rows[i] = make([]float64, piece)
	}
	var acc Acc
	var raw, quotient [8 * piece]byte
	var mean [piece]float64
	f64 := number{dtype: model.F64}
	d := kernel.NewDivisor(uint64(total))
	err := s.pieces(ctx, func(span Span) error {
		n := &s.numbers[span.Tensor]
		acc.Reset(int(span.Count))
		for i, t := range terms {
			p := raw[:span.Count*n.dtype.Size()]
			if err := readAt(t.Source, p, span.Offset); err != nil {
				return fmt.Errorf("aggregate: candidate %d of %d: %w", i+1, len(terms), err)
			}
			n.load(rows[i][:span.Count], p)
			if t.Weight != 0 {
				n.fold(acc.lo, acc.hi, p, t.Weight)
			}
		}
		kernel.FinalF64(quotient[:8*span.Count], acc.lo, acc.hi, d, n.scale, formatOf(model.F64).inf())
		f64.load(mean[:span.Count], quotient[:])
		for i := range out {
			out[i] += squares(rows[i][:span.Count], mean[:span.Count])
		}
		return nil
	})
	return out, err
}
