package ledger_test

import (
	"fmt"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// Two peers exchange what they know and derive the same round.
func Example() {
	a, b := ledger.LogID{1}, ledger.LogID{2}
	here, there := ledger.New(), ledger.New()

	say := func(l *ledger.Ledger, log ledger.LogID, body ledger.Body) {
		if _, err := l.Append(log, body); err != nil {
			fmt.Println(err)
		}
	}
	merge := func(to, from *ledger.Ledger) {
		for _, log := range from.Vector().Logs() {
			for _, e := range from.Range(log, to.Vector()[log], from.Vector()[log]) {
				if _, err := to.Add(e); err != nil {
					fmt.Println(err)
				}
			}
		}
	}

	say(here, a, &ledger.PeerJoined{Name: "a"})
	say(there, b, &ledger.PeerJoined{Name: "b"})
	merge(here, there)

	config, seed, founders := ledger.Config{MinCombiners: 1}, model.Sum([]byte("seed")), []ledger.LogID{a, b}
	key := ledger.NewSessionKey("mnist", config, seed, founders)
	say(here, a, &ledger.SessionOpened{Session: key, Name: "mnist", Config: config, Seed: seed, Members: founders})
	merge(there, here)

	say(here, a, &ledger.UpdateHeld{Session: key, Combiner: "x", ID: "1", Weight: 3, Base: seed})
	say(there, b, &ledger.UpdateHeld{Session: key, Combiner: "y", ID: "1", Weight: 5, Base: seed})
	say(here, a, &ledger.RoundSealed{Session: key, Round: 1, Cut: here.Vector().Clone()})
	say(there, b, &ledger.RoundSealed{Session: key, Round: 1, Cut: there.Vector().Clone()})
	merge(here, there)
	merge(there, here)

	r := here.Session(key).Round(1)
	fmt.Println("updates:", len(r.Content), "weight:", r.Weight)
	fmt.Println("agreed:", r.Inputs == there.Session(key).Round(1).Inputs)
	// Output:
	// updates: 2 weight: 8
	// agreed: true
}
