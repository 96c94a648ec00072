package aggregate

import "context"

// median is the coordinate-wise median.
type median struct{ comparing }

func fedMedianInfo() Info {
	return Info{
		Name:    "fedmedian",
		Summary: "median of the updates, element by element; weights do not count",
		Paper:   "Yin et al., Byzantine-robust distributed learning: towards optimal statistical rates, ICML 2018, option I",
	}
}

func newFedMedian(args) (Strategy, error) {
	return median{comparing{info: fedMedianInfo()}}, nil
}

func (s median) Plan(_ context.Context, r Round) (Plan, error) {
	cs, err := candidates(r, s.fewest)
	if err != nil {
		return nil, err
	}
	middle := func(_ *number, keys []uint64) (int, int) { return (len(keys) - 1) / 2, len(keys)/2 + 1 }
	return &orderPlan{spec: r.Spec, sources: sourcesOf(cs), choose: middle}, nil
}
