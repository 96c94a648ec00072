package reducer

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

// Kinds of commands.
const (
	KindOpen   = "open"   // the session begins: Name, Config, Digest is the seed's
	KindUpdate = "update" // Update is held
	KindRound  = "round"  // Round is closed over Inputs, Digest is its model's
	KindEnd    = "end"    // the session takes no more; what waits makes one more round
)

// Command is one step of a State. It travels and is stored as JSON.
type Command struct {
	Kind   string             `json:"kind"`
	Name   string             `json:"name,omitempty"`
	Config *api.SessionConfig `json:"config,omitempty"`
	Digest string             `json:"digest,omitempty"`
	Update *api.UpdateInfo    `json:"update,omitempty"`
	Round  uint64             `json:"round,omitempty"`
	Inputs []api.UpdateRef    `json:"inputs,omitempty"`
}

// Outcomes of a command, beside the empty one.
const (
	OutcomeDuplicate = "duplicate" // an update that was in already
	OutcomeConflict  = "conflict"  // another content under the same name or key
	OutcomeClosed    = "closed"    // the session takes no updates any more
	OutcomeStale     = "stale"     // a round that is not the open one, or over other updates than are there
)

// Result is what became of a command; the same everywhere.
type Result struct {
	Outcome string          `json:"outcome,omitempty"`
	Update  *api.UpdateInfo `json:"update,omitempty"` // the one that is in, for updates
	Digest  string          `json:"digest,omitempty"` // the one that is there, for conflicts
}

// State is a session as the commands so far have made it. Its exported fields
// are what a snapshot holds.
type State struct {
	Name    string            `json:"name"`
	Key     string            `json:"key"`
	Config  api.SessionConfig `json:"config"`
	Seed    string            `json:"seed"`
	Phase   string            `json:"phase"`   // api.SessionOpen, SessionClosing, SessionClosed; empty before
	Rounds  []api.RoundInfo   `json:"rounds"`  // closed, from 1
	Pending []api.UpdateInfo  `json:"pending"` // in the open round, in the order of arrival

	known map[api.UpdateRef]api.UpdateInfo
	made  map[string]uint64 // digest of a model to its round, the newest that made it
}

// Restore makes a State of a snapshot; of none, an empty one.
func Restore(snapshot []byte) (*State, error) {
	s := &State{}
	if len(snapshot) > 0 {
		if err := json.Unmarshal(snapshot, s); err != nil {
			return nil, fmt.Errorf("reducer: snapshot: %w", err)
		}
	}
	s.known, s.made = map[api.UpdateRef]api.UpdateInfo{}, map[string]uint64{}
	if s.Seed != "" {
		s.made[s.Seed] = 0
	}
	for _, r := range s.Rounds {
		s.made[r.Model] = r.Round
		for _, u := range r.Updates {
			s.known[ref(u)] = u
		}
	}
	for _, u := range s.Pending {
		s.known[ref(u)] = u
	}
	return s, nil
}

// Snapshot is what Restore reads.
func (s *State) Snapshot() ([]byte, error) { return json.Marshal(s) }

func ref(u api.UpdateInfo) api.UpdateRef { return api.UpdateRef{Combiner: u.Combiner, ID: u.ID} }

// Apply makes one step. Commands that are malformed are errors; those that come
// too late or twice have an outcome.
func (s *State) Apply(c Command) (Result, error) {
	switch {
	case c.Kind == KindOpen && c.Config != nil:
		return s.open(c), nil
	case c.Kind == KindUpdate && c.Update != nil:
		return s.update(*c.Update), nil
	case c.Kind == KindRound:
		return s.round(c), nil
	case c.Kind == KindEnd:
		if s.Phase == api.SessionOpen {
			s.Phase = api.SessionClosing
		}
		s.endIfDone()
		return Result{}, nil
	}
	return Result{}, errors.New("reducer: malformed command " + c.Kind)
}

func (s *State) open(c Command) Result {
	if s.Phase != "" {
		if s.Name == c.Name && s.Seed == c.Digest {
			return Result{Outcome: OutcomeDuplicate}
		}
		return Result{Outcome: OutcomeConflict, Digest: s.Seed}
	}
	s.Name, s.Config, s.Seed, s.Phase = c.Name, *c.Config, c.Digest, api.SessionOpen
	s.Key = model.Sum([]byte(c.Name + "\x00" + c.Digest)).String()
	s.made[c.Digest] = 0
	return Result{}
}

func (s *State) update(u api.UpdateInfo) Result {
	if held, ok := s.known[ref(u)]; ok {
		if held.Digest != u.Digest || held.Weight != u.Weight || held.Base != u.Base {
			return Result{Outcome: OutcomeConflict, Update: &held, Digest: held.Digest}
		}
		return Result{Outcome: OutcomeDuplicate, Update: &held}
	}
	if s.Phase != api.SessionOpen {
		return Result{Outcome: OutcomeClosed}
	}
	u.BaseRound = s.made[u.Base] // it was known where the command was made
	s.Pending = append(s.Pending, u)
	s.known[ref(u)] = u
	return Result{Update: &u}
}

func (s *State) round(c Command) Result {
	if c.Round != s.Open() || s.Phase == "" || s.Phase == api.SessionClosed {
		return Result{Outcome: OutcomeStale}
	}
	in := map[api.UpdateRef]bool{}
	for _, r := range c.Inputs {
		in[r] = true
	}
	r := api.RoundInfo{Round: c.Round, State: api.RoundFinal, Model: c.Digest, Inputs: InputsDigest(c.Inputs), Updates: []api.UpdateInfo{}}
	var rest []api.UpdateInfo
	for _, u := range s.Pending {
		if in[ref(u)] {
			r.Updates = append(r.Updates, u)
			r.Weight += u.Weight
		} else {
			rest = append(rest, u)
		}
	}
	if len(r.Updates) != len(c.Inputs) || len(in) != len(c.Inputs) {
		return Result{Outcome: OutcomeStale}
	}
	slices.SortFunc(r.Updates, compareUpdates)
	s.Pending = rest
	s.Rounds = append(s.Rounds, r)
	s.made[c.Digest] = c.Round
	s.endIfDone()
	return Result{}
}

// endIfDone closes a closing session once nothing waits any more.
func (s *State) endIfDone() {
	if s.Phase == api.SessionClosing && len(s.Pending) == 0 {
		s.Phase = api.SessionClosed
	}
}

func compareUpdates(a, b api.UpdateInfo) int {
	return cmp.Or(cmp.Compare(a.Combiner, b.Combiner), cmp.Compare(a.ID, b.ID))
}

// InputsDigest names what goes into a round.
func InputsDigest(inputs []api.UpdateRef) string {
	inputs = slices.Clone(inputs)
	slices.SortFunc(inputs, func(a, b api.UpdateRef) int {
		return cmp.Or(cmp.Compare(a.Combiner, b.Combiner), cmp.Compare(a.ID, b.ID))
	})
	h := model.NewHash()
	for _, r := range inputs {
		fmt.Fprintf(h, "%s/%s\n", r.Combiner, r.ID)
	}
	return model.Digest(h.Sum(nil)).String()
}

// Open is the number of the open round.
func (s *State) Open() uint64 { return uint64(len(s.Rounds)) + 1 }

// Latest is the digest of the newest model and the round that made it; 0 is the
// seed.
func (s *State) Latest() (string, uint64) {
	if n := len(s.Rounds); n > 0 {
		return s.Rounds[n-1].Model, uint64(n)
	}
	return s.Seed, 0
}

// RoundOf is the round that made a model.
func (s *State) RoundOf(digest string) (round uint64, ok bool) {
	round, ok = s.made[digest]
	return round, ok
}

// Combiners counts those with an update in the open round.
func (s *State) Combiners() int {
	seen := map[string]bool{}
	for _, u := range s.Pending {
		seen[u.Combiner] = true
	}
	return len(seen)
}

// Info describes the session; before it is open there is none.
func (s *State) Info() api.SessionInfo {
	digest, round := s.Latest()
	info := api.SessionInfo{
		Name: s.Name, Key: s.Key, Config: s.Config, Seed: s.Seed, State: s.Phase,
		Round: s.Open(), Model: digest, ModelRound: round, Members: []string{},
	}
	if s.Phase == api.SessionClosed {
		info.Round = round
	}
	return info
}

// List returns up to limit rounds from the given one on, the open one among
// them; from 0, the last ones.
func (s *State) List(from uint64, limit int) []api.RoundInfo {
	all := s.Rounds
	if s.Phase != api.SessionClosed {
		open := api.RoundInfo{Round: s.Open(), State: api.RoundOpen, Updates: slices.Clone(s.Pending)}
		slices.SortFunc(open.Updates, compareUpdates)
		all = append(slices.Clip(all), open)
	}
	if from == 0 {
		return slices.Clone(all[max(0, len(all)-limit):])
	}
	first := min(from-1, uint64(len(all)))
	return slices.Clone(all[first:min(first+uint64(limit), uint64(len(all)))])
}
