package ledger_test

import (
	"fmt"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// BenchmarkPending admits updates with two holders each, all pending, and asks after each entry what the open round has.
func BenchmarkPending(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				pending(b, n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(2*n), "ns/entry")
		})
	}
}

func pending(tb testing.TB, n int) {
	x, y := ledger.LogID{1}, ledger.LogID{2}
	l := ledger.New()
	say := func(log ledger.LogID, body ledger.Body) {
		if _, err := l.Append(log, body); err != nil {
			tb.Fatal(err)
		}
	}
	say(x, &ledger.PeerJoined{Name: "x", Mesh: "m"})
	say(y, &ledger.PeerJoined{Name: "y", Mesh: "m"})
	c := ledger.Config{Strategy: "fedavg", MinCombiners: 1, Copies: 2}
	seed, members := model.Sum([]byte("seed")), []ledger.LogID{x, y}
	key := ledger.NewSessionKey("s", c, seed, members)
	say(x, &ledger.SessionOpened{Session: key, Name: "s", Config: c, Seed: seed, Members: members})
	for i := range n {
		u := &ledger.UpdateHeld{
			Session: key, Combiner: fmt.Sprint("combiner-", i), ID: "1", Model: model.Sum([]byte{byte(i)}), Weight: 1, Base: seed,
			Metrics: []ledger.Metric{{Name: "accuracy", Value: 0.5}, {Name: "loss", Value: 0.5}},
		}
		for _, log := range members {
			say(log, u)
			if us, combiners := l.Session(key).Pending(); len(us) != i+1 || combiners != i+1 {
				tb.Fatalf("%d updates of %d combiners, want %d", len(us), combiners, i+1)
			}
		}
	}
}
