package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/wire"
)

// The whole command in small, both ways of counting.
func TestOverhead(t *testing.T) {
	if testing.Short() {
		t.Skip("builds fedmesh and starts processes")
	}
	ways := []string{wireSockets}
	if err := wire.Check(); err == nil {
		ways = append(ways, wireNamespaces)
	}
	for _, way := range ways {
		dir, out := t.TempDir(), t.TempDir()
		var stdout strings.Builder
		if err := execute(t.Context(), []string{"--quick", "--params", "200000", "--json", "--wire", way, "--dir", dir, "--out", out}, &stdout, os.Stderr); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		var r Report
		if err := json.Unmarshal([]byte(stdout.String()), &r); err != nil {
			t.Fatal(err)
		}
		large := r.Sizes[len(r.Sizes)-1]
		one, three := large.Costs[0], large.Costs[1]
		if one.Wire < 0.95 || one.Wire > 1.3 || three.Wire < 1.9 || three.Wire > 6 {
			t.Errorf("%s: %v and %v bytes per byte of update", way, one.Wire, three.Wire)
		}
		if one.Bound != 1 || three.Bound != 2.375 {
			t.Errorf("bounds %v and %v", one.Bound, three.Bound)
		}
		text, err := os.ReadFile(out + "/overhead.txt")
		if err != nil || !strings.Contains(string(text), "bytes to all peers") || strings.Contains(string(text), "NaN") {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

func TestParse(t *testing.T) {
	for _, args := range []string{"--params 0", "--params x", "--rounds -1", "--repeat 0", "--wire air", "more"} {
		var said strings.Builder
		if _, err := parse(strings.Fields(args), &said); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	c, err := parse(nil, os.Stderr)
	if err != nil || len(c.params) != 3 || c.roundsOf(10_000) <= c.roundsOf(1_000_000) || c.roundsOf(1_000_000) <= c.roundsOf(25_000_000) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestMedians(t *testing.T) {
	c := Cost{
		OnLoopback: []Run{{Updates: 10, CPU: 1, Bytes: 100, Written: 50}, {Updates: 10, CPU: 3, Bytes: 100, Written: 90}, {Updates: 10, CPU: 2, Bytes: 100, Written: 70}},
	}
	if c.conclude(1000); c.CPU != 0.2 || c.Wire != 0 {
		t.Errorf("%+v", c)
	}
	if c.conclude(reckonable); c.Wire != 1.7 {
		t.Errorf("reckoned %v", c.Wire)
	}
	c.OnWire = []Run{{Bytes: 100, Received: 240}, {Bytes: 100, Received: 260}}
	if c.conclude(1000); c.Wire != 2.5 {
		t.Errorf("counted %v", c.Wire)
	}
	if ratio(0, 1) != 0 || ratio(2, 5) != 2.5 {
		t.Error("ratios")
	}
}
