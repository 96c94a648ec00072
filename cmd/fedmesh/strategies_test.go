package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// noPeers is a shell whose peers do not exist: what works in it asks nobody.
func noPeers() shell {
	return shell{env: map[string]string{"FEDMESH_PEERS": "http://127.0.0.1:1", "FEDMESH_TRIES": "1"}}
}

func TestStrategiesAreListed(t *testing.T) {
	out := noPeers().ok(t, "session", "strategies")
	checkWidth(t, out)
	infos := fromJSON[[]strategyInfo](t, noPeers().ok(t, "session", "strategies", "--json"))
	want := aggregate.Strategies()
	if len(infos) != len(want) || len(want) < 11 {
		t.Fatalf("%d strategies, want %d", len(infos), len(want))
	}
	squeezed := strings.Join(strings.Fields(out), " ")
	for i, w := range want {
		if got := infos[i]; got.Name != w.Name || got.Summary != w.Summary || got.Paper != w.Paper || len(got.Params) != len(w.Params) || got.Combiners < 1 {
			t.Errorf("%+v", got)
		}
		if !strings.Contains("\n"+out, "\n"+w.Name+"\n") || !strings.Contains(squeezed, w.Summary+" "+w.Paper) {
			t.Errorf("%s, its summary or its paper is not in\n%s", w.Name, out)
		}
		for k, p := range w.Params {
			if got := infos[i].Params[k]; got != (strategyParam{p.Name, p.Default, p.Values, p.Summary}) {
				t.Errorf("%s: %+v", w.Name, got)
			}
			if line := p.Name + "=" + p.Default + " " + p.Values + " " + p.Summary; !strings.Contains(squeezed, line) {
				t.Errorf("%s: no %q in\n%s", w.Name, line, out)
			}
		}
	}
}

func TestSomeStrategiesAreListed(t *testing.T) {
	want := `fedtrimmedavg
    mean of the updates without the largest and smallest, element by element;
    weights do not count
    Yin et al., Byzantine-robust distributed learning: towards optimal
    statistical rates, ICML 2018, option II
  beta=0.2  a number, 0 ≤ x < 0.5
      share of the updates, rounded down, that is cut off at either end
`
	if got := noPeers().ok(t, "session", "strategies", "fedtrimmedavg"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	infos := fromJSON[[]strategyInfo](t, noPeers().ok(t, "session", "strategies", "krum", "fedmedian", "--json"))
	if len(infos) != 2 || infos[0].Name != "fedmedian" || infos[1].Name != "krum" || infos[1].Combiners != 3 || infos[0].Params == nil {
		t.Errorf("%+v", infos)
	}
	checkError(t, noPeers().run(t, "session", "strategies", "krumm"), exitUsage, `"krumm"`, "multikrum")
}

// What can be known to be wrong is refused before a peer is asked, and wrong usage is what it is.
func TestWrongStrategiesAreNotSent(t *testing.T) {
	seed := filepath.Join(t.TempDir(), "seed.safetensors")
	write(t, seed, f32(t, 0))
	for _, c := range []struct {
		args string
		says []string
	}{
		{"--strategy krumm", []string{`"krumm"`, "bulyan, ", "fedavg, ", "krum, multikrum", "session strategies"}},
		{"--strategy krum --set f=1", []string{`"f"`, "num_malicious_clients, num_clients_to_keep, weighting", "session strategies"}},
		{"--set staleness=linear", []string{`"linear"`, "constant or polynomial", "session strategies"}},
		{"--strategy krum --set num_malicious_clients=-1,weighting=no", []string{`"-1"`, "0 ≤ x ≤ 1048576", `"no"`, "uniform or examples"}},
		{"--strategy krum --set num_malicious_clients=1 --target-combiners 4", []string{"5 combiners", "--target-combiners 5"}},
		{"--strategy bulyan --set num_malicious_clients=2 --target-combiners 10 --min-combiners 10", []string{"11 combiners"}},
	} {
		args := append([]string{"session", "create", "n", "--seed", seed}, strings.Fields(c.args)...)
		checkError(t, noPeers().run(t, args...), exitUsage, c.says...)
	}
}

func TestStrategyIsSent(t *testing.T) {
	p, sh := serve(t)
	p.info = nil
	seed := filepath.Join(t.TempDir(), "seed.safetensors")
	write(t, seed, f32(t, 0))
	info := fromJSON[api.SessionInfo](t, sh.ok(t, "session", "create", "n", "--seed", seed, "--strategy", "multikrum",
		"--set", "num_malicious_clients=1", "--set", "weighting=examples", "--target-combiners", "5", "--json"))
	if c := info.Config; c.Strategy != "multikrum" || c.Params["num_malicious_clients"] != "1" || c.Params["weighting"] != "examples" || len(c.Params) != 2 {
		t.Errorf("%+v", c)
	}
	// Noise without a secret is for the mesh to refuse: only its peers know whether they have one.
	p.info = nil
	sh.ok(t, "session", "create", "n", "--seed", seed, "--set", "clip_norm=1", "--set", "dp_noise_multiplier=1")
}

func TestWrap(t *testing.T) {
	text := strings.Repeat("ö ", 40) + strings.Repeat("long", 30)
	lines := strings.Split(wrap(text, "  "), "\n")
	if want := []string{"  " + strings.TrimSpace(strings.Repeat("ö ", 39)), "  ö", "  " + strings.Repeat("long", 30), ""}; !slices.Equal(lines, want) {
		t.Errorf("%q", lines)
	}
}
