package aggregate

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/fedmesh/fedmesh/model"
)

// PlanRound is [Strategy.Plan] for rounds that must have a model. Where the strategy has none, with an [ErrRound], the plan keeps
// the previous model, and the previous state or a state of zeros, which is that before the first round; [Events] say why. As that follows from the round's
// facts, all peers do the same. The round's updates are used up. All other errors are this peer's own: what was not here may be here
// when it tries again.
func PlanRound(ctx context.Context, s Strategy, r Round) (Plan, error) {
	plan, err := s.Plan(ctx, r)
	if err == nil || !errors.Is(err, ErrRound) {
		return plan, err
	}
	if r.Prev.Source == nil {
		return nil, fmt.Errorf("aggregate: the round keeps its previous model %s, which is needed: %w", r.Prev.Digest.Short(), ErrSource)
	}
	keep := &keepPlan{spec: r.Spec, prev: r.Prev.Source, why: err.Error()}
	if stateful, ok := s.(Stateful); ok {
		if keep.layout, err = stateful.StateLayout(r.Spec); err != nil {
			return nil, err
		}
		keep.state = r.State.Source
	}
	return keep, nil
}

// keepPlan copies the previous model and state.
type keepPlan struct {
	spec   *Spec
	prev   io.ReaderAt
	why    string
	layout *model.Layout // of the state; nil for none
	state  io.ReaderAt   // nil for zeros
}

func (p *keepPlan) Range(ctx context.Context, ws *Workspace, from, to int64, _ []io.Reader, out Output) (Events, error) {
	if err := p.spec.checkRange(from, to); err != nil {
		return Events{}, err
	}
	ws = ws.orNew()
	for span := range p.spec.Blocks(from, to) {
		if err := ctx.Err(); err != nil {
			return Events{}, fmt.Errorf("aggregate: %w", err)
		}
		b := ws.bytes(span.Count * p.spec.numbers[span.Tensor].dtype.Size())
		if err := readAt(p.prev, b, span.Offset); err != nil {
			return Events{}, fmt.Errorf("aggregate: previous model: %w", err)
		}
		if err := write(out.Model, b); err != nil {
			return Events{}, err
		}
	}
	if p.layout != nil && p.spec.leads(from, to) {
		if err := p.copyState(ctx, ws, out.State); err != nil {
			return Events{}, err
		}
	}
	return Events{Kept: p.why}, nil
}

// copyState writes the whole state.
func (p *keepPlan) copyState(ctx context.Context, ws *Workspace, out io.WriterAt) error {
	const most = 256 << 10
	for at := int64(len(p.layout.Header())); at < p.layout.Size(); at += most {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("aggregate: %w", err)
		}
		b := ws.bytes(min(most, p.layout.Size()-at))
		clear(b)
		if p.state != nil {
			if err := readAt(p.state, b, at); err != nil {
				return fmt.Errorf("aggregate: server state: %w", err)
			}
		}
		if _, err := out.WriteAt(b, at); err != nil {
			return fmt.Errorf("aggregate: write server state: %w", err)
		}
	}
	return nil
}

// leads reports whether of all ranges that the elements are divided into this is the one that what belongs to none of the elements
// goes with.
func (s *Spec) leads(from, to int64) bool { return from == 0 && (to > 0 || s.Elements() == 0) }
