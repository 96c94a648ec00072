package aggregate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/fedmesh/fedmesh/model"
)

// Errors of strategies wrap one of these.
var (
	// ErrStrategy: no such strategy, or parameters that it does not take.
	ErrStrategy = errors.New("unknown strategy or parameter")
	// ErrRound: a round that the strategy cannot compute.
	ErrRound = errors.New("round cannot be computed")
)

// Model is a model at rest.
type Model struct {
	Digest model.Digest
	Source io.ReaderAt // the canonical file, as in [Term]
}

// Update is one update of a round.
type Update struct {
	// Weight is from 1 to [MaxTotalWeight].
	Weight int64
	// Base is the model that it was trained from.
	Base model.Digest
	// Source is the canonical file, as in [Term]; nil when a sum that [Plan.Range] is given holds the update.
	Source io.ReaderAt
}

// Round is all that the model of a round depends on.
type Round struct {
	Spec *Spec
	// Prev is the model of the round before.
	Prev Model
	// Updates are the round's content. Their order may reach results, so it must be the same on all peers.
	Updates []Update
	// Base finds models, other than Prev, that updates were trained from. It may be nil when there are none.
	Base func(model.Digest) (io.ReaderAt, error)
}

// Strategy turns the updates of a round into the next model. It is immutable, and the same round gives the same bits on every
// peer.
type Strategy interface {
	Info() Info
	// Plan checks a round, finds the models it needs, and prepares its computation. Its errors wrap [ErrRound],
	// [ErrWeight], [ErrSource], or what Round.Base returned.
	Plan(ctx context.Context, r Round) (Plan, error)
}

// Summing is a [Strategy] that needs its updates only through Σ weight·source over their terms. So exact sums of disjoint sets of
// updates may stand in their place, whoever computed them.
type Summing interface {
	Strategy
	// Terms returns what the updates, which may be some of a round's or one by one all of them, contribute to the sum:
	// give it to [Spec.Partial]. Nothing in it depends on which other updates the round has.
	Terms(r Round, updates []Update) ([]Term, error)
}

// Plan is the computation of one round's model.
type Plan interface {
	// Range writes the bytes of [Spec.Section] for the elements [from, to) of the model to out. For a [Summing] strategy the sums, encoded as
	// [Spec.Partial] does, over the same range, hold the terms of exactly those updates whose Source is nil; others take none.
	Range(ctx context.Context, ws *Workspace, from, to int64, sums []io.Reader, out io.Writer) (Events, error)
}

// Info describes a strategy.
type Info struct {
	Name    string
	Summary string // one line, with the source
	Params  []Param
}

// Param is a parameter of a strategy.
type Param struct {
	Name    string
	Default string
	Summary string // one line: meaning and range
}

// entry is a strategy that can be looked up.
type entry struct {
	info Info
	make func(params map[string]string) (Strategy, error)
}

// entries lists the strategies by name.
func entries() []entry {
	return []entry{
		{fedAvgInfo(), func(map[string]string) (Strategy, error) { return fedAvg{}, nil }},
	}
}

// Strategies describes all strategies, sorted by name.
func Strategies() []Info {
	var infos []Info
	for _, e := range entries() {
		infos = append(infos, e.info)
	}
	return infos
}

// Lookup returns the named strategy with the given parameters, and the default for those that are not given. The error for a name or a
// parameter that does not exist lists those that do and wraps [ErrStrategy].
func Lookup(name string, params map[string]string) (Strategy, error) {
	var names []string
	for _, e := range entries() {
		if e.info.Name == name {
			if err := e.info.checkNames(params); err != nil {
				return nil, err
			}
			return e.make(params)
		}
		names = append(names, e.info.Name)
	}
	return nil, fmt.Errorf("aggregate: strategy %.80q, want %s: %w", name, strings.Join(names, ", "), ErrStrategy)
}

// checkNames refuses parameters that the strategy does not have.
func (i Info) checkNames(params map[string]string) error {
	var known []string
	for _, p := range i.Params {
		known = append(known, p.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if !slices.Contains(known, name) {
			takes := "none"
			if len(known) > 0 {
				takes = strings.Join(known, ", ")
			}
			return fmt.Errorf("aggregate: %s has no parameter %.80q, it takes %s: %w", i.Name, name, takes, ErrStrategy)
		}
	}
	return nil
}
