package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/fedmesh/fedmesh/model"
)

// States of a session.
const (
	SessionOpen    = "open"    // accepts updates
	SessionClosing = "closing" // its last round is being agreed
	SessionClosed  = "closed"  // serves its models, accepts nothing
)

// States of a round.
const (
	RoundOpen    = "open"    // no member has sealed it as far as this peer knows
	RoundSealed  = "sealed"  // open no longer; this peer does not serve its model yet
	RoundSettled = "settled" // this peer serves its model; a late seal may still amend it
	RoundFinal   = "final"   // nothing that can still arrive changes it
)

// RoundAmended is a state in events: a round was computed anew, since a late seal had changed what is in it.
const RoundAmended = "amended"

// States of a peer, as the answering peer sees it.
const (
	PeerAlive   = "alive"
	PeerSuspect = "suspect" // the answering peer started a moment ago and has not met it yet
	PeerDead    = "dead"
	PeerLeft    = "left"

	PeerForgetting = "forgetting" // dead, and not waited for once those have agreed who are to
	PeerForgotten  = "forgotten"  // dead, and nobody waits for it; it may still return
)

// MaxWeight is the largest weight of one update and of one round: 2^38-1.
const MaxWeight = 1<<38 - 1

// SessionInfo is what a peer knows of one session.
type SessionInfo struct {
	Name       string        `json:"name"`
	Key        string        `json:"key"` // hex; the digest of name, config, seed and first members; clients keep it
	Config     SessionConfig `json:"config"`
	Seed       string        `json:"seed"`            // digest of the seed model, hex
	State      string        `json:"state"`           // SessionOpen, SessionClosing or SessionClosed
	Round      uint64        `json:"round"`           // the open round; after the end, the last one
	Model      string        `json:"model"`           // digest of the current model, hex
	ModelRound uint64        `json:"model_round"`     // the round that made it; 0 is the seed
	Members    []string      `json:"members"`         // names of the peers whose word counts, sorted
	Clash      []string      `json:"clash,omitempty"` // keys of other sessions opened under this name, sorted
	Divergent  int           `json:"divergent"`       // rounds of which two peers computed different models from the same inputs; never expected
	Privacy    *Privacy      `json:"privacy,omitempty"`
}

// Privacy is what the published models of a session with noise tell, at most, of one combiner's updates.
type Privacy struct {
	NoiseMultiplier float64 `json:"noise_multiplier"` // standard deviation of the noise, in units of what one update can change
	Published       int     `json:"published"`        // models; every version of an amended round is one
	Rho             float64 `json:"rho"`              // of zero-concentrated differential privacy
	Epsilon         float64 `json:"epsilon"`          // of (ε, δ)-differential privacy
	Delta           float64 `json:"delta"`
}

// Receipt is the answer to a push: who holds the update now.
type Receipt struct {
	Session   string   `json:"session"`
	Combiner  string   `json:"combiner"`
	ID        string   `json:"id"`
	Digest    string   `json:"digest"` // of the update in canonical form, hex
	Base      string   `json:"base"`   // digest of the model it was trained from, hex
	BaseRound uint64   `json:"round"`  // the round that made the base
	Copies    []string `json:"copies"` // names of the peers that hold it durably, sorted
	Duplicate bool     `json:"duplicate"`
	Request   string   `json:"request,omitempty"` // id that the push has in the peers' logs; set by Client
}

// UpdateInfo is one update of a round.
type UpdateInfo struct {
	Combiner  string   `json:"combiner"`
	ID        string   `json:"id"`
	Digest    string   `json:"digest"`
	Weight    int64    `json:"weight"`
	Base      string   `json:"base"`
	BaseRound uint64   `json:"base_round"`
	Copies    []string `json:"copies"` // names of its holders, sorted
}

// UpdateRef names an update within a session.
type UpdateRef struct {
	Combiner string `json:"combiner"`
	ID       string `json:"id"`
}

// RoundInfo is one round of a session as the answering peer derives it.
type RoundInfo struct {
	Round      uint64             `json:"round"`
	State      string             `json:"state"`            // RoundOpen, RoundSealed, RoundSettled or RoundFinal
	Model      string             `json:"model"`            // digest of its model, hex; empty while there is none
	Inputs     string             `json:"inputs"`           // digest of what went into it, hex; empty while open
	Updates    []UpdateInfo       `json:"updates"`          // in key order (combiner, id)
	Weight     int64              `json:"weight"`           // sum of the weights
	Metrics    map[string]float64 `json:"metrics"`          // weighted means of the updates' metrics
	Computed   map[string]string  `json:"computed"`         // peer name to the digest of the model it computed
	WaitingFor []string           `json:"waiting_for"`      // names of the peers whose word is missing, sorted
	Lost       []UpdateRef        `json:"lost"`             // updates that left the round because no holder is left
	Compacted  bool               `json:"compacted"`        // long final: this peer no longer knows who held, computed or lost what
	Combiners  int                `json:"combiners"`        // how many have updates in it; Updates may be left out, this is not
	Sealed     []string           `json:"sealed"`           // names of the peers that sealed it or skipped it, sorted
	Took       []string           `json:"took"`             // of these, who skipped it and took the model from another, sorted
	Versions   int                `json:"versions"`         // how often its content was computed differently; more than 1: it was amended
	Divergent  bool               `json:"divergent"`        // two peers computed different models from the same inputs
	Opened     *time.Time         `json:"opened,omitempty"` // of the open round: since when this peer knows it as such
}

// MeshInfo is the mesh as one peer sees it.
type MeshInfo struct {
	Self   string     `json:"self"` // name of the answering peer
	Mesh   string     `json:"mesh"`
	Peers  []PeerInfo `json:"peers"`  // sorted by name, self included
	Agreed bool       `json:"agreed"` // every live peer reports the same model for each session's newest common round
	Disk   int64      `json:"disk"`   // bytes of models and updates on the answering peer's disk
}

// PeerInfo is one peer of the mesh.
type PeerInfo struct {
	Name      string                `json:"name"`
	Log       string                `json:"log"`   // log id, hex
	State     string                `json:"state"` // PeerAlive, PeerSuspect, PeerDead, PeerLeft, PeerForgetting or PeerForgotten
	API       string                `json:"api"`   // host:port
	VectorLag uint64                `json:"vector_lag"`
	Rounds    map[string]RoundModel `json:"rounds"` // session name to the newest model the peer reported
	Held      int                   `json:"held"`   // updates of rounds that are not final that it holds, among the newest 20,000
	HeldBytes int64                 `json:"held_bytes"`

	WaitingFor []string `json:"waiting_for,omitempty"` // PeerForgetting: names of the peers that have not agreed yet, sorted
}

// RoundModel is a round and the digest of its model; in JSON the pair [round, "digest"].
type RoundModel struct {
	Round uint64
	Model string
}

// MarshalJSON writes the pair.
func (m RoundModel) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]any{m.Round, m.Model})
}

// UnmarshalJSON reads the pair.
func (m *RoundModel) UnmarshalJSON(b []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(b, &pair); err != nil {
		return fmt.Errorf("api: round and model: %w", err)
	}
	if len(pair) != 2 {
		return fmt.Errorf("api: round and model: want [round, \"digest\"], got %d items", len(pair))
	}
	if err := json.Unmarshal(pair[0], &m.Round); err != nil {
		return fmt.Errorf("api: round and model: %w", err)
	}
	if err := json.Unmarshal(pair[1], &m.Model); err != nil {
		return fmt.Errorf("api: round and model: %w", err)
	}
	return nil
}

// Types of events.
const (
	EventSession = "session" // a session opened, is closing or closed
	EventUpdate  = "update"  // an update was accepted, became lost or returned
	EventRound   = "round"   // a round opened, was sealed, settled, amended or became final
	EventModel   = "model"   // this peer serves another model
	EventPeer    = "peer"    // a peer joined, left, died or returned
	EventWarning = "warning" // a clash, a divergence, a saturated value
)

// Event is one thing that happened, as seen by one peer. Only the fields that apply are set.
type Event struct {
	Seq      uint64    `json:"seq"` // counts up by one within one run of a peer
	Time     time.Time `json:"time"`
	Type     string    `json:"type"`
	Session  string    `json:"session,omitempty"`
	Round    uint64    `json:"round,omitempty"`
	Peer     string    `json:"peer,omitempty"`
	Combiner string    `json:"combiner,omitempty"`
	ID       string    `json:"id,omitempty"`
	Digest   string    `json:"digest,omitempty"`
	State    string    `json:"state,omitempty"`
	Detail   string    `json:"detail,omitempty"`
}

// PushRequest is one update as it arrives. The server has checked everything but the body.
type PushRequest struct {
	Session  string // name or key
	Combiner string
	ID       string // empty: the backend chooses (base round and base, else the body's digest)
	Weight   int64  // 1..MaxWeight
	Base     string // digest, hex; empty: the backend's latest
	Metrics  map[string]float64
	Body     io.Reader // a model, safetensors or npz; may be left unread
	Length   int64     // bytes in Body, -1 when unknown
	Request  string    // id of the request that began it, for the logs
}

// ModelRef says which model of a session is meant. The zero value is the latest.
type ModelRef struct {
	Kind   RefKind
	Round  uint64       // for RefRound
	Digest model.Digest // for RefDigest
}

// RefKind is the kind of a ModelRef.
type RefKind uint8

// Kinds of references.
const (
	RefLatest RefKind = iota
	RefRound
	RefDigest
)

// Latest refers to the current model.
func Latest() ModelRef { return ModelRef{} }

// AtRound refers to the model that round n made; 0 is the seed.
func AtRound(n uint64) ModelRef { return ModelRef{Kind: RefRound, Round: n} }

// OfDigest refers to a model by its bytes.
func OfDigest(d model.Digest) ModelRef { return ModelRef{Kind: RefDigest, Digest: d} }

// ParseModelRef reads "latest", a round in decimal, or a digest of 64 hex digits.
func ParseModelRef(s string) (ModelRef, error) {
	if s == "latest" {
		return Latest(), nil
	}
	if len(s) == 2*len(model.Digest{}) {
		d, err := model.ParseDigest(s)
		if err != nil {
			return ModelRef{}, fmt.Errorf("api: %w", err)
		}
		return OfDigest(d), nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return ModelRef{}, fmt.Errorf("api: %q is neither a round number nor a digest of 64 hex digits", clip(s))
	}
	return AtRound(n), nil
}

// String is the form that ParseModelRef reads.
func (r ModelRef) String() string {
	switch r.Kind {
	case RefRound:
		return strconv.FormatUint(r.Round, 10)
	case RefDigest:
		return r.Digest.String()
	default:
		return "latest"
	}
}

// Blob is a model's canonical safetensors file, open for reading. When it is also an io.ReadSeeker (an *os.File
// underneath) the server can hand it to the kernel; its read position then belongs to the server.
type Blob interface {
	io.ReaderAt
	io.Closer
}

// Model is a model a backend serves. The receiver closes Blob.
type Model struct {
	Digest model.Digest
	Round  uint64 // the round that made it; 0 is the seed
	Layout *model.Layout
	Blob   Blob
	Size   int64 // bytes of the canonical file
}

// Backend is what the server serves: a peer. All methods are called from many goroutines at once. Errors of type
// *Problem go to the client as they are; ended contexts become 503; the model package's sentinels become 400, 413 and
// 422; any other error is logged and answered with 500 without its text.
//
// Session arguments are a name or a key, as the client gave it, already checked by CheckName.
type Backend interface {
	// OpenSession opens a session, or answers with created false when the same one is open. The seed is a model in
	// either format. It returns once the session's copies are held.
	OpenSession(ctx context.Context, name string, cfg SessionConfig, seed io.Reader) (info SessionInfo, created bool, err error)
	// CloseSession starts the closing of a session; closing a closed one is no error.
	CloseSession(ctx context.Context, session string) (SessionInfo, error)
	// Sessions lists the sessions, sorted by name.
	Sessions() []SessionInfo
	// Session describes one.
	Session(ref string) (SessionInfo, error)
	// Push accepts an update once enough peers hold it.
	Push(ctx context.Context, req PushRequest) (Receipt, error)
	// Model opens a model for reading.
	Model(ctx context.Context, session string, ref ModelRef) (Model, error)
	// WaitModel returns nil once a model newer than after is current, or the context's error when that ends first. It looks
	// before it waits: with an ended context it tells whether there is something newer now. After is a digest or a
	// round in decimal; of a digest that is not the current one, the backend decides whether the current is newer.
	WaitModel(ctx context.Context, session, after string) error
	// Rounds lists up to limit rounds from the given one upwards; from 0, the last limit rounds.
	Rounds(session string, from uint64, limit int) ([]RoundInfo, error)
	// Round describes one.
	Round(session string, n uint64) (RoundInfo, error)
	// Mesh describes the mesh.
	Mesh() MeshInfo
	// Subscribe delivers events until the context ends, then closes the channel. A backend never waits for a
	// subscriber: it drops events, or closes the channel, when that does not keep up.
	Subscribe(ctx context.Context) <-chan Event
	// Ready is nil once the peer takes part; before that it is the reason.
	Ready() error
	// Leave makes the peer leave the mesh for good: it hands its copies over and ends its log.
	Leave(ctx context.Context) error
	// Forget proposes to wait no longer for dead peers, given by name or by the beginning of their log's id; at least
	// one. Asked again, it answers with the state of what is proposed already.
	Forget(ctx context.Context, peers []string) (Forgetting, error)
}
