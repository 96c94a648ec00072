package aggregate

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
)

const blanchard = "Blanchard et al., Machine learning with adversaries: Byzantine tolerant gradient descent, NeurIPS 2017"

func maliciousParam() Param {
	return param("num_malicious_clients", "0", count(), "f, the combiners that may be malicious (Flower's serverapp: num_malicious_nodes)")
}

func weightingParam() Param {
	return param("weighting", "uniform", rule{words: []string{"uniform", "examples"}},
		"what a model counts in the mean: the same, as in the paper, or by its number of examples, which a combiner is free to claim, as in Flower")
}

func krumInfo() Info {
	return Info{
		Name:    "krum",
		Summary: "the update that is nearest to its n-f-2 nearest others, n ≥ 2f+3",
		Paper:   blanchard + ", section 4",
		Params: []Param{
			maliciousParam(),
			param("num_clients_to_keep", "0", count(), "m, above 0: the mean of the m nearest, as multikrum; at most n-f"),
			weightingParam(),
		},
	}
}

func multiKrumInfo() Info {
	return Info{
		Name:    "multikrum",
		Summary: "mean of the updates that are nearest to their n-f-2 nearest others, n ≥ 2f+3",
		Paper:   blanchard + ", multi-Krum",
		Params: []Param{
			maliciousParam(),
			param("num_clients_to_keep", "0", count(), "m, how many, at most n-f (Flower's serverapp: num_nodes_to_select, 1); 0: n-f-2"),
			weightingParam(),
		},
	}
}

// krum is Krum and multi-Krum. The score of a candidate is the sum of the squared L2 distances to its n-f-2 nearest others, over all
// float tensors; the candidates with the lowest scores are kept, of equal ones the first. More than n-f are not: some would be malicious for certain.
type krum struct {
	comparing
	malicious int
	keep      int // 0: n-f-2
	examples  bool
}

func newKrum(a args) (Strategy, error) {
	return makeKrum(krumInfo(), a, max(int(a.numbers["num_clients_to_keep"]), 1))
}

func newMultiKrum(a args) (Strategy, error) {
	return makeKrum(multiKrumInfo(), a, int(a.numbers["num_clients_to_keep"]))
}

func makeKrum(info Info, a args, keep int) (Strategy, error) {
	f := int(a.numbers["num_malicious_clients"])
	return krum{comparing{info, max(2*f+3, keep+f)}, f, keep, a.words["weighting"] == "examples"}, nil
}

func (s krum) Plan(ctx context.Context, r Round) (Plan, error) {
	cs, err := candidates(r, s.fewest)
	if err != nil {
		return nil, err
	}
	d, err := r.Spec.distances(ctx, sourcesOf(cs))
	if err != nil {
		return nil, err
	}
	keep := s.keep
	if keep == 0 {
		keep = len(cs) - s.malicious - 2
	}
	all := make([]int, len(cs))
	for i := range all {
		all[i] = i
	}
	return meanOf(r.Spec, cs, lowest(d, all, s.malicious)[:keep], s.examples)
}

// meanOf plans the exact mean of some candidates.
func meanOf(s *Spec, cs []candidate, kept []int, examples bool) (Plan, error) {
	p := &meanPlan{spec: s}
	slices.Sort(kept)
	for _, i := range kept {
		w := int64(1)
		if examples {
			w = cs[i].weight
		}
		if p.total += w; p.total > MaxTotalWeight {
			return nil, fmt.Errorf("aggregate: weights of %d updates add up to more than %d: %w: %w", len(kept), int64(MaxTotalWeight), ErrWeight, ErrRound)
		}
		p.terms = append(p.terms, Term{Source: cs[i].source, Weight: w})
	}
	return p, nil
}

// lowest returns the candidates among some by ascending score.
func lowest(distances [][]float64, among []int, malicious int) []int {
	nearest := max(1, len(among)-malicious-2)
	scores := map[int]float64{}
	for _, i := range among {
		var to []float64
		for _, j := range among {
			if j != i {
				to = append(to, distances[i][j])
			}
		}
		slices.Sort(to)
		var sum float64
		for _, d := range to[:min(nearest, len(to))] {
			sum += d
		}
		scores[i] = sum
	}
	out := slices.Clone(among)
	slices.SortStableFunc(out, func(a, b int) int { return cmp.Compare(scores[a], scores[b]) })
	return out
}

// distances returns the squares of the L2 distances between all models, over their float tensors. It takes 16 KiB of memory for each, and
// eight bytes for each pair.
func (s *Spec) distances(ctx context.Context, sources []io.ReaderAt) ([][]float64, error) {
	n := len(sources)
	out, rows := make([][]float64, n), make([][]float64, n)
	for i := range out {
		out[i], rows[i] = make([]float64, n), make([]float64, piece)
	}
	var raw [8 * piece]byte
	err := s.pieces(ctx, func(span Span) error {
		num := &s.numbers[span.Tensor]
		for i, source := range sources {
			p := raw[:span.Count*num.dtype.Size()]
			if err := readAt(source, p, span.Offset); err != nil {
				return fmt.Errorf("aggregate: candidate %d of %d: %w", i+1, n, err)
			}
			num.load(rows[i][:span.Count], p)
		}
		for i := range out {
			for j := range i {
				out[i][j] += squares(rows[i][:span.Count], rows[j][:span.Count])
			}
		}
		return nil
	})
	for i := range out {
		for j := range i {
			out[j][i] = out[i][j]
		}
	}
	return out, err
}
