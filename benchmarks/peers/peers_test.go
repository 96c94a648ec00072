package main

import (
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

func TestConfig(t *testing.T) {
	c, err := parse(nil, io.Discard)
	if err != nil || c.params != 25_000_000 || c.combiners != 8 || c.out != "results" {
		t.Errorf("defaults: %+v, %v", c, err)
	}
	if want := []memoryCase{{4, 25_000_000}, {64, 25_000_000}, {4, 500_000_000}}; !slices.Equal(c.memoryCases(), want) {
		t.Errorf("memory: %v", c.memoryCases())
	}
	c, err = parse([]string{"--quick", "--params", "70000"}, io.Discard)
	if err != nil || c.params != 70_000 || c.repeat != 1 || c.out != "" || c.large != 20*70_000 {
		t.Errorf("quick: %+v, %v", c, err)
	}
	_, err = parse([]string{"--params", "0", "--combiners", "-1", "--repeat", "0", "--many", "0", "--large", "0", "--check", "--without-python"}, io.Discard)
	if err == nil {
		t.Fatal("nonsense was accepted")
	}
	for _, want := range []string{"--params", "--combiners", "--repeat", "--many", "--large", "--check"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in %v", want, err)
		}
	}
	if _, err := parse([]string{"extra"}, io.Discard); err == nil {
		t.Error("an argument was ignored")
	}
}

func TestShown(t *testing.T) {
	got := shown([]string{"--fedmesh", "/a/b/fedmesh", "--dir=/a/tmp", "--repeat", "3", "-out", "/a/out", "--python=/a/venv/bin/python"})
	if want := []string{"--fedmesh fedmesh", "--repeat", "3", "--python python"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Models made on the way are whole, repeatable and differ.
func TestSource(t *testing.T) {
	layout, err := model.NewLayout(load.Tensors(2_500_000)) // more than the pool
	if err != nil {
		t.Fatal(err)
	}
	p := newPool(1)
	read := func(i int) []byte {
		r, n, err := p.source(layout, i)()
		if err != nil || n != layout.Size() {
			t.Fatal(n, err)
		}
		b, err := io.ReadAll(r)
		if err != nil || int64(len(b)) != n {
			t.Fatalf("%d bytes of %d, %v", len(b), n, err)
		}
		return b
	}
	a := read(1)
	if !bytes.Equal(a, read(1)) || bytes.Equal(a, read(2)) {
		t.Error("models are not what their number says")
	}
	got, err := safetensors.ReadLayout(bytes.NewReader(a), int64(len(a)))
	if err != nil || got.Diff(layout) != nil {
		t.Errorf("%v, %v", err, got)
	}
}

// judged is a run in which everything is as wanted: the machine is twice as slow
// in the second repeat.
func judged() *Report {
	r := &Report{Versions: map[string]string{"fedn": "0.33.0"}, Params: 25_000_000, Combiners: 8, Bytes: 800_000_000, RAM: 8e9, CPU: "a processor", Cores: 2}
	for i, slow := range []float64{1, 2, 1} {
		for k, row := range rows {
			r.add(i+1, row.what, slow*float64(1+2*k), 50e6)
		}
	}
	for _, n := range []int{4, 64} {
		r.Memory = append(r.Memory, Memory{Combiners: n, Params: 25_000_000, Bytes: 100_000_000, Seconds: 2, Peak: 30_000_000 + int64(n)*10_000})
	}
	return r
}

func TestReport(t *testing.T) {
	r := judged()
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	want := 1 + 2*float64(slices.IndexFunc(rows, func(row struct{ what, name string }) bool { return row.what == fednReduce }))
	if got := r.ratio(fednReduce, meshNever); got.Min != want || got.Median != want || got.Max != want {
		t.Errorf("the ratio is not taken within a repeat: %v", got)
	}
	var out strings.Builder
	if err := r.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"8 models of 25M float32 parameters each (800 MB together)", "FEDn, reduce  ", "+2.0%", "fedn 0.33.0", "8 GB"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "missed") || strings.Contains(out.String(), "not measured") {
		t.Errorf("\n%s", out.String())
	}
	out.Reset()
	if err := r.Picture(&out, "svg"); err != nil || !strings.Contains(out.String(), "FEDn, reduce and commit") {
		t.Errorf("svg: %v", err)
	}
	if r.Picture(&out, "txt") == nil {
		t.Error("a format that does not exist was drawn")
	}
}

// Every target can be missed, and each is then named.
func TestTargetsCanBeMissed(t *testing.T) {
	for want, spoil := range map[string]func(*Report){
		"FEDn's reduce": func(r *Report) {
			for i := range r.Runs {
				if r.Runs[i].What == fednReduce {
					r.Runs[i].Seconds /= 2
				}
			}
		},
		"Flower's aggregate()": func(r *Report) {
			for i := range r.Runs {
				if r.Runs[i].What == flowerFirst {
					r.Runs[i].Seconds = 0.9
				}
			}
		},
		"64 combiners":     func(r *Report) { r.Memory[1].Peak = r.Memory[0].Peak * 8 / 9 },
		"4 combiners":      func(r *Report) { r.Memory[0].Peak = 400e6 },
		"only 2 of 4":      func(r *Report) { r.Memory[0].Peak, r.Memory[1].Peak = 0, 0 },
		"only 3 of 4 targ": func(r *Report) { r.Runs = slices.DeleteFunc(r.Runs, func(x Run) bool { return x.What == fednReduce }) },
	} {
		r := judged()
		spoil(r)
		if err := r.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestDiffers(t *testing.T) {
	r := &Report{}
	if err := r.differs("fedn", 1e-8); err != nil || r.Errors["fedn"] != 1e-8 {
		t.Error(err, r.Errors)
	}
	for _, e := range []float64{1e-5, math.NaN()} {
		if r.differs("fedn", e) == nil {
			t.Errorf("%g was taken for rounding", e)
		}
	}
}

// A folder that this command did not make is left alone.
func TestForeignFolder(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mine")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := environment(t.Context(), dir, func(string, ...any) {}); err == nil || !strings.Contains(err.Error(), "--venv") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	t.Setenv("PATH", "")
	if _, err := environment(t.Context(), t.TempDir(), func(string, ...any) {}); err == nil || !strings.Contains(err.Error(), "install Python 3.10") {
		t.Errorf("without python3: %v", err)
	}
}

func TestEnough(t *testing.T) {
	if err := enough(t.TempDir(), 1, "x"); err != nil {
		t.Error(err)
	}
	err := enough(t.TempDir(), math.MaxInt64-1, "without-memory")
	if err == nil && loadAverage() >= 0 {
		t.Error("there is room for everything")
	}
	if err != nil && !strings.Contains(err.Error(), "--without-memory") {
		t.Error(err)
	}
}
