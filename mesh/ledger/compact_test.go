package ledger_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// essence is what compaction leaves of a ledger's state: all but who held, sealed, computed or lost what in compacted rounds.
func essence(l *ledger.Ledger) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v\npeers %v\n", l.Vector(), l.Peers())
	for _, s := range l.Sessions() {
		closing, last := s.Closing()
		updates, lost := s.Waiting()
		pending, combiners := s.Pending()
		fmt.Fprintf(&b, "session %s open %d final %d closing %v %d waiting %s %v pending %s %d members %v\n", s.Key().Short(), s.Open(), s.Final(),
			closing, last, keysOf(updates), lost, keysOf(pending), combiners, s.Members(s.Open()))
		for n := uint64(1); n < s.Open(); n++ {
			r := s.Round(n)
			d, ok := s.Model(n)
			fmt.Fprintf(&b, " round %d inputs %s closing %v model %s %v content", n, r.Inputs.Short(), r.Closing, d.Short(), ok)
			for _, u := range r.Content {
				at, placed := s.PlacedIn(u.Key())
				fmt.Fprintf(&b, " %+v in %d %v known %v", *u, at, placed, s.Known(u.Key()).Same(u))
			}
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, " models %v publications %v divergences %v conflicts", s.Models(), s.Publications(), s.Divergences())
		for _, c := range s.Conflicts() {
			var others []string
			for _, u := range c.Others {
				others = append(others, fmt.Sprintf("%+v", *u))
			}
			slices.Sort(others)
			fmt.Fprintf(&b, " %v %v", c.Key, others)
		}
		for _, d := range s.Models() {
			n, _ := s.RoundOf(d)
			fmt.Fprintf(&b, " %s of %d", d.Short(), n)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func encode(t interface{ Fatal(...any) }, n *ledger.Snapshot) []byte {
	var b bytes.Buffer
	if err := n.Encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decode(t interface{ Fatal(...any) }, b []byte) *ledger.Snapshot {
	n, err := ledger.DecodeSnapshot(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// history is a ledger of an orderly run: rounds that all members seal and compute, with an update counted twice under one key, one
// that waits, one that was lost, and a peer that left. The logs are named by first and the bytes behind it.
func history(t interface{ Fatal(...any) }, rounds uint64, first byte) (*ledger.Ledger, ledger.SessionKey) {
	l := ledger.New()
	ids := []ledger.LogID{{first}, {first + 1}, {first + 2}}
	say := func(log ledger.LogID, b ledger.Body) {
		if _, err := l.Append(log, b); err != nil {
			t.Fatal(err)
		}
	}
	for i, id := range ids {
		say(id, &ledger.PeerJoined{Name: string(rune('a' + i)), Mesh: "m"})
	}
	seed := model.Sum([]byte("seed"))
	config := ledger.Config{Strategy: "fedavg", MinCombiners: 1, Copies: 2}
	key := ledger.NewSessionKey("s", config, seed, ids)
	say(ids[0], &ledger.SessionOpened{Session: key, Name: "s", Config: config, Seed: seed, Members: ids})
	held := func(id, combiner string, base uint64) *ledger.UpdateHeld {
		return &ledger.UpdateHeld{Session: key, Combiner: combiner, ID: id, Model: model.Sum([]byte(combiner + id)), Bytes: 8, Weight: 3, Base: seed, BaseRound: base}
	}
	for n := uint64(1); n <= rounds; n++ {
		u := held(fmt.Sprint(n), "x", n-1)
		say(ids[0], u)
		say(ids[1], u)
		if n == 2 {
			other := *u
			other.Weight = 4
			say(ids[2], &other)
			say(ids[1], held("ahead", "y", rounds+5))
		}
		for _, id := range ids {
			say(id, &ledger.RoundSealed{Session: key, Round: n, Cut: l.Vector().Clone()})
		}
		if n == 3 {
			say(ids[2], &ledger.UpdateLost{Session: key, Combiner: "x", ID: "3", Round: 3, Inputs: l.Session(key).Round(3).Inputs})
			say(ids[0], u) // held anew: a later round counts it
		}
		r := l.Session(key).Round(n)
		for _, id := range ids {
			say(id, &ledger.RoundComputed{
				Session: key, Round: n, Inputs: r.Inputs, Result: ledger.Result{Model: model.Sum(r.Inputs[:])}, Most: ledger.Most(r.Content), Seen: l.Vector().Clone(),
			})
		}
	}
	say(ids[2], &ledger.PeerLeft{Seen: l.Vector().Clone()})
	return l, key
}

func TestCompactionKeepsWhatCounts(t *testing.T) {
	l, key := history(t, 9, 1)
	before, all := essence(l), len(entries(l))
	if s := l.Session(key); s.Final() != 9 {
		t.Fatalf("round %d of 9 is final:\n%s", s.Final(), before)
	}
	dropped := l.CompactAll()
	s := l.Session(key)
	if s.Compacted() != 8 || dropped < all/2 {
		t.Errorf("%d of %d entries are dropped, round %d is compacted", dropped, all, s.Compacted())
	}
	if after := essence(l); after != before {
		t.Errorf("before\n%s\nafter\n%s", before, after)
	}
	if len(s.Conflicts()) != 1 || len(s.Publications()) < 9 {
		t.Errorf("%d conflicts, %d publications", len(s.Conflicts()), len(s.Publications()))
	}
	if !s.HeldWithin(ledger.Key{Combiner: "x", ID: "1"}, ledger.Vector{}) || len(s.Keys()) != 2 {
		t.Errorf("keys %v", s.Keys())
	}
	if l.CanServe(ledger.Vector{}) || !l.CanServe(l.Vector()) {
		t.Error("it can serve what it dropped, or not what nobody lacks")
	}
	// What is said again, or said late, about compacted rounds changes nothing.
	say := func(b ledger.Body) {
		if _, err := l.Append(ledger.LogID{2}, b); err != nil {
			t.Fatal(err)
		}
	}
	open, inputs := s.Open(), s.Round(8).Inputs
	say(&ledger.RoundSealed{Session: key, Round: 5, Cut: l.Vector().Clone()})
	say(&ledger.UpdateLost{Session: key, Combiner: "x", ID: "5", Round: 5, Inputs: s.Round(5).Inputs})
	say(&ledger.RoundsSkipped{Session: key, From: 2, To: 2, Seen: l.Vector().Clone(), Inputs: []model.Digest{s.Round(2).Inputs}})
	say(&ledger.UpdateDropped{Session: key, Combiner: "x", ID: "5"})
	if s = l.Session(key); s.Open() != open || s.Round(8).Inputs != inputs {
		t.Error("a late word changed a compacted round")
	}
}

// A snapshot says what its ledger's entries say: alone, and on top of any part of them.
func TestSnapshots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t, nil)
		m.run(rapid.IntRange(5, 80).Draw(t, "steps"))
		es := m.union()
		whole := load(t, es)
		want := essence(whole)
		whole.CompactAll()
		if got := essence(whole); got != want {
			t.Fatalf("compacted\n%s\nbefore\n%s", got, want)
		}
		b := encode(t, whole.Snapshot())
		n := decode(t, b)
		if again := encode(t, n); !bytes.Equal(again, b) {
			t.Fatal("another encoding")
		}
		some := ledger.New()
		for _, e := range rapid.Permutation(es).Draw(t, "order")[:rapid.IntRange(0, len(es)).Draw(t, "known")] {
			if _, err := some.Add(e); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 9).Draw(t, "look") == 0 {
				some.Sessions()
			}
		}
		for range 2 { // again changes nothing
			if _, err := some.Merge(n); err != nil {
				t.Fatal(err)
			}
			if got := essence(some); got != want || some.Outside() > 0 {
				t.Fatalf("with the snapshot, and %d outside\n%s\nwant\n%s", some.Outside(), got, want)
			}
		}
		for _, e := range es { // nor does what is known
			if admitted, err := some.Add(e); err != nil || len(admitted) > 0 {
				t.Fatalf("%v %v", admitted, err)
			}
		}
		// What comes after goes on from there.
		id := m.ids[0]
		if e, err := whole.Append(id, &ledger.PeerJoined{Name: "again", Mesh: "m"}); err == nil {
			if admitted, err := some.Add(e); err != nil || len(admitted) != 1 || essence(some) != essence(whole) {
				t.Fatalf("%v %v", admitted, err)
			}
		}
	})
}

// Who has compacted one session and never heard of another, and who has done the opposite, come to know both.
func TestSnapshotsCross(t *testing.T) {
	a, _ := history(t, 9, 1)
	b, _ := history(t, 7, 4)
	both := load(t, append(entries(a), entries(b)...))
	a.CompactAll()
	b.CompactAll()
	na, nb := decode(t, encode(t, a.Snapshot())), decode(t, encode(t, b.Snapshot()))
	for l, n := range map[*ledger.Ledger]*ledger.Snapshot{a: nb, b: na} {
		if _, err := l.Merge(n); err != nil || essence(l) != essence(both) {
			t.Errorf("%v, got\n%s\nwant\n%s", err, essence(l), essence(both))
		}
	}
}

// A log with two contents is refused, be it in a snapshot.
func TestSnapshotOfAFork(t *testing.T) {
	a, b := ledger.New(), ledger.New()
	for l, name := range map[*ledger.Ledger]string{a: "a", b: "b"} {
		for _, body := range []ledger.Body{&ledger.PeerJoined{Name: "p", Mesh: "m"}, &ledger.PeerJoined{Name: name, Mesh: "m"}} {
			if _, err := l.Append(ledger.LogID{1}, body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := a.Merge(b.Snapshot()); err == nil {
		t.Error("no error")
	}
	if p, _ := a.Peer(ledger.LogID{1}); p.Name != "a" {
		t.Errorf("the peer is %q", p.Name)
	}
}

func FuzzSnapshot(f *testing.F) {
	l, _ := history(f, 2, 1)
	f.Add(encode(f, l.Snapshot()))
	l.CompactAll()
	f.Add(encode(f, l.Snapshot()))
	f.Add(encode(f, ledger.New().Snapshot()))
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ledger.DecodeSnapshot(bytes.NewReader(b), 1<<20)
		if err != nil {
			return
		}
		if again := encode(t, n); !bytes.Equal(again, b) {
			t.Fatalf("%x becomes %x", b, again)
		}
		for _, l := range []*ledger.Ledger{ledger.New(), l} {
			if l.Vector()[ledger.LogID{1}] > 0 {
				l = ledger.New()
				known, _ := history(t, 2, 1)
				merge(t, l, known)
			}
			_, _ = l.Merge(n)
			_ = essence(l)
		}
	})
}
