package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// A build is one way to compile the kernels.
type build struct{ name, tags string }

func builds() []build { return []build{{"assembly", ""}, {"pure Go", "purego"}} }

// repeat is what one round of all benchmarks gave: ns/param by build and benchmark.
type repeat map[string]map[string]float64

// compile makes the test binary of a build.
func compile(ctx context.Context, dir string, b build) (string, error) {
	out := filepath.Join(dir, strings.ReplaceAll(b.name, " ", "-")+".test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-tags", b.tags, "-o", out, "github.com/fedmesh/fedmesh/aggregate/internal/kernel")
	cmd.Dir = ".."
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("kernels: compile the %s build, from the folder benchmarks: %w\n%s", b.name, err, text)
	}
	return out, nil
}

// run runs the benchmarks of a compiled build and returns what they printed, and ns/param by name.
func run(ctx context.Context, binary, benchtime string) (text string, ns map[string]float64, err error) {
	cmd := exec.CommandContext(ctx, binary, "-test.run=^$", "-test.cpu=1", "-test.benchtime="+benchtime,
		"-test.bench=^Benchmark(Copy|CheckF32|FoldF32|FoldBF16|FoldF16|FinalF32|Merge|Pack|MergePacked)$")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", nil, fmt.Errorf("kernels: %s: %w\n%s", filepath.Base(binary), err, errs.Bytes())
	}
	ns, err = parse(string(out))
	return string(out), ns, err
}

// parse reads the ns/param of the benchmarks in a text.
func parse(text string) (map[string]float64, error) {
	ns := map[string]float64{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		for i := 2; i+1 < len(f); i += 2 {
			if f[i+1] != "ns/param" {
				continue
			}
			x, err := strconv.ParseFloat(f[i], 64)
			if err != nil {
				return nil, fmt.Errorf("kernels: %q: %w", strings.TrimSpace(line), err)
			}
			ns[strings.TrimPrefix(f[0], "Benchmark")] = x
		}
	}
	for _, r := range rows() {
		for _, name := range r.sum {
			if ns[name] <= 0 {
				return nil, fmt.Errorf("kernels: no figure for %s in\n%s", name, text)
			}
		}
	}
	return ns, nil
}

// measure runs everything, repeats times over; note is told of progress.
func measure(ctx context.Context, repeats int, benchtime string, note func(string)) (all []repeat, raw string, err error) {
	dir, err := os.MkdirTemp("", "fedmesh-kernels-")
	if err != nil {
		return nil, "", fmt.Errorf("kernels: %w", err)
	}
	defer os.RemoveAll(dir)
	var texts strings.Builder
	binaries := map[string]string{}
	for _, b := range builds() {
		note("compiling the " + b.name + " build")
		if binaries[b.name], err = compile(ctx, dir, b); err != nil {
			return nil, "", err
		}
	}
	for i := range repeats {
		r := repeat{}
		for _, b := range builds() {
			note(fmt.Sprintf("repeat %d of %d, %s", i+1, repeats, b.name))
			text, ns, err := run(ctx, binaries[b.name], benchtime)
			if err != nil {
				return nil, "", err
			}
			r[b.name] = ns
			fmt.Fprintf(&texts, "kernel: %s\n%s", b.name, text)
		}
		all = append(all, r)
	}
	return all, texts.String(), nil
}
