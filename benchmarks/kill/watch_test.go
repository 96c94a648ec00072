package main

import (
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestWatchAgreement(t *testing.T) {
	now := 0.0
	w := newWatch([]string{"a", "b", "c"}, func() float64 { return now })
	at := func(t float64, peer string, round uint64, digest string) {
		now = t
		w.see(peer, round, digest)
	}
	at(1, "a", 1, "one")
	at(2, "b", 1, "one")
	now = 3
	k := w.kill("a")[0]
	at(3.5, "a", 2, "late") // the answer of one who is dead
	at(4, "c", 1, "one")    // not a later round
	at(5, "b", 3, "three")  // skips one
	if w.kills[k].Agree != 0 {
		t.Error("agreement without c")
	}
	at(6, "c", 2, "two")
	if got := w.kills[k]; got.Agree != 6 || got.After != 1 {
		t.Errorf("%+v", got)
	}
	if round, first := w.newest(); round != 3 || first != "b" {
		t.Errorf("newest %d by %s", round, first)
	}
	if w.finished[0] != 1 || w.finished[1] != 5 || w.finished[2] != 5 {
		t.Errorf("finished %v", w.finished)
	}
	now = 7
	w.back(k)
	k = w.kill("b")[0]
	at(8, "c", 4, "four")
	if w.kills[k].Agree != 0 {
		t.Error("agreement without a, which is back")
	}
	at(9, "a", 4, "other")
	if _, ok := w.agreed(); ok || w.kills[k].Agree != 0 {
		t.Error("agreement on two versions")
	}
	at(10, "a", 4, "four")
	if round, ok := w.agreed(); !ok || round != 4 || w.kills[k].Agree != 10 {
		t.Errorf("round %d, %v, %+v", round, ok, w.kills[k])
	}
}

func TestWatchFinals(t *testing.T) {
	w := newWatch([]string{"a"}, func() float64 { return 0 })
	final := api.RoundInfo{Round: 1, State: api.RoundFinal, Model: "m", Updates: []api.UpdateInfo{{Combiner: "c", ID: "1", Digest: "d"}}}
	settled := api.RoundInfo{Round: 2, State: api.RoundSettled, Model: "x"}
	w.final([]api.RoundInfo{final, settled})
	settled.Model, settled.State = "y", api.RoundFinal // it was not final before
	w.final([]api.RoundInfo{final, settled})
	if len(w.changed) != 0 {
		t.Errorf("changed: %v", w.changed)
	}
	final.Updates = nil
	w.final([]api.RoundInfo{final})
	if !w.changed[1] {
		t.Error("a final round that lost an update is not seen")
	}
}
