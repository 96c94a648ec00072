package aggregate

import (
	"context"
	"errors"
	"io"

	"github.com/fedmesh/fedmesh/model"
)

// Errors of strategies wrap one of these.
var (
	// ErrStrategy: no such strategy, or parameters that it does not take.
	ErrStrategy = errors.New("unknown strategy or parameter")
	// ErrSession: a session in which the strategy can never compute a round.
	ErrSession = errors.New("session does not fit the strategy")
	// ErrRound: the strategy has no model for this round. It follows from the round's facts alone, so every peer finds the same;
	// trying again does not help. See [PlanRound].
	ErrRound = errors.New("round cannot be computed")
	// ErrSecret: the strategy needs the mesh's secret and was not given it.
	ErrSecret = errors.New("no mesh secret")
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
	// Base is the model that it was trained from, and BaseRound the round that model came out of.
	Base      model.Digest
	BaseRound uint64
	// Name is the combiner that pushed it: one name, one voice in the strategies that compare updates.
	Name string
	// Source is the canonical file, as in [Term]; nil when a sum that [Plan.Range] is given holds the update.
	Source io.ReaderAt
}

// Round is all that the model of a round depends on.
type Round struct {
	Spec *Spec
	// Number is the round's number: its model is that of round Number, and Prev that of round Number-1.
	Number uint64
	// Inputs names everything that the round depends on. Two versions of a round have different ones.
	Inputs model.Digest
	// Prev is the model of the round before.
	Prev Model
	// State is the server state that a [Stateful] strategy left with Prev; a nil Source says that there is none yet.
	State Model
	// Updates are the round's content. Their order may reach results, so it must be the same on all peers.
	Updates []Update
	// Base finds models, other than Prev, that updates were trained from. It may be nil when there are none.
	Base func(model.Digest) (io.ReaderAt, error)
	// Secret is known to the peers of a mesh and to nobody else. Only strategies whose [Limits] ask for it look at it.
	Secret []byte
}

// Strategy turns the updates of a round into the next model. It is immutable, and the same round gives the same bits on every
// peer.
type Strategy interface {
	Info() Info
	// Limits says what a round must be like for the strategy to compute it.
	Limits() Limits
	// Plan checks a round, finds the models it needs, and prepares its computation; some strategies read all updates to do so. Errors that
	// follow from the round's facts wrap [ErrRound]. Others are this peer's own, as [ErrSource], [ErrSecret] or what Round.Base returned,
	// and may pass. Use [PlanRound].
	Plan(ctx context.Context, r Round) (Plan, error)
}

// Summing is a [Strategy] that needs its updates only through Σ weight·source over their terms. So exact sums of disjoint sets of
// updates may stand in their place, whoever computed them.
type Summing interface {
	Strategy
	// Terms returns what the updates, which may be some of a round's or one by one all of them, contribute to the sum:
	// give it to [Spec.Partial]. Nothing in it depends on which other updates the round has. Of the round it uses Spec and, unless the
	// strategy is plain, Number, Prev, Base, and the updates' Base and BaseRound; it may read the updates.
	Terms(ctx context.Context, r Round, updates []Update) ([]Term, error)
	// Plain reports that the terms are the updates themselves with their own weights.
	Plain() bool
}

// Stateful is a [Strategy] with server state: tensors that each round computes, beside the model, from those of the round before.
type Stateful interface {
	Strategy
	// StateLayout returns the layout of the state: a canonical file of its own. It is the same for all rounds of a session.
	StateLayout(s *Spec) (*model.Layout, error)
}

// Output is where a range goes.
type Output struct {
	// Model gets the bytes of [Spec.Section], in order.
	Model io.Writer
	// State gets data of the state at its place in the canonical file, in pieces: each byte after the header exactly once in all ranges
	// of a round together, however the elements are divided into ranges. The header is the caller's to write. Ranges that are computed
	// at the same time may share it if its WriteAt may be called so. It is nil for strategies that are not [Stateful].
	State io.WriterAt
}

// Plan is the computation of one round's model.
type Plan interface {
	// Range computes the elements [from, to) of the model and writes them to out. For a [Summing] strategy the sums, encoded as
	// [Spec.Partial] does, over the same range, hold the terms of exactly those updates whose Source is nil; others take none.
	Range(ctx context.Context, ws *Workspace, from, to int64, sums []io.Reader, out Output) (Events, error)
}
