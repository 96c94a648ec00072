package main

import (
	"fmt"
	"strings"
	"sync"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

// Mark is a moment after which the next agreement is waited for. Times are
// seconds since the run's start.
type Mark struct {
	At    float64 `json:"at"`
	After uint64  `json:"after"`  // the newest round that anybody served then
	Agree float64 `json:"agreed"` // when all living peers served the same later round; 0: not within the run
}

// Kill is one process killed.
type Kill struct {
	Mark
	Peer   string   `json:"peer"`
	Back   float64  `json:"back"`   // when it was ready again; 0: not within the run, or killed again before
	During []string `json:"during"` // what it was doing, as far as can be told
}

// watch follows what every process serves, and so knows when a round is finished
// and when all who live agree.
type watch struct {
	now func() float64

	mu       sync.Mutex
	living   map[string]bool
	starting map[string]bool              // started again and not ready yet
	served   map[string]uint64            // by living peer: its newest round
	history  map[string]map[uint64]string // by living peer: round to digest, the version it served last
	behind   map[string]uint64            // by living peer that has come back: the round it has yet to serve
	first    string                       // who served the newest round first
	finished []float64                    // when the first process served round i+1 or a later one
	kills    []Kill
	calm     []Mark                  // at which nobody was killed
	open     []*Mark                 // those that wait for an agreement
	finals   map[uint64]model.Digest // of what was said of a round that was final, by anybody
	changed  map[uint64]bool         // rounds of which something else was said later
	sides    [2]side                 // of a network that is cut
}

// side is a part of the peers.
type side struct {
	peers    map[string]bool
	round    uint64    // the newest that one of them has served
	finished []float64 // when it grew
}

func newWatch(peers []string, now func() float64) *watch {
	w := &watch{
		now: now, living: map[string]bool{}, served: map[string]uint64{}, history: map[string]map[uint64]string{},
		starting: map[string]bool{}, behind: map[string]uint64{}, finals: map[uint64]model.Digest{}, changed: map[uint64]bool{},
	}
	for _, p := range peers {
		w.living[p] = true
	}
	return w
}

// remembered is how many rounds back of a peer are of use; runs may be long.
const remembered = 256

// see notes that a peer serves a model.
func (w *watch) see(peer string, round uint64, digest string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.living[peer] && !w.starting[peer] {
		return // the answer of one who has been killed since
	}
	h := w.history[peer]
	if h == nil {
		h = map[uint64]string{}
		w.history[peer] = h
	}
	w.served[peer], h[round] = round, digest
	for r := range h {
		if len(h) > remembered && r+remembered/2 < round {
			delete(h, r)
		}
	}
	if round >= w.behind[peer] {
		delete(w.behind, peer)
	}
	if round > uint64(len(w.finished)) {
		w.first = peer
	}
	now := w.now()
	for uint64(len(w.finished)) < round {
		w.finished = append(w.finished, now)
	}
	for i := range w.sides {
		if s := &w.sides[i]; s.peers[peer] && round > s.round {
			s.round, s.finished = round, append(s.finished, now)
		}
	}
	w.agree()
}

// agree notes the marks after which all who live have come to the same later
// round. w.mu must be held.
func (w *watch) agree() {
	lowest, some := uint64(0), false
	for p := range w.living {
		round, ok := w.served[p]
		if !ok {
			return // just started, and not heard of yet
		}
		if !some || round < lowest {
			lowest, some = round, true
		}
	}
	// Who is ahead may have skipped the round; who served it must have served the
	// same.
	digest := ""
	for p := range w.living {
		d, ok := w.history[p][lowest]
		if ok && digest != "" && d != digest {
			return
		}
		if ok {
			digest = d
		}
	}
	var open []*Mark
	for _, m := range w.open {
		if some && lowest > m.After {
			m.Agree = w.now()
		} else {
			open = append(open, m)
		}
	}
	w.open = open
}

// mark notes a moment at which nobody is killed.
func (w *watch) mark() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calm = append(w.calm, w.here())
	w.reopen()
}

// here is a mark of this moment. w.mu must be held.
func (w *watch) here() Mark { return Mark{At: w.now(), After: uint64(len(w.finished))} }

// reopen lists the marks that wait. w.mu must be held.
func (w *watch) reopen() {
	w.open = w.open[:0]
	// Those that wait are the newest.
	for i := len(w.calm) - 1; i >= 0 && w.calm[i].Agree == 0; i-- {
		w.open = append(w.open, &w.calm[i])
	}
	for i := len(w.kills) - 1; i >= 0 && w.kills[i].Agree == 0; i-- {
		w.open = append(w.open, &w.kills[i].Mark)
	}
}

// kill notes that some peers are about to be killed, and returns the numbers of
// the kills.
func (w *watch) kill(peers ...string) []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	var numbers []int
	for _, p := range peers {
		numbers = append(numbers, len(w.kills))
		k := Kill{Mark: w.here(), Peer: p}
		switch {
		case w.starting[p]:
			k.During = append(k.During, duringStart)
		case w.behind[p] > 0:
			k.During = append(k.During, duringCatchUp)
		}
		w.kills = append(w.kills, k)
		delete(w.living, p)
		delete(w.starting, p)
		delete(w.served, p)
		delete(w.history, p)
		delete(w.behind, p)
	}
	w.reopen()
	return numbers
}

// during adds what a peer that was killed had been doing.
func (w *watch) during(number int, what []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kills[number].During = append(w.kills[number].During, what...)
}

// start notes that a peer that was killed is being started. What it says counts
// from now on, but nobody waits for it.
func (w *watch) start(number int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.starting[w.kills[number].Peer] = true
}

// back notes that a peer that was killed takes part again.
func (w *watch) back(number int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := &w.kills[number]
	k.Back = w.now()
	delete(w.starting, k.Peer)
	w.living[k.Peer] = true
	if newest := uint64(len(w.finished)); w.served[k.Peer] < newest {
		w.behind[k.Peer] = newest
	}
}

// newest is the newest round that anybody has served, and who was the first.
func (w *watch) newest() (round int, first string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.finished), w.first
}

// number is a kill.
func (w *watch) number(i int) Kill {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.kills[i]
}

// killed is the number of kills so far, and of those, and other marks, that still
// wait for an agreement.
func (w *watch) killed() (kills, open int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.kills), len(w.open)
}

// agreed reports whether all living peers serve one and the same model, and
// which round's.
func (w *watch) agreed() (uint64, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	what := map[string]bool{}
	var at uint64
	for p := range w.living {
		round, ok := w.served[p]
		if !ok {
			return 0, false
		}
		at = round
		what[fmt.Sprint(round, w.history[p][round])] = true
	}
	return at, len(what) == 1
}

// divide says which peers are on which side when the network is cut.
func (w *watch) divide(peers [2][]string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, names := range peers {
		w.sides[i].peers = map[string]bool{}
		for _, p := range names {
			w.sides[i].peers[p] = true
			w.sides[i].round = max(w.sides[i].round, w.served[p])
		}
	}
}

// onSides is the newest round that either side has served.
func (w *watch) onSides() [2]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return [2]uint64{w.sides[0].round, w.sides[1].round}
}

// final notes what a peer says of rounds that are final there. A round that was
// said to be something else before has changed, which must never be.
func (w *watch) final(rounds []api.RoundInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range rounds {
		if r.State != api.RoundFinal {
			continue
		}
		var b strings.Builder
		fmt.Fprint(&b, r.Model, r.Inputs)
		for _, u := range r.Updates {
			fmt.Fprint(&b, " ", u.Combiner, "/", u.ID, "=", u.Digest)
		}
		is := model.Sum([]byte(b.String()))
		if was, ok := w.finals[r.Round]; ok && was != is {
			w.changed[r.Round] = true
		}
		w.finals[r.Round] = is
	}
}
