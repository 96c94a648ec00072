package aggregate

import (
	"context"
	"slices"
)

// bulyan is Bulyan over Krum: Krum chooses θ = n-2f candidates, one at a time and without those chosen before; then each element is
// the mean of the θ-2f chosen values that are nearest to their median. The last choices are among fewer than the 2f+3 that Krum's proof asks for, down to
// 2f+1: as in the paper, and as in Flower a score then counts one neighbour at least.
type bulyan struct {
	comparing
	malicious int
}

func bulyanInfo() Info {
	return Info{
		Name:    "bulyan",
		Summary: "trimmed mean around the median of the updates that Krum chooses, n ≥ 4f+3; weights do not count",
		Paper:   "El Mhamdi, Guerraoui and Rouault, The hidden vulnerability of distributed learning in Byzantium, ICML 2018, Bulyan of Krum",
		Params:  []Param{maliciousParam()},
	}
}

func newBulyan(a args) (Strategy, error) {
	f := int(a.numbers["num_malicious_clients"])
	return bulyan{comparing{bulyanInfo(), 4*f + 3}, f}, nil
}

func (s bulyan) Plan(ctx context.Context, r Round) (Plan, error) {
	cs, err := candidates(r, s.fewest)
	if err != nil {
		return nil, err
	}
	sources := sourcesOf(cs)
	d, err := r.Spec.distances(ctx, sources)
	if err != nil {
		return nil, err
	}
	left := make([]int, len(cs))
	for i := range left {
		left[i] = i
	}
	p := &orderPlan{spec: r.Spec}
	for range len(cs) - 2*s.malicious {
		best := lowest(d, left, s.malicious)[0]
		p.sources = append(p.sources, sources[best])
		left = slices.DeleteFunc(left, func(i int) bool { return i == best })
	}
	beta := len(p.sources) - 2*s.malicious
	p.window = nearest(beta)
	return p, nil
}
