package ledger_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// chain returns a log of n entries.
func chain(log ledger.LogID, n int, mesh string) []*ledger.Entry {
	var out []*ledger.Entry
	var prev model.Digest
	for i := range n {
		e := ledger.NewEntry(log, uint64(i+1), prev, &ledger.PeerJoined{Name: "a", Mesh: mesh})
		out, prev = append(out, e), e.Digest
	}
	return out
}

// A directory that was copied makes two contents for one place of a log: whoever sees both refuses the second and names the log.
func TestClonedLog(t *testing.T) {
	id := ledger.LogID{0xab, 0xcd}
	one, other := chain(id, 3, "m"), chain(id, 3, "n")
	for name, order := range map[string][]*ledger.Entry{
		"admitted":          {one[0], one[1], other[1]},
		"waiting":           {one[2], other[2]},
		"does not continue": {one[0], other[1]},
	} {
		t.Run(name, func(t *testing.T) {
			l := ledger.New()
			for i, e := range order {
				_, err := l.Add(e)
				if i < len(order)-1 {
					if err != nil {
						t.Fatal(err)
					}
					continue
				}
				if !errors.Is(err, ledger.ErrForked) || !strings.Contains(err.Error(), id.String()) {
					t.Fatalf("got %v", err)
				}
			}
			before := fingerprint(l)
			for _, e := range order { // and it goes on with what it has
				_, _ = l.Add(e)
			}
			if got := fingerprint(l); got != before {
				t.Fatalf("got %s, had %s", got, before)
			}
		})
	}
}

// A false entry that came first gives way to the one that continues the chain.
func TestFalseEntryGivesWay(t *testing.T) {
	one, other := chain(ledger.LogID{1}, 3, "m"), chain(ledger.LogID{1}, 3, "n")
	l := ledger.New()
	for _, e := range []*ledger.Entry{other[1], one[0], one[1], one[2]} {
		_, _ = l.Add(e)
	}
	if n := l.Vector()[ledger.LogID{1}]; n != 3 || l.Outside() != 0 {
		t.Fatalf("%d entries, %d outside", n, l.Outside())
	}
}

func TestNothingAfterLeaving(t *testing.T) {
	id := ledger.LogID{1}
	l := load(t, chain(id, 1, "m"))
	left, err := l.Append(id, &ledger.PeerLeft{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Append(id, &ledger.PeerLeft{}); err == nil {
		t.Fatal("a log goes on behind its end")
	}
	if _, err := l.Add(ledger.NewEntry(id, 3, left.Digest, &ledger.PeerLeft{})); !errors.Is(err, ledger.ErrForked) {
		t.Fatal(err)
	}
}

func TestAppendNamesOnlyWhatIsHeld(t *testing.T) {
	id := ledger.LogID{1}
	l := load(t, chain(id, 1, "m"))
	if _, err := l.Append(id, &ledger.RoundSealed{Round: 1, Cut: ledger.Vector{{2}: 1}}); err == nil {
		t.Fatal("a seal names a log that is not held")
	}
}

// What waits is bounded, and what can be admitted is admitted all the same.
func TestOutsideIsBounded(t *testing.T) {
	id := ledger.LogID{1}
	es := chain(id, 1<<14+3, "m")
	l := ledger.New()
	for _, e := range es[2:] {
		_, err := l.Add(e)
		if full := l.Outside() == 1<<14; err != nil && (!full || !errors.Is(err, ledger.ErrFull)) {
			t.Fatal(err)
		}
	}
	if l.Outside() != 1<<14 {
		t.Fatalf("%d wait", l.Outside())
	}
	for _, e := range es[:2] {
		if _, err := l.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	if n := l.Vector()[id]; n != 1<<14+2 {
		t.Fatalf("%d were admitted", n)
	}
}

func TestOutsideIsBoundedInBytes(t *testing.T) {
	l := ledger.New()
	big := strings.Repeat("x", 1<<19)
	var err error
	for i := 0; i < 1000 && err == nil; i++ {
		_, err = l.Add(ledger.NewEntry(ledger.LogID{byte(i), byte(i >> 8)}, 2, model.Digest{}, &ledger.PeerJoined{Name: big}))
	}
	if !errors.Is(err, ledger.ErrFull) || l.Outside() > 128 {
		t.Fatalf("%d wait: %v", l.Outside(), err)
	}
}

// A session's key is the digest of what it was opened with, so an opening that lies about it opens nothing.
func TestFalseOpening(t *testing.T) {
	id := ledger.LogID{1}
	l := load(t, chain(id, 1, "m"))
	honest := ledger.SessionOpened{Name: "s", Seed: model.Sum([]byte("s")), Members: []ledger.LogID{id}}
	honest.Session = ledger.NewSessionKey(honest.Name, honest.Config, honest.Seed, honest.Members)
	lie := honest
	lie.Name = "t"
	for _, o := range []ledger.SessionOpened{lie, honest} {
		if _, err := l.Append(id, &o); err != nil {
			t.Fatal(err)
		}
		if s := l.Session(honest.Session); (s != nil) != (o.Name == "s") {
			t.Fatalf("opening %q gives %v", o.Name, s)
		}
	}
}

// Of two sessions of one name the smaller key has it, until another has closed a round.
func TestResolve(t *testing.T) {
	id := ledger.LogID{1}
	l := load(t, chain(id, 1, "m"))
	var keys []ledger.SessionKey
	for _, seed := range []string{"p", "q"} {
		o := &ledger.SessionOpened{Name: "s", Seed: model.Sum([]byte(seed)), Members: []ledger.LogID{id}}
		o.Session = ledger.NewSessionKey(o.Name, o.Config, o.Seed, o.Members)
		if _, err := l.Append(id, o); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Session)
	}
	small, large := l.Sessions()[0].Key(), l.Sessions()[1].Key()
	if s, clash := l.Resolve("s"); s.Key() != small || len(clash) != 1 || clash[0] != large {
		t.Fatalf("%v resolves to %s, clash %v", keys, s.Key(), clash)
	}
	if _, err := l.Append(id, &ledger.RoundSealed{Session: large, Round: 1, Cut: l.Vector().Clone()}); err != nil {
		t.Fatal(err)
	}
	if s, clash := l.Resolve("s"); s.Key() != large || len(clash) != 1 || clash[0] != small {
		t.Fatalf("resolves to %s, clash %v", s.Key(), clash)
	}
	if s, _ := l.Resolve("t"); s != nil {
		t.Fatal("an unknown name resolves")
	}
}
