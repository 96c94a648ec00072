package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A small run of fedmesh's side, with real processes: the model is verified in
// it, what was not measured is said, and nothing is left behind.
func TestRun(t *testing.T) {
	bin, out, tmp := t.TempDir(), t.TempDir(), t.TempDir()
	fedmesh, err := build(t.Context(), bin)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--fedmesh", fedmesh, "--quick", "--without-python", "--repeat", "2", "--out", out, "--dir", tmp, "--json"}
	var stdout strings.Builder
	if err := run(t.Context(), args, &stdout, os.Stderr); err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal([]byte(stdout.String()), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Runs) != 4 || len(r.Memory) != 3 || !r.Quick || len(r.Model) != 64 {
		t.Errorf("%+v", r)
	}
	for _, x := range r.Runs {
		if x.Seconds <= 0 {
			t.Errorf("%+v", x)
		}
	}
	for _, m := range r.Memory {
		if m.Seconds <= 0 || m.Peak < 1e6 && r.RAM > 0 {
			t.Errorf("%+v", m)
		}
	}
	text, err := os.ReadFile(filepath.Join(out, "peers.txt"))
	if err != nil || !strings.Contains(string(text), "not measured: --without-python") {
		t.Errorf("%v\n%s", err, text)
	}
	if strings.Contains(string(text), tmp) || strings.Contains(string(text), bin) || strings.Contains(string(text), out) {
		t.Errorf("a path of this machine is in\n%s", text)
	}
	for _, name := range []string{"peers.png", "peers.svg"} {
		if info, err := os.Stat(filepath.Join(out, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	empty(t, tmp)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if run(ctx, args, &stdout, os.Stderr) == nil {
		t.Error("a cancelled run succeeded")
	}
	empty(t, tmp)

	err = run(t.Context(), []string{"--fedmesh", fedmesh, "--quick", "--python", filepath.Join(tmp, "none"), "--dir", tmp}, &stdout, os.Stderr)
	if err == nil || !strings.Contains(err.Error(), "--without-python") {
		t.Errorf("without the interpreter: %v", err)
	}
	empty(t, tmp)
}

func empty(t *testing.T, dir string) {
	t.Helper()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
