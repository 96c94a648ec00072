package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/report"
)

// A small run, with real processes: the answer is verified in it, and nothing is
// left behind.
func TestRun(t *testing.T) {
	if testing.Short() {
		t.Skip("builds fedmesh and starts processes")
	}
	bin, out, tmp := t.TempDir(), t.TempDir(), t.TempDir()
	fedmesh, err := build(t.Context(), bin)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--fedmesh", fedmesh, "--params", "40000", "--combiners", "3", "--repeat", "2", "--out", out, "--dir", tmp, "--json"}
	var stdout strings.Builder
	if err := run(t.Context(), args, &stdout, os.Stderr); err != nil {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal([]byte(stdout.String()), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Runs) != 4 {
		t.Fatalf("%d runs", len(r.Runs))
	}
	for _, x := range r.Runs {
		if x.Acked <= 0 || x.First <= 0 || x.Served < x.First || x.Copy <= 0 || x.Sum <= 0 {
			t.Errorf("%+v", x)
		}
	}
	for _, name := range []string{"throughput.txt", "throughput.png", "throughput.svg"} {
		if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if run(ctx, args, &stdout, os.Stderr) == nil {
		t.Error("a cancelled run succeeded")
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("a cancelled run left behind: %v, %v", left, err)
	}
}
