package aggregate

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
	"github.com/fedmesh/fedmesh/model"
)

// summed is what the strategies that work from sums have in common: what an update contributes to the sum.
type summed struct {
	info  Info
	stale staleness
	clip  clipping
	noise noise
}

func summedParams() []Param { return slices.Concat(stalenessParams(), clipParams(), noiseParams()) }

func newSummed(info Info, a args) (summed, error) {
	stale, err := newStaleness(a)
	if err != nil {
		return summed{}, err
	}
	s := summed{
		info: info, stale: stale, clip: clipping{norm: a.numbers["clip_norm"]},
		noise: noise{multiplier: a.numbers["dp_noise_multiplier"]},
	}
	if s.noise.multiplier > 0 && s.clip.norm == 0 {
		return s, fmt.Errorf("aggregate: dp_noise_multiplier without clip_norm, which says how much noise that is: %w", ErrStrategy)
	}
	return s, nil
}

func (s summed) Info() Info { return s.info }

func (s summed) Limits() Limits {
	if s.noise.multiplier > 0 {
		return Limits{Combiners: 1, Weight: MaxTotalWeight, Secret: true}
	}
	return Limits{Combiners: 1, Weight: MaxTotalWeight / s.stale.unit()}
}

func (s summed) Plain() bool { return s.stale.den == 0 && s.clip.norm == 0 }

// NoiseMultiplier implements [Private].
func (s summed) NoiseMultiplier() float64 { return s.noise.multiplier }

// examples is the weight of an update before staleness.
func (s summed) examples(u Update) int64 {
	if s.noise.multiplier > 0 {
		return 1
	}
	return u.Weight
}

func (s summed) Terms(ctx context.Context, r Round, updates []Update) ([]Term, error) {
	weights, err := s.stale.weights(r, updates, s.examples)
	if err != nil {
		return nil, err
	}
	clip := s.clip
	if s.noise.multiplier > 0 {
		clip.grid = s.noise.grid(r.Spec, s.clip.norm, s.stale.unit())
	}
	terms := make([]Term, len(updates))
	bases := map[model.Digest]io.ReaderAt{}
	for i, u := range updates {
		if u.Source == nil {
			return nil, fmt.Errorf("aggregate: update %d: %w", i, ErrSource)
		}
		terms[i] = Term{Source: u.Source, Weight: weights[i]}
		if s.clip.norm > 0 {
			if bases[u.Base] == nil {
				if bases[u.Base], err = r.base(u.Base); err != nil {
					return nil, err
				}
			}
			if terms[i].Source, err = clip.step(ctx, r.Spec, u, bases[u.Base]); err != nil {
				return nil, fmt.Errorf("update %d: %w", i, err)
			}
		}
	}
	return terms, nil
}

// ingredients are a round's sum: that of the terms, of the sums that stand for the updates without a source, over total.
type ingredients struct {
	terms []Term
	total int64
	away  bool       // some updates are only in sums
	noise *noisePlan // nil: none
}

// gather prepares the sum whose quotient is the mean of the models; with delta that is, in float tensors, what the mean differs
// from the previous model by.
func (s summed) gather(ctx context.Context, r Round, delta bool) (in ingredients, err error) {
	if len(r.Updates) == 0 {
		return in, fmt.Errorf("aggregate: no updates: %w", ErrRound)
	}
	weights, err := s.stale.weights(r, r.Updates, s.examples)
	if err != nil {
		return in, err
	}
	var own []Update
	for i, u := range r.Updates {
		if in.total += weights[i]; in.total > MaxTotalWeight {
			return in, fmt.Errorf("aggregate: weights of %d updates add up to more than %d: %w: %w", len(r.Updates), s.Limits().Weight, ErrWeight, ErrRound)
		}
		if u.Source != nil {
			own = append(own, u)
		}
	}
	if s.noise.multiplier > 0 {
		if in.noise, err = s.noise.plan(r, s.clip.norm, s.stale.unit()); err != nil {
			return in, err
		}
	}
	in.away = len(own) < len(r.Updates)
	if in.terms, err = s.Terms(ctx, r, own); err != nil {
		return in, err
	}
	more, err := s.corrections(r, weights, in.total, delta)
	in.terms = append(in.terms, more...)
	return in, err
}

// corrections returns the terms that make steps of updates, and models of steps. They depend on weights and bases alone, so a peer
// makes them without having the updates. The float tensors are corrected by
//
//	Σ_b W_b·(x_{r-1} - M_b)    for the sum of updates: b goes through the models other than x_{r-1} that some were trained from
//	Σ w·x_{r-1}                for the sum of clipped steps
//
// with Σ w·x_{r-1} less for a delta; the integer and bool tensors always as the first, but with noise they are x_{r-1} alone.
func (s summed) corrections(r Round, weights []int64, total int64, delta bool) ([]Term, error) {
	stale := map[model.Digest]int64{}
	var moved int64
	for i, u := range r.Updates {
		if u.Base != r.Prev.Digest {
			stale[u.Base] += weights[i]
			moved += weights[i]
		}
	}
	private := s.noise.multiplier > 0
	floats, others := moved, moved
	if private {
		others = total
	}
	if s.clip.norm > 0 {
		floats = total
	}
	if delta {
		floats -= total
	}
	var terms []Term
	add := func(source io.ReaderAt, weight int64) {
		if source != nil && weight != 0 {
			terms = append(terms, Term{Source: source, Weight: weight})
		}
	}
	if floats != 0 || others != 0 {
		if r.Prev.Source == nil {
			return nil, fmt.Errorf("aggregate: the previous model %s is needed: %w", r.Prev.Digest.Short(), ErrSource)
		}
		if floats == others {
			add(r.Prev.Source, others)
		} else {
			add(r.Spec.only(true, r.Prev.Source), floats)
			add(r.Spec.only(false, r.Prev.Source), others)
		}
	}
	if private {
		return terms, nil
	}
	inOrder := func(a, b model.Digest) int { return bytes.Compare(a[:], b[:]) }
	for _, b := range slices.SortedFunc(maps.Keys(stale), inOrder) {
		source, err := r.base(b)
		if err != nil {
			return nil, err
		}
		if s.clip.norm > 0 {
			source = r.Spec.only(false, source)
		}
		add(source, -stale[b])
	}
	return terms, nil
}

// base finds a model that updates were trained from.
func (r Round) base(d model.Digest) (io.ReaderAt, error) {
	switch {
	case d == r.Prev.Digest && r.Prev.Source != nil:
		return r.Prev.Source, nil
	case r.Base == nil:
		return nil, fmt.Errorf("aggregate: base model %s is needed: %w", d.Short(), ErrSource)
	}
	source, err := r.Base(d)
	if err != nil {
		return nil, fmt.Errorf("aggregate: base model %s: %w", d.Short(), err)
	}
	return source, nil
}

// check refuses sums that do not go with the updates.
func (in *ingredients) check(sums []io.Reader) error {
	if in.away && len(sums) == 0 {
		return fmt.Errorf("aggregate: updates without a source, and no sums that hold them: %w", ErrSource)
	}
	if !in.away && len(sums) > 0 {
		return fmt.Errorf("aggregate: %d sums of updates that have sources too: %w", len(sums), ErrSource)
	}
	return nil
}

// each computes the sums of a range, with noise, and calls finish with each span and the bytes to write.
func (in *ingredients) each(ctx context.Context, s *Spec, ws *Workspace, from, to int64, sums []io.Reader, out io.Writer,
	finish func(span Span, acc Acc, d kernel.Divisor, dst []byte) error,
) error {
	if err := in.check(sums); err != nil {
		return err
	}
	if err := checkTerms(in.terms, 3*MaxTotalWeight); err != nil {
		return err
	}
	ws = ws.orNew()
	d := kernel.NewDivisor(uint64(in.total))
	var noise *noiser
	if in.noise != nil {
		noise = in.noise.begin()
	}
	return s.sum(ctx, ws, from, to, in.terms, sums, func(spans []Span) error {
		dst := ws.bytes(s.bytesOf(spans))
		acc, rest := ws.acc, dst
		for _, span := range spans {
			size := span.Count * s.numbers[span.Tensor].dtype.Size()
			part := Acc{lo: acc.lo[:span.Count], hi: acc.hi[:span.Count]}
			if noise != nil {
				noise.add(span, part)
			}
			if err := finish(span, part, d, rest[:size]); err != nil {
				return err
			}
			rest, acc.lo, acc.hi = rest[size:], acc.lo[span.Count:], acc.hi[span.Count:]
		}
		return write(out, dst)
	})
}

// averaging is a strategy whose model is the mean.
type averaging struct{ summed }

func (s averaging) Plan(ctx context.Context, r Round) (Plan, error) {
	in, err := s.gather(ctx, r, false)
	if err != nil {
		return nil, err
	}
	return &meanPlan{ingredients: in, spec: r.Spec}, nil
}

// meanPlan computes the mean.
type meanPlan struct {
	ingredients
	spec *Spec
}

func (p *meanPlan) Range(ctx context.Context, ws *Workspace, from, to int64, sums []io.Reader, out Output) (Events, error) {
	if err := p.check(sums); err != nil {
		return Events{}, err
	}
	if p.noise == nil {
		return p.spec.Mean(ctx, ws, from, to, p.terms, sums, p.total, out.Model)
	}
	var events Events
	err := p.each(ctx, p.spec, ws, from, to, sums, out.Model, func(span Span, acc Acc, d kernel.Divisor, dst []byte) error {
		events.Merge(p.spec.events(p.spec.numbers[span.Tensor].final(dst, acc.lo, acc.hi, uint64(p.total), d), span))
		return nil
	})
	return events, err
}
