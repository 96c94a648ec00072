package ledger_test

import (
	"testing"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// A round that was computed from two contents has two versions; one that two peers computed differently from the same content diverges.
func TestMadeCountsVersionsAndTellsDivergence(t *testing.T) {
	a, b := ledger.LogID{1}, ledger.LogID{2}
	l := ledger.New()
	say := func(log ledger.LogID, body ledger.Body) {
		t.Helper()
		if _, err := l.Append(log, body); err != nil {
			t.Fatal(err)
		}
	}
	say(a, &ledger.PeerJoined{Name: "a"})
	say(b, &ledger.PeerJoined{Name: "b"})
	config, seed, founders := ledger.Config{MinCombiners: 1}, model.Sum([]byte("seed")), []ledger.LogID{a, b}
	key := ledger.NewSessionKey("s", config, seed, founders)
	say(a, &ledger.SessionOpened{Session: key, Name: "s", Config: config, Seed: seed, Members: founders})
	say(a, &ledger.UpdateHeld{Session: key, Combiner: "x", ID: "1", Weight: 3, Base: seed})
	say(a, &ledger.RoundSealed{Session: key, Round: 1, Cut: l.Vector().Clone()})
	made := func(versions int, divergent bool) {
		t.Helper()
		if n, d := l.Session(key).Made(1); n != versions || d != divergent {
			t.Fatalf("%d versions, divergent %v; want %d, %v", n, d, versions, divergent)
		}
	}
	computes := func(log ledger.LogID, result string) {
		t.Helper()
		say(log, &ledger.RoundComputed{Session: key, Round: 1, Inputs: l.Session(key).Round(1).Inputs, Result: ledger.Result{Model: model.Sum([]byte(result))}, Most: 1, Seen: l.Vector().Clone()})
	}
	made(0, false)
	computes(a, "one")
	made(1, false)
	say(b, &ledger.UpdateHeld{Session: key, Combiner: "y", ID: "1", Weight: 5, Base: seed})
	say(b, &ledger.RoundSealed{Session: key, Round: 1, Cut: l.Vector().Clone()})
	computes(a, "two")
	made(2, false)
	computes(b, "three")
	made(2, true)
	if n := len(l.Session(key).Divergences()); n != 1 {
		t.Fatalf("%d divergences", n)
	}
}
