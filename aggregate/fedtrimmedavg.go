package aggregate

import "context"

// trimmed is the coordinate-wise trimmed mean.
type trimmed struct {
	comparing
	beta float64
}

func fedTrimmedAvgInfo() Info {
	return Info{
		Name:    "fedtrimmedavg",
		Summary: "mean of the updates without the largest and smallest, element by element; weights do not count",
		Paper:   "Yin et al., Byzantine-robust distributed learning: towards optimal statistical rates, ICML 2018, option II",
		Params:  []Param{param("beta", "0.2", rule{max: 0.5, below: true}, "share of the updates, rounded down, that is cut off at either end")},
	}
}

func newFedTrimmedAvg(a args) (Strategy, error) {
	return trimmed{comparing{info: fedTrimmedAvgInfo()}, a.numbers["beta"]}, nil
}

func (s trimmed) Plan(_ context.Context, r Round) (Plan, error) {
	cs, err := candidates(r, s.fewest)
	if err != nil {
		return nil, err
	}
	// As β < 1/2, something is left.
	cut := int(s.beta * float64(len(cs)))
	return &orderPlan{spec: r.Spec, sources: sourcesOf(cs), window: always(cut, len(cs)-cut)}, nil
}
