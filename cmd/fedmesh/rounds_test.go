package main

import (
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestRounds(t *testing.T) {
	p, sh := serve(t)
	one, two := strings.Repeat("1a", 32), strings.Repeat("2b", 32)
	p.rounds = []api.RoundInfo{
		{
			Round: 1, State: api.RoundFinal, Model: one, Weight: 600, Metrics: map[string]float64{"loss": 1. / 3, "accuracy": 0.9},
			Computed: map[string]string{"a": one, "b": two}, WaitingFor: []string{"c"}, Lost: []api.UpdateRef{{Combiner: "z", ID: "r0"}},
			Updates: []api.UpdateInfo{{Combiner: "x", ID: "r0-1", Weight: 600, Digest: two, Base: one, Copies: []string{"a", "b"}}},
		},
		{Round: 2, State: api.RoundOpen},
	}
	want := `ROUND  STATE  UPDATES  WEIGHT  MODEL     METRICS               BY      WAITS FOR
1      final  1        600     1a1a1a1a  accuracy=0.9 loss=0…  a b(!)  c
2      open   0        0       -         -                     -       -
`
	if out := sh.ok(t, "rounds", "s"); out != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
	out := sh.ok(t, "rounds", "s", "--round", "1")
	for _, want := range []string{
		"round        1, final", "metrics      accuracy=0.9 loss=0.3333", "DIVERGENCE   a have 1a1a1a1a, b have 2b2b2b2b", "lost         z/r0",
		"x         r0-1  600     2b2b2b2b  1a1a1a1a  0         a b",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if got := fromJSON[[]api.RoundInfo](t, sh.ok(t, "rounds", "s", "--json")); len(got) != 2 || got[0].Metrics["accuracy"] != 0.9 {
		t.Errorf("%+v", got)
	}
	if got := fromJSON[api.RoundInfo](t, sh.ok(t, "rounds", "s", "--round", "2", "--json")); got.Round != 2 || got.State != api.RoundOpen {
		t.Errorf("%+v", got)
	}
	checkError(t, sh.run(t, "rounds", "s", "--round", "3"), exitNotFound, "round 3", "fedmesh rounds")
	checkError(t, sh.run(t, "rounds", "other"), exitNotFound, "other")
}

func TestShorten(t *testing.T) {
	for _, c := range []struct {
		text string
		n    int
		want string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "ab…"},
		{"日本語", 6, "日本語"},
		{"日本語", 5, "日本…"},
		{"日本語", 4, "日…"},
		{"e\u0301e\u0301e\u0301", 2, "e\u0301…"}, // a letter and its accent are one
	} {
		if got := shorten(c.text, c.n); got != c.want || columns(got) > c.n {
			t.Errorf("%q in %d columns: %q, of %d", c.text, c.n, got, columns(got))
		}
	}
}
