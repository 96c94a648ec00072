package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestQuickRun(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	err := command(t.Context(), []string{"--repeat", "1", "--benchtime", "1x", "--out", dir}, &out, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"fold 8 updates, float32", "pure Go", "GB of float32 a second"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	for _, name := range []string{"kernels.txt", "kernels-benchstat.txt", "kernels.svg", "kernels.png"} {
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMissedFiguresAreTold(t *testing.T) {
	ns := map[string]float64{
		"Copy": 1, "FoldF32": 3, "FoldBF16": 3, "FoldF16": 3, "CheckF32": 0.5, "FinalF32": 2, "Merge": 1, "Pack": 3, "MergePacked": 3,
	}
	var out strings.Builder
	missed := write(&out, []repeat{{"assembly": ns, "pure Go": ns}})
	if len(missed) != 2 || !strings.Contains(missed[0], "fold") || !strings.Contains(missed[1], "GB/s") {
		t.Errorf("%q", missed)
	}
}

func TestParse(t *testing.T) {
	if _, err := parse("BenchmarkCopy \t 10 \t 100 ns/op \t 0.5 ns/param\n"); err == nil || !strings.Contains(err.Error(), "no figure for FoldF32") {
		t.Errorf("%v", err)
	}
	if _, err := parse("BenchmarkCopy 10 x ns/param\n"); err == nil {
		t.Error("a figure that is none")
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := command(ctx, []string{"--out", ""}, &strings.Builder{}, os.Stderr); err == nil {
		t.Error("no error")
	}
}
