package process

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// Key names an update within a session.
type Key struct {
	Combiner string `json:"combiner"`
	ID       string `json:"id"`
}

func (k Key) String() string { return k.Combiner + "/" + k.ID }

func compareKeys(a, b Key) int {
	if c := strings.Compare(a.Combiner, b.Combiner); c != 0 {
		return c
	}
	return strings.Compare(a.ID, b.ID)
}

// View is what one peer says of a session.
type View struct {
	Peer    string
	Session api.SessionInfo
	Rounds  []api.RoundInfo // from round 1, without gaps
	Err     error           // why the peer could not be asked; the rest is then empty
}

// settled says what the view still lacks of a session that has come to its end;
// nil when nothing.
func (v View) settled() error {
	switch {
	case v.Err != nil:
		return v.Err
	case v.Session.State != api.SessionClosed:
		return fmt.Errorf("the session is %s", v.Session.State)
	case uint64(len(v.Rounds)) < v.Session.Round:
		return fmt.Errorf("%d of %d rounds listed", len(v.Rounds), v.Session.Round)
	}
	for _, r := range v.Rounds[:v.Session.Round] {
		if r.State != api.RoundFinal {
			return fmt.Errorf("round %d is %s, waiting for %s", r.Round, r.State, strings.Join(r.WaitingFor, ", "))
		}
	}
	return nil
}

// Divergence is a round that is final on several peers and not the same there.
type Divergence struct {
	Round uint64            `json:"round"`
	What  map[string]string `json:"what"` // peer to "model digest (inputs digest)", shortened
}

// PeerVerdict is one peer's line in the table.
type PeerVerdict struct {
	Peer   string `json:"peer"`
	Rounds int    `json:"rounds"` // that it lists
	Final  int    `json:"final"`  // of them
	Model  string `json:"model"`  // digest of the last final round's model
	Lacks  string `json:"lacks,omitempty"`
}

// Verdict is what became of the updates that were acknowledged, and whether all
// peers say the same.
type Verdict struct {
	Acknowledged int           `json:"acknowledged"`   // distinct updates with a receipt
	Counted      int           `json:"counted"`        // of them, in exactly one round of every peer
	Extra        int           `json:"unacknowledged"` // in a round though nobody got a receipt: the answer was lost, not the update
	Lost         []Key         `json:"lost"`           // in no round of some peer
	Doubled      []Key         `json:"doubled"`        // in a round more than once, or in two, of some peer
	Altered      []Key         `json:"altered"`        // in a round with another digest than on the receipt
	Divergent    []Divergence  `json:"divergent"`
	Agreed       bool          `json:"agreed"` // all peers have closed, with all rounds final and equal
	Rounds       int           `json:"rounds"` // that some peer lists
	Peers        []PeerVerdict `json:"peers"`
	Views        []View        `json:"-"` // what was judged, by peer
}

// Err is nil when every acknowledged update was counted once and all peers
// agree; otherwise it lists what is wrong.
func (v Verdict) Err() error {
	var errs []error
	list := func(what string, keys []Key) {
		if len(keys) > 0 {
			errs = append(errs, fmt.Errorf("process: %d updates %s: %s", len(keys), what, some(keys)))
		}
	}
	list("lost", v.Lost)
	list("doubled", v.Doubled)
	list("altered", v.Altered)
	for _, d := range v.Divergent {
		errs = append(errs, fmt.Errorf("process: round %d differs: %v", d.Round, d.What))
	}
	if !v.Agreed {
		var lacks []string
		for _, p := range v.Peers {
			if p.Lacks != "" {
				lacks = append(lacks, p.Peer+": "+p.Lacks)
			}
		}
		errs = append(errs, fmt.Errorf("process: the peers do not agree: %s", strings.Join(lacks, "; ")))
	}
	return errors.Join(errs...)
}

func some(keys []Key) string {
	const most = 5
	var names []string
	for _, k := range keys[:min(len(keys), most)] {
		names = append(names, k.String())
	}
	if len(keys) > most {
		names = append(names, "...")
	}
	return strings.Join(names, ", ")
}

// Judge compares receipts with the peers' views. It depends on nothing else, and
// not on the order of either.
func Judge(receipts []api.Receipt, views []View) Verdict {
	views = slices.Clone(views)
	slices.SortFunc(views, func(a, b View) int { return strings.Compare(a.Peer, b.Peer) })
	promised := map[Key]string{}
	altered := map[Key]bool{}
	for _, r := range receipts {
		k := Key{r.Combiner, r.ID}
		if d, ok := promised[k]; ok && d != r.Digest {
			altered[k] = true
		}
		promised[k] = r.Digest
	}

	v := Verdict{Acknowledged: len(promised), Agreed: len(views) > 0, Views: views}
	doubled, extra, missing := map[Key]bool{}, map[Key]bool{}, map[Key]bool{}
	for _, view := range views {
		seen := map[Key]bool{}
		for _, r := range view.Rounds {
			if r.State == api.RoundOpen {
				continue // what waits there is in no round yet
			}
			for _, u := range r.Updates {
				k := Key{u.Combiner, u.ID}
				doubled[k] = doubled[k] || seen[k]
				seen[k] = true
				digest, ok := promised[k]
				extra[k] = !ok
				altered[k] = altered[k] || ok && digest != u.Digest
			}
		}
		for k := range promised {
			missing[k] = missing[k] || !seen[k] && view.Err == nil
		}
		p := PeerVerdict{Peer: view.Peer, Rounds: len(view.Rounds)}
		for _, r := range view.Rounds {
			if r.State == api.RoundFinal {
				p.Final++
				p.Model = r.Model
			}
		}
		if err := view.settled(); err != nil {
			p.Lacks = err.Error()
			v.Agreed = false
		}
		v.Rounds = max(v.Rounds, p.Rounds)
		v.Peers = append(v.Peers, p)
	}
	v.Lost, v.Doubled, v.Altered, v.Extra = members(missing), members(doubled), members(altered), len(members(extra))
	for k := range promised {
		if !missing[k] && !doubled[k] && !altered[k] && len(views) > 0 {
			v.Counted++
		}
	}
	v.Divergent = divergences(views)
	v.Agreed = v.Agreed && len(v.Divergent) == 0 && sameLength(views)
	return v
}

func members(set map[Key]bool) []Key {
	keys := []Key{}
	for k, in := range set {
		if in {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

func sameLength(views []View) bool {
	for _, v := range views {
		if v.Session.Round != views[0].Session.Round {
			return false
		}
	}
	return true
}

// divergences compares the final rounds of all views, and within a view the
// models that peers said they computed for a final round.
func divergences(views []View) []Divergence {
	byRound := map[uint64]map[string]string{}
	say := func(round uint64, who, what string) {
		if byRound[round] == nil {
			byRound[round] = map[string]string{}
		}
		byRound[round][who] = what
	}
	for _, v := range views {
		for _, r := range v.Rounds {
			if r.State != api.RoundFinal {
				continue
			}
			say(r.Round, v.Peer, fmt.Sprintf("%s (inputs %s)", short(r.Model), short(r.Inputs)))
			for _, peer := range slices.Sorted(maps.Keys(r.Computed)) {
				if d := r.Computed[peer]; d != r.Model {
					say(r.Round, peer+" according to "+v.Peer, "computed "+short(d))
				}
			}
		}
	}
	out := []Divergence{}
	for _, round := range slices.Sorted(maps.Keys(byRound)) {
		different := map[string]bool{}
		for _, what := range byRound[round] {
			different[what] = true
		}
		if len(different) > 1 {
			out = append(out, Divergence{Round: round, What: byRound[round]})
		}
	}
	return out
}

// short is the part of a digest that people compare.
func short(digest string) string { return digest[:min(len(digest), 8)] }
