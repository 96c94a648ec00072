package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestSessionCommands(t *testing.T) {
	p, sh := serve(t)
	p.info = nil
	if out := sh.ok(t, "session", "list"); out != "no sessions\n" {
		t.Errorf("%q", out)
	}
	seed := filepath.Join(t.TempDir(), "seed.safetensors")
	write(t, seed, f32(t, 0, 0, 0))
	create := []string{
		"session", "create", "digits", "--seed", seed, "--strategy", "fedadam", "--set", "eta=0.5", "--set", "tau=0.001", "--target-combiners", "6",
		"--min-combiners", "2", "--copies", "3", "--round-timeout", "30s", "--settle-timeout", "250ms", "--lost-after", "10s",
	}
	info := fromJSON[api.SessionInfo](t, sh.ok(t, append(create, "--json")...))
	c := info.Config
	if c.Strategy != "fedadam" || c.Params["eta"] != "0.5" || c.Params["tau"] != "0.001" || c.TargetCombiners != 6 || c.MinCombiners != 2 || c.Copies != 3 ||
		c.RoundTimeout.String() != "30s" || c.SettleTimeout.String() != "250ms" || c.LostAfter.String() != "10s" || info.Seed != digestOf(f32(t, 0, 0, 0)) {
		t.Errorf("%+v", info)
	}
	if out := sh.ok(t, create...); !strings.HasPrefix(out, "already open: digits") {
		t.Errorf("%q", out)
	}
	write(t, seed, f32(t, 1, 0, 0))
	checkError(t, sh.run(t, create...), exitRefused, "another seed")

	if out := sh.ok(t, "session", "list"); !strings.Contains(out, "digits") || !strings.Contains(out, "open") {
		t.Errorf("%q", out)
	}
	if got := fromJSON[[]api.SessionInfo](t, sh.ok(t, "session", "list", "--json")); len(got) != 1 || got[0].Name != "digits" {
		t.Errorf("%+v", got)
	}
	p.rounds = []api.RoundInfo{
		{Round: 1, State: api.RoundFinal, Model: strings.Repeat("1a", 32), Updates: make([]api.UpdateInfo, 6), Weight: 600, Metrics: map[string]float64{"loss": 1. / 3}, Computed: map[string]string{"b": strings.Repeat("1a", 32), "a": strings.Repeat("1a", 32)}},
		{Round: 2, State: api.RoundSettled, Model: strings.Repeat("2b", 32), Computed: map[string]string{"a": strings.Repeat("3c", 32)}, WaitingFor: []string{"b"}},
	}
	p.info.Privacy = &api.Privacy{NoiseMultiplier: 1.5, Published: 12, Rho: 0.5, Epsilon: 4.5678, Delta: 1e-5}
	out := sh.ok(t, "session", "show", "digits")
	if want := "epsilon 4.57 at delta 1e-05, after 12 models with noise 1.5"; !strings.Contains(out, want) {
		t.Errorf("%q is not in\n%s", want, out)
	}
	for _, want := range []string{"eta=0.5 tau=0.001", "at 6 combiners", "1      final    6        600     1a1a1a1a  loss=0.3333  a b", "2      settled  0        0       2b2b2b2b  -            a(!)  b"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if got := fromJSON[shown](t, sh.ok(t, "session", "show", "digits", "--json")); got.Session.Name != "digits" || len(got.Rounds) != 2 {
		t.Errorf("%+v", got)
	}
	if out := sh.ok(t, "session", "close", "digits"); !strings.HasPrefix(out, "digits is closing") {
		t.Errorf("%q", out)
	}
}

func TestStatus(t *testing.T) {
	p, sh := serve(t)
	one, two := strings.Repeat("1a", 32), strings.Repeat("2b", 32)
	p.mesh = api.MeshInfo{Self: "a", Mesh: "demo", Peers: []api.PeerInfo{
		{Name: "a", Log: one, State: api.PeerAlive, API: "127.0.0.1:8080", Rounds: map[string]api.RoundModel{"s": {Round: 3, Model: two}}},
		{Name: "b", Log: two, State: api.PeerAlive, API: "127.0.0.1:8081", VectorLag: 12, Rounds: map[string]api.RoundModel{"s": {Round: 2, Model: one}}},
		{Name: "c", Log: one, State: api.PeerDead, API: "127.0.0.1:8082", Rounds: map[string]api.RoundModel{"s": {Round: 3, Model: one}}},
		{Name: "d", Log: two, State: api.PeerAlive},
	}}
	opened := time.Now().Add(-50 * time.Hour)
	p.info.Model, p.info.ModelRound, p.info.Round, p.info.Config.TargetCombiners, p.info.Config.Copies = two, 3, 4, 4, 2
	p.rounds = []api.RoundInfo{
		{Round: 3, State: api.RoundSettled, Model: two, Computed: map[string]string{"a": two, "c": one}, Lost: []api.UpdateRef{{Combiner: "x", ID: "r2"}}},
		{Round: 4, State: api.RoundOpen, Opened: &opened, Updates: []api.UpdateInfo{{Combiner: "x", ID: "1", Copies: []string{"a", "b"}}, {Combiner: "x", ID: "2", Copies: []string{"a"}}, {Combiner: "y", ID: "1", Copies: []string{"a", "b"}}}},
	}
	want := `mesh demo as a sees it: 3 of 4 peers alive, NOT AGREED

PEER  STATE  LAG  API             MODELS
a *   alive  0    127.0.0.1:8080  agrees
b     alive  12   127.0.0.1:8081  s 2 behind
c     dead   0    127.0.0.1:8082  s 3 1a1a1a1a DIFFERS
d     alive  0    -               s none

SESSION  STATE  ROUND  UPDATES  MODEL     OF  AGE
s        open   4      2/4      2b2b2b2b  3   2d2h

PROBLEMS
  ! DIVERGENCE: session s, round 3: the same inputs gave different models: a
    have 2b2b2b2b, c have 1a1a1a1a. Keep the logs and compare the peers'
    machines and versions
  ! LOST: session s, round 3: update r2 of x, which no peer in reach holds; it
    returns when a holder does
  ! COPIES MISSING: session s, round 4: 1 update held by fewer than 2 peers;
    they copy what is missing by themselves
  ! DEAD: peer c; rounds do not become final without it. Start it again, or if
    it will not return: fedmesh forget c
`
	if got := sh.ok(t, "status"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := fromJSON[status](t, sh.ok(t, "status", "--json")); len(got.Problems) != 4 || got.Problems[0].Kind != "divergence" || got.Problems[0].Round != 3 || len(got.Rounds[p.info.Key]) != 2 {
		t.Errorf("%+v", got)
	}
	if got := fromJSON[status](t, sh.ok(t, "status", "--json")); got.Mesh.Agreed || len(got.Mesh.Peers) != 4 || len(got.Sessions) != 1 || got.Mesh.Peers[0].Rounds["s"].Model != two {
		t.Errorf("%+v", got)
	}
	want = `PEER  STATE  LAG  API             LOG
a     alive  0    127.0.0.1:8080  1a1a1a1a
b     alive  12   127.0.0.1:8081  2b2b2b2b
c     dead   0    127.0.0.1:8082  1a1a1a1a
d     alive  0    -               2b2b2b2b
`
	if got := sh.ok(t, "members"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := fromJSON[[]api.PeerInfo](t, sh.ok(t, "members", "--json")); len(got) != 4 {
		t.Errorf("%+v", got)
	}
}

// TestStatusFitsATerminal gives everything the longest names and many of it.
func TestStatusFitsATerminal(t *testing.T) {
	s := status{Mesh: api.MeshInfo{Self: "peer-00", Mesh: "production", Agreed: true}}
	for i := range 40 {
		p := api.PeerInfo{Name: fmt.Sprintf("peer-%02d", i), State: api.PeerAlive, API: strings.Repeat("host.", 20) + "example:8080", VectorLag: 1 << 40, Rounds: map[string]api.RoundModel{}}
		for j := range 3 {
			p.Rounds[sessionName(j)] = api.RoundModel{Round: 123456789, Model: strings.Repeat("ab", 32)}
		}
		s.Mesh.Peers = append(s.Mesh.Peers, p)
	}
	s.Mesh.Peers[8].State, s.Mesh.Peers[9].State = api.PeerDead, api.PeerDead
	s.Mesh.Peers[7].Name = strings.Repeat("p", 128)
	for j := range 3 {
		s.Sessions = append(s.Sessions, api.SessionInfo{Name: sessionName(j), State: api.SessionClosing, Round: 123456790})
	}
	s.Problems = findProblems(s)
	var out strings.Builder
	for _, l := range showStatus(s, width, time.Now()) {
		out.WriteString(l.text + "\n")
	}
	checkWidth(t, out.String())
	for i := range 40 {
		if name := s.Mesh.Peers[i].Name; i != 7 && !strings.Contains(out.String(), name) {
			t.Errorf("%s is missing", name)
		}
	}
}

func sessionName(i int) string { return fmt.Sprintf("%d-%s", i, strings.Repeat("s", 120)) }

func TestLeave(t *testing.T) {
	p, sh := serve(t)
	p.fail(api.LastMember())
	checkError(t, sh.run(t, "leave"), exitRefused, "last member")
	p.fail(nil)
	if out := sh.ok(t, "leave"); !strings.Contains(out, "has left") || !p.left {
		t.Errorf("%q", out)
	}
}
