package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestForget(t *testing.T) {
	p, sh := serve(t)
	var asked []string
	p.forget = func(peers []string) (api.Forgetting, error) {
		asked = peers
		return api.Forgetting{Peers: []string{"c", "d"}, Logs: []string{"cc", "dd"}, Done: true}, nil
	}
	if r := sh.run(t, "forget", "d", "c"); r.code != exitOK || r.out != "forgotten: c, d\n" || r.err != "" || !slices.Equal(asked, []string{"d", "c"}) {
		t.Errorf("%+v, asked for %v", r, asked)
	}
	if f := fromJSON[api.Forgetting](t, sh.ok(t, "forget", "c", "d", "--json")); !f.Done || len(f.Logs) != 2 {
		t.Errorf("%+v", f)
	}

	// It says who is awaited, and what becomes of the proposal when that takes too long.
	p.forget = func([]string) (api.Forgetting, error) {
		return api.Forgetting{Peers: []string{"c"}, Logs: []string{"cc"}, WaitingFor: []string{"a", "b"}}, nil
	}
	p.mesh = api.MeshInfo{Self: "a", Mesh: "demo", Agreed: true, Peers: []api.PeerInfo{
		{Name: "a", Log: "aa", State: api.PeerAlive},
		{Name: "c", Log: "cc", State: api.PeerForgetting, WaitingFor: []string{"b"}},
	}}
	times := 0
	p.asked = func() { // b is awaited at first, and then nobody
		if times++; times == 3 {
			p.mesh.Peers[1].State, p.mesh.Peers[1].WaitingFor = api.PeerForgotten, nil
		}
	}
	const waits = "proposed to forget c; waiting for a, b\nproposed to forget c; waiting for b\n"
	if r := sh.run(t, "forget", "c", "--wait", "1m"); r.code != exitOK || r.out != "forgotten: c\n" || r.err != waits {
		t.Errorf("%+v", r)
	}
	p.asked = nil
	p.mesh.Peers[1].State, p.mesh.Peers[1].WaitingFor = api.PeerForgetting, []string{"a", "b"}
	r := sh.run(t, "forget", "c", "--wait", "50ms")
	if want := "proposed to forget c; waiting for a, b\nfedmesh: not forgotten after 50ms: c; waiting for a, b\n  next: the proposal stands"; r.code != exitTimeout || r.out != "" || !strings.HasPrefix(r.err, want) {
		t.Errorf("%+v, want %q", r, want)
	}
	p.mesh.Peers[1].WaitingFor = []string{"b"}
	for _, cmd := range []string{"members", "status"} {
		if out := sh.ok(t, cmd); !strings.Contains(out, "forgetting: waiting for b") {
			t.Errorf("%s: %s", cmd, out)
		}
	}
	p.mesh.Peers[1].State, p.mesh.Peers[1].WaitingFor = api.PeerForgotten, nil
	if r := sh.run(t, "forget", "c"); r.code != exitOK || r.out != "forgotten: c\n" {
		t.Errorf("%+v", r)
	}
	if out := sh.ok(t, "members"); !strings.Contains(out, "c     forgotten") {
		t.Errorf("%s", out)
	}

	p.fail(api.TooFewRemain("s", 3, 2, 4))
	checkError(t, sh.run(t, "forget", "c", "d"), exitRefused, "2 of 4 members", "fedmesh members")
	p.fail(api.UnknownPeer("x", "no peer of this name"))
	checkError(t, sh.run(t, "forget", "x"), exitNotFound, `"x"`, "fedmesh members")
	p.fail(nil)
	checkError(t, sh.run(t, "forget"), exitUsage, "arg")
	checkError(t, sh.run(t, "forget", "c", "--wait", "-1s"), exitUsage, "--wait")
}
