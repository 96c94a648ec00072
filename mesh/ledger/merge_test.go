package ledger_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// Whatever order, however often and in however many pieces the entries arrive, the state is the same.
func TestStateIsAFunctionOfTheEntries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t, nil)
		m.run(rapid.IntRange(5, 60).Draw(t, "steps"))
		es := m.union()
		want := fingerprint(load(t, es))

		delivered := append(rapid.Permutation(es).Draw(t, "order"), rapid.SliceOf(rapid.SampledFrom(es)).Draw(t, "again")...)
		l := ledger.New()
		for i, e := range delivered {
			if _, err := l.Add(e); err != nil {
				t.Fatal(err)
			}
			if i%7 == 0 {
				l.Sessions() // derive now and then
			}
		}
		if l.Outside() != 0 {
			t.Fatalf("%d entries were not admitted", l.Outside())
		}
		if got := fingerprint(l); got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	})
}

// Merging is a join: idempotent, commutative and associative.
func TestMergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t, nil)
		m.run(rapid.IntRange(5, 60).Draw(t, "steps"))
		join := func(ls ...*ledger.Ledger) *ledger.Ledger {
			out := ledger.New()
			for _, l := range ls {
				merge(t, out, l)
				fingerprint(out)
			}
			return out
		}
		same := func(law string, a, b *ledger.Ledger) {
			if fa, fb := fingerprint(a), fingerprint(b); fa != fb {
				t.Fatalf("merging is not %s:\n%s\n%s", law, fa, fb)
			}
		}
		a, b, c := m.ls[0], m.ls[1], m.ls[len(m.ls)-1]
		same("idempotent", join(a, a), a)
		same("commutative", join(a, b), join(b, a))
		same("associative", join(join(a, b), c), join(a, join(b, c)))
	})
}

// Deriving step by step equals deriving from scratch, at every peer after every step.
func TestIncrementalEqualsScratch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t, func(l *ledger.Ledger) {
			if got, want := fingerprint(l), fingerprint(scratch(t, l)); got != want {
				t.Fatalf("step by step\n%s\nfrom scratch\n%s", got, want)
			}
		})
		m.run(rapid.IntRange(5, 40).Draw(t, "steps"))
	})
}

// No vector ever includes an entry that names something that is not held.
func TestCausalAdmission(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t, nil)
		m.run(rapid.IntRange(5, 60).Draw(t, "steps"))
		l := ledger.New()
		for _, e := range rapid.Permutation(m.union()).Draw(t, "order") {
			before := l.Vector().Clone()
			admitted, err := l.Add(e)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range admitted { // in an order in which they may be added to another ledger
				if before[e.Log] != e.Seq-1 || !before.Covers(namedBy(e.Body)) {
					t.Fatalf("%v was admitted on top of %v", e.Ref(), before)
				}
				before[e.Log] = e.Seq
			}
			if !before.Covers(l.Vector()) {
				t.Fatalf("the vector is %v, what was admitted %v", l.Vector(), before)
			}
			if l.Outside() > 0 && len(l.Wanting()) == 0 {
				t.Fatal("entries wait for nothing")
			}
		}
	})
}

func namedBy(b ledger.Body) ledger.Vector {
	switch b := b.(type) {
	case *ledger.RoundSealed:
		return b.Cut
	case *ledger.PeerLeft:
		return b.Seen
	case *ledger.RoundsSkipped:
		return b.Seen
	case *ledger.RoundComputed:
		return b.Seen
	case *ledger.ForgetAcknowledged:
		v := b.Upto.Clone()
		v.Join(ledger.Vector{b.Proposal.Log: b.Proposal.Seq})
		return v
	case *ledger.PeerForgotten:
		return first(b.Targets)
	case *ledger.SessionOpened:
		return first(b.Members)
	}
	return nil
}

func first(logs []ledger.LogID) ledger.Vector {
	v := ledger.Vector{}
	for _, l := range logs {
		v[l] = 1
	}
	return v
}

// Each update is in at most one round, newer than its base; rounds stay within the weight; round numbers follow each other.
func TestContents(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMesh(t, nil)
		m.run(rapid.IntRange(5, 80).Draw(t, "steps"))
		s := load(t, m.union()).Session(m.key)
		seen := map[ledger.Key]bool{}
		for n := uint64(1); n < s.Open(); n++ {
			r := s.Round(n)
			if r.Weight > ledger.MaxWeight {
				t.Fatalf("round %d weighs %d", n, r.Weight)
			}
			combiners := map[string]bool{}
			for _, u := range r.Content {
				if seen[u.Key()] || u.BaseRound >= n {
					t.Fatalf("%v with base round %d is in round %d", u.Key(), u.BaseRound, n)
				}
				seen[u.Key()], combiners[u.Combiner] = true, true
			}
			if !s.Round(n-1).Closing && len(combiners) > 0 && len(combiners) < int(s.Config().MinCombiners) {
				t.Fatalf("round %d has %d combiners", n, len(combiners))
			}
		}
	})
}
