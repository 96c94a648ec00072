package aggregate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

// fedAvg is federated averaging: McMahan et al., "Communication-efficient learning of deep networks from
// decentralized data" (AISTATS 2017), algorithm 1, with steps from older models.
//
// An update x_c of weight w, trained from the model M, stands for the step x_c - M. The next model is the previous one and
// the weighted mean of the steps:
//
//	x_r = x_{r-1} + Σ w·(x_c - M) / Σ w = ( Σ w·x_c + Σ_b W_b·(x_{r-1} - M_b) ) / Σ w
//
// where b goes through the models other than x_{r-1} that updates were trained from, and W_b is the weight of those. It is exact
// up to the one division, and when all were trained from x_{r-1} it is the weighted mean of the updates.
type fedAvg struct{}

func fedAvgInfo() Info {
	return Info{
		Name:    "fedavg",
		Summary: "weighted mean of the updates; stale ones count as steps from their own base",
		Paper:   "McMahan et al., Communication-efficient learning of deep networks from decentralized data, AISTATS 2017",
	}
}

func newFedAvg(args) (Strategy, error) { return fedAvg{}, nil }

var _ Summing = fedAvg{}

func (fedAvg) Info() Info { return fedAvgInfo() }

func (fedAvg) Limits() Limits { return Limits{Combiners: 1, Weight: MaxTotalWeight} }

func (fedAvg) Plain() bool { return true }

func (fedAvg) Terms(_ context.Context, _ Round, updates []Update) ([]Term, error) {
	terms := make([]Term, len(updates))
	for i, u := range updates {
		if u.Source == nil {
			return nil, fmt.Errorf("aggregate: update %d: %w", i, ErrSource)
		}
		terms[i] = Term{Source: u.Source, Weight: u.Weight}
	}
	return terms, nil
}

func (f fedAvg) Plan(ctx context.Context, r Round) (Plan, error) {
	total, err := totalWeight(r.Updates)
	if err != nil {
		return nil, err
	}
	var own []Update
	for _, u := range r.Updates {
		if u.Source != nil {
			own = append(own, u)
		}
	}
	terms, err := f.Terms(ctx, r, own)
	if err != nil {
		return nil, err
	}
	more, err := corrections(r)
	if err != nil {
		return nil, err
	}
	return &meanPlan{spec: r.Spec, terms: append(terms, more...), total: total, sums: len(own) < len(r.Updates)}, nil
}

// totalWeight returns Σ w of at least one update.
func totalWeight(updates []Update) (int64, error) {
	if len(updates) == 0 {
		return 0, fmt.Errorf("aggregate: no updates: %w", ErrRound)
	}
	var total int64
	for i, u := range updates {
		if u.Weight < 1 || u.Weight > MaxTotalWeight {
			return 0, fmt.Errorf("aggregate: update %d: weight %d, want 1 to %d: %w: %w", i, u.Weight, int64(MaxTotalWeight), ErrWeight, ErrRound)
		}
		if total += u.Weight; total > MaxTotalWeight {
			return 0, fmt.Errorf("aggregate: weights of %d updates add up to more than %d: %w: %w", len(updates), int64(MaxTotalWeight), ErrWeight, ErrRound)
		}
	}
	return total, nil
}

// corrections returns the terms Σ_b W_b·(x_{r-1} - M_b). They depend on weights and bases alone, so a peer makes them without
// having the updates.
func corrections(r Round) ([]Term, error) {
	weights := map[model.Digest]int64{}
	var all int64
	for _, u := range r.Updates {
		if u.Base != r.Prev.Digest {
			weights[u.Base] += u.Weight
			all += u.Weight
		}
	}
	if all == 0 {
		return nil, nil
	}
	if r.Prev.Source == nil || r.Base == nil {
		return nil, fmt.Errorf("aggregate: updates were trained from other models than %s: it and they are needed: %w", r.Prev.Digest.Short(), ErrSource)
	}
	terms := []Term{{Source: r.Prev.Source, Weight: all}}
	inOrder := func(a, b model.Digest) int { return bytes.Compare(a[:], b[:]) }
	for _, b := range slices.SortedFunc(maps.Keys(weights), inOrder) {
		source, err := r.Base(b)
		if err != nil {
			return nil, fmt.Errorf("aggregate: base model %s: %w", b.Short(), err)
		}
		terms = append(terms, Term{Source: source, Weight: -weights[b]})
	}
	return terms, nil
}

// meanPlan computes (Σ terms + sums) / total.
type meanPlan struct {
	spec  *Spec
	terms []Term
	total int64
	sums  bool // some updates are only in sums
}

func (p *meanPlan) Range(ctx context.Context, ws *Workspace, from, to int64, sums []io.Reader, out Output) (Events, error) {
	if p.sums && len(sums) == 0 {
		return Events{}, fmt.Errorf("aggregate: updates without a source, and no sums that hold them: %w", ErrSource)
	}
	if !p.sums && len(sums) > 0 {
		return Events{}, fmt.Errorf("aggregate: %d sums of updates that have sources too: %w", len(sums), ErrSource)
	}
	return p.spec.Mean(ctx, ws, from, to, p.terms, sums, p.total, out.Model)
}
