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
	return &orderPlan{spec: r.Spec, sources: sourcesOf(cs), window: always((len(cs)-1)/2, len(cs)/2+1)}, nil
}
