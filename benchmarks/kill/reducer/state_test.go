package reducer_test

import (
	"reflect"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/kill/reducer"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// script applies commands to a state, and says what became of each.
func script(t *testing.T, s *reducer.State, commands ...reducer.Command) (outcomes []string) {
	t.Helper()
	for _, c := range commands {
		r, err := s.Apply(c)
		if err != nil {
			t.Fatal(err)
		}
		outcomes = append(outcomes, r.Outcome)
	}
	return outcomes
}

func open() reducer.Command {
	cfg := api.DefaultSessionConfig()
	return reducer.Command{Kind: reducer.KindOpen, Name: "s", Config: &cfg, Digest: "seed"}
}

func update(combiner, id, digest, base string) reducer.Command {
	return reducer.Command{Kind: reducer.KindUpdate, Update: &api.UpdateInfo{Combiner: combiner, ID: id, Digest: digest, Base: base, Weight: 1}}
}

func round(n uint64, model string, inputs ...api.UpdateRef) reducer.Command {
	return reducer.Command{Kind: reducer.KindRound, Round: n, Digest: model, Inputs: inputs}
}

func TestState(t *testing.T) {
	s, err := reducer.Restore(nil)
	if err != nil {
		t.Fatal(err)
	}
	a, b := api.UpdateRef{Combiner: "a", ID: "1"}, api.UpdateRef{Combiner: "b", ID: "1"}
	got := script(
		t, s,
		round(1, "m"), // before there is a session
		open(),
		open(),
		update("b", "1", "ub", "seed"),
		update("a", "1", "ua", "seed"),
		update("a", "1", "ua", "seed"), // a retry
		update("a", "1", "uz", "seed"), // its key with other bytes
		round(2, "m", a),               // not the open one
		round(1, "m", a, a),
		round(1, "m", api.UpdateRef{Combiner: "c", ID: "1"}), // nobody's
		round(1, "m1", a),
		round(1, "m1", a),              // twice
		update("a", "1", "ua", "seed"), // a retry after the round
		update("a", "2", "ua2", "m1"),
		round(2, "m2", b),
		reducer.Command{Kind: reducer.KindEnd},
		update("c", "1", "uc", "m1"), // too late
		update("a", "2", "ua2", "m1"),
		round(3, "m3", api.UpdateRef{Combiner: "a", ID: "2"}),
		reducer.Command{Kind: reducer.KindEnd},
		round(4, "m4"),
	)
	want := []string{
		"stale", "", "duplicate", "", "", "duplicate", "conflict", "stale", "stale", "stale", "", "stale", "duplicate", "", "", "", "closed", "duplicate", "", "", "stale",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("outcomes %q\nwant     %q", got, want)
	}
	info := s.Info()
	if info.State != api.SessionClosed || info.Round != 3 || info.Model != "m3" || len(s.List(1, 10)) != 3 {
		t.Errorf("%+v", info)
	}
	if u := s.Rounds[2].Updates[0]; u.BaseRound != 1 {
		t.Errorf("base round %d", u.BaseRound)
	}
}

// A state that was restored goes on like the one that was not.
func TestSnapshot(t *testing.T) {
	s, _ := reducer.Restore(nil)
	script(t, s, open(), update("a", "1", "ua", "seed"), round(1, "m1", api.UpdateRef{Combiner: "a", ID: "1"}), update("b", "1", "ub", "m1"))
	b, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	again, err := reducer.Restore(b)
	if err != nil {
		t.Fatal(err)
	}
	rest := []reducer.Command{
		update("a", "1", "ua", "seed"),
		update("b", "1", "ub", "m1"),
		update("b", "1", "x", "m1"),
		update("c", "1", "uc", "m1"),
		{Kind: reducer.KindEnd},
		round(2, "m2", api.UpdateRef{Combiner: "b", ID: "1"}, api.UpdateRef{Combiner: "c", ID: "1"}),
	}
	if x, y := script(t, s, rest...), script(t, again, rest...); !reflect.DeepEqual(x, y) {
		t.Errorf("%q and %q", x, y)
	}
	x, _ := s.Snapshot()
	if y, _ := again.Snapshot(); string(x) != string(y) {
		t.Errorf("%s\n%s", x, y)
	}
	if _, err := reducer.Restore([]byte("{")); err == nil {
		t.Error("half a snapshot was restored")
	}
	if _, err := s.Apply(reducer.Command{Kind: "x"}); err == nil {
		t.Error("an unknown command was applied")
	}
}
