package ledger

import (
	"strings"

	"github.com/fedmesh/fedmesh/model"
)

// Kind tells the bodies apart; its numbers are part of the format and are never reused.
type Kind uint8

// The kinds of entries.
const (
	KindPeerJoined         Kind = 1
	KindPeerLeft           Kind = 2
	KindPeerForgotten      Kind = 3
	KindForgetAcknowledged Kind = 4
	KindSessionOpened      Kind = 5
	KindSessionClosed      Kind = 6
	KindUpdateHeld         Kind = 7
	KindUpdateDropped      Kind = 8
	KindUpdateLost         Kind = 9
	KindRoundSealed        Kind = 10
	KindRoundsSkipped      Kind = 11
	KindRoundComputed      Kind = 12
)

// Body is what an entry says. The bodies are the exported structs of this file, always used as pointers.
type Body interface {
	// Kind returns the body's number in the format.
	Kind() Kind
	encode(*encoder)
	// needs calls f for every entry that must be held before one with this body is admitted.
	needs(f func(LogID, uint64))
}

// PeerJoined is the first entry of every log, and the word with which a forgotten peer returns.
type PeerJoined struct {
	Name string // human name, unique among the living
	Mesh string // the mesh the peer belongs to
}

// PeerLeft ends a log: it stands for all seals, computations and acknowledgements its peer still owed. Seen is the peer's vector,
// the upto of the latter.
type PeerLeft struct {
	Seen Vector
}

// PeerForgotten proposes to wait no longer for peers that will not return.
type PeerForgotten struct {
	Targets []LogID // ascending
}

// ForgetAcknowledged agrees to a proposal and says how much of each target's log its author holds.
type ForgetAcknowledged struct {
	Proposal Ref
	Upto     Vector
}

// Config is what a session is opened with; it never changes.
type Config struct {
	Strategy        string
	Params          []Param // ascending by name
	TargetCombiners uint32  // distinct combiners that close a round; 0: time alone does
	MinCombiners    uint32  // fewer leave the model as it is
	Copies          uint32  // peers that hold an update before it is acknowledged
	RoundTimeout    Time    // milliseconds
	SettleTimeout   Time
	LostAfter       Time
}

// Param is one named setting of a strategy.
type Param struct {
	Name  string
	Value string
}

// SessionOpened starts a session. Its members' first entries are the cut of round 0.
type SessionOpened struct {
	Session SessionKey
	Name    string
	Config  Config
	Seed    model.Digest // x_0
	Members []LogID      // ascending
}

// SessionClosed asks for the session's last round.
type SessionClosed struct {
	Session SessionKey
}

// UpdateHeld says that its author durably holds an update and the model it was trained from.
type UpdateHeld struct {
	Session   SessionKey
	Combiner  string
	ID        string
	Model     model.Digest
	Bytes     uint64
	Weight    uint64 // number of examples, 1 … 2^38-1
	Base      model.Digest
	BaseRound uint64
	Norm      float64  // L2 norm of the step from the base; 0 where the strategy does not ask for it
	Metrics   []Metric // ascending by name
}

// Metric is a number that a combiner reports with its update; peers average it by weight.
type Metric struct {
	Name  string
	Value float64
}

// Key returns the update's name within its session.
func (u *UpdateHeld) Key() Key { return Key{Combiner: u.Combiner, ID: u.ID} }

// Same reports whether other is the same update: the same bytes and weight from the same base. The round a base is known by
// may differ between two peers that accepted one update, and is no part of what the combiner sent.
func (u *UpdateHeld) Same(other *UpdateHeld) bool {
	return u.Session == other.Session && u.Key() == other.Key() && u.Model == other.Model && u.Weight == other.Weight && u.Base == other.Base
}

// UpdateDropped takes an UpdateHeld of its author back: the bytes are gone.
type UpdateDropped struct {
	Session  SessionKey
	Combiner string
	ID       string
}

// UpdateLost says that nobody delivers an update that a round needs. Inputs are those of the round as its author sees it.
type UpdateLost struct {
	Session  SessionKey
	Combiner string
	ID       string
	Round    uint64
	Inputs   model.Digest
}

// Key returns the update's name within its session.
func (u *UpdateLost) Key() Key { return Key{Combiner: u.Combiner, ID: u.ID} }

// RoundSealed says: my part of the round is everything up to this cut.
type RoundSealed struct {
	Session SessionKey
	Round   uint64
	Cut     Vector
}

// RoundsSkipped stands for its author's seals in rounds From … To, adding nothing to them, and for its computations of
// them. Seen is its author's vector, so that nobody knows of the skipping who does not know of the rounds. Inputs are those of
// the rounds as its author sees them, one for each.
type RoundsSkipped struct {
	Session SessionKey
	From    uint64
	To      uint64
	Seen    Vector
	Inputs  []model.Digest
}

// Result is what a round gives: its model and, where the strategy has server state, the state that the next round starts from.
type Result struct {
	Model model.Digest
	State model.Digest // zero: there is none
}

// RoundComputed says that its author has the result that a round's inputs give. Seen is its author's vector: the round can become
// final by this word only where its author knew all that makes the round.
type RoundComputed struct {
	Session SessionKey
	Round   uint64
	Inputs  model.Digest
	Result
	Most uint64 // the most updates that one combiner has in the round's content
	Seen Vector
}

// Kind implements Body.
func (*PeerJoined) Kind() Kind { return KindPeerJoined }

// Kind implements Body.
func (*PeerLeft) Kind() Kind { return KindPeerLeft }

// Kind implements Body.
func (*PeerForgotten) Kind() Kind { return KindPeerForgotten }

// Kind implements Body.
func (*ForgetAcknowledged) Kind() Kind { return KindForgetAcknowledged }

// Kind implements Body.
func (*SessionOpened) Kind() Kind { return KindSessionOpened }

// Kind implements Body.
func (*SessionClosed) Kind() Kind { return KindSessionClosed }

// Kind implements Body.
func (*UpdateHeld) Kind() Kind { return KindUpdateHeld }

// Kind implements Body.
func (*UpdateDropped) Kind() Kind { return KindUpdateDropped }

// Kind implements Body.
func (*UpdateLost) Kind() Kind { return KindUpdateLost }

// Kind implements Body.
func (*RoundSealed) Kind() Kind { return KindRoundSealed }

// Kind implements Body.
func (*RoundsSkipped) Kind() Kind { return KindRoundsSkipped }

// Kind implements Body.
func (*RoundComputed) Kind() Kind { return KindRoundComputed }

func (*PeerJoined) needs(func(LogID, uint64))    {}
func (*SessionClosed) needs(func(LogID, uint64)) {}
func (*UpdateHeld) needs(func(LogID, uint64))    {}
func (*UpdateDropped) needs(func(LogID, uint64)) {}
func (*UpdateLost) needs(func(LogID, uint64))    {}

func (b *PeerLeft) needs(f func(LogID, uint64)) {
	for log, n := range b.Seen {
		f(log, n)
	}
}

func (b *PeerForgotten) needs(f func(LogID, uint64)) {
	for _, t := range b.Targets {
		f(t, 1)
	}
}

func (b *ForgetAcknowledged) needs(f func(LogID, uint64)) {
	f(b.Proposal.Log, b.Proposal.Seq)
	for log, n := range b.Upto {
		f(log, n)
	}
}

func (b *SessionOpened) needs(f func(LogID, uint64)) {
	for _, m := range b.Members {
		f(m, 1)
	}
}

func (b *RoundSealed) needs(f func(LogID, uint64)) {
	for log, n := range b.Cut {
		f(log, n)
	}
}

func (c *RoundComputed) needs(f func(LogID, uint64)) {
	for log, n := range c.Seen {
		f(log, n)
	}
}

func (b *RoundsSkipped) needs(f func(LogID, uint64)) {
	for log, n := range b.Seen {
		f(log, n)
	}
}

func compareMetrics(a, b Metric) int { return strings.Compare(a.Name, b.Name) }
func compareParams(a, b Param) int   { return strings.Compare(a.Name, b.Name) }
