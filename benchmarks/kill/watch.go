package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Kill is one process killed. Times are seconds since the run's start.
type Kill struct {
	At    float64 `json:"at"`
	Peer  string  `json:"peer"`
	Back  float64 `json:"back"`   // when it was ready again; 0: not within the run
	After uint64  `json:"after"`  // the newest round that anybody served then
	Agree float64 `json:"agreed"` // when all living peers served the same later round; 0: not within the run
}

// watch follows what every process serves, by long polls, and so knows when a
// round is finished and when all who live agree.
type watch struct {
	now func() float64

	mu       sync.Mutex
	living   map[string]bool
	served   map[string]uint64            // by living peer: its newest round
	history  map[string]map[uint64]string // by living peer: round to digest, the version it served last
	first    string                       // who served the newest round first
	finished []float64                    // when the first process served round i+1 or a later one
	kills    []Kill
	finals   map[uint64]string // what was said of a round that was final, by anybody
	changed  map[uint64]bool   // rounds of which something else was said later
}

func newWatch(peers []string, now func() float64) *watch {
	w := &watch{
		now: now, living: map[string]bool{}, served: map[string]uint64{}, history: map[string]map[uint64]string{},
		finals: map[uint64]string{}, changed: map[uint64]bool{},
	}
	for _, p := range peers {
		w.living[p] = true
	}
	return w
}

// see notes that a peer serves a model.
func (w *watch) see(peer string, round uint64, digest string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.living[peer] {
		return // the answer of one who has been killed since
	}
	if w.history[peer] == nil {
		w.history[peer] = map[uint64]string{}
	}
	w.served[peer], w.history[peer][round] = round, digest
	if round > uint64(len(w.finished)) {
		w.first = peer
	}
	for now := w.now(); uint64(len(w.finished)) < round; {
		w.finished = append(w.finished, now)
	}
	w.agree()
}

// agree notes the kills after which all who live have come to the same later
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
	for i, k := range w.kills {
		if k.Agree == 0 && some && lowest > k.After {
			w.kills[i].Agree = w.now()
		}
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
		w.kills = append(w.kills, Kill{At: w.now(), Peer: p, After: uint64(len(w.finished))})
		delete(w.living, p)
		delete(w.served, p)
		delete(w.history, p)
	}
	return numbers
}

// back notes that a peer that was killed takes part again.
func (w *watch) back(number int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kills[number].Back = w.now()
	w.living[w.kills[number].Peer] = true
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

// killed is the number of kills so far.
func (w *watch) killed() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.kills)
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
		if was, ok := w.finals[r.Round]; ok && was != b.String() {
			w.changed[r.Round] = true
		}
		w.finals[r.Round] = b.String()
	}
}

// follow asks a peer for its newest model until ctx ends, and every second for
// its final rounds.
func (w *watch) follow(ctx context.Context, peer process.Peer, session string) error {
	client, err := api.NewClient([]string{peer.URL}, api.ClientOptions{Passes: 1, ResponseTimeout: 5 * time.Second})
	if err != nil {
		return err
	}
	defer client.Close()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for from := uint64(1); ; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			rounds, err := client.Rounds(ctx, session, from, 200)
			if err != nil {
				continue // it is dead, or busy with its start
			}
			w.final(rounds)
			// Finality comes in order.
			if i := slices.IndexFunc(rounds, func(r api.RoundInfo) bool { return r.State != api.RoundFinal }); i >= 0 {
				rounds = rounds[:i]
			}
			from += uint64(len(rounds))
		}
	})
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for digest := ""; ctx.Err() == nil; {
		round, d, err := newer(ctx, transport, peer.URL, session, digest)
		switch {
		case err != nil:
			digest = "" // it may know less after a start
			pause(ctx, 30*time.Millisecond)
		case d != "":
			digest = d
			w.see(peer.Name, round, d)
		}
	}
	return nil
}

// newer waits for a peer to serve a newer model than the one with a digest, and
// says which, or that there is none. The model itself is not taken.
func newer(ctx context.Context, transport http.RoundTripper, url, session, digest string) (uint64, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	url += "/v1/sessions/" + session + "/model"
	if digest != "" {
		url += "?wait=2s&after=" + digest
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		round, err := strconv.ParseUint(resp.Header.Get("Fedmesh-Round"), 10, 64)
		return round, strings.Trim(resp.Header.Get("ETag"), `"`), err
	case http.StatusNoContent, http.StatusNotModified:
		return 0, "", nil
	}
	return 0, "", fmt.Errorf("kill: %s answers %s", url, resp.Status)
}

// pause waits a while or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
