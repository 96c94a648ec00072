package report_test

import (
	"bytes"
	"image/png"
	"math"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/report"
)

func TestSummarise(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   report.Summary
		text   string
	}{
		{[]float64{2}, report.Summary{Median: 2, Min: 2, Max: 2}, "2.00"},
		{[]float64{3, 1, 200}, report.Summary{Median: 3, Min: 1, Max: 200}, "3.00 (1.00..200)"},
		{[]float64{4, 1, 3, 2}, report.Summary{Median: 2.5, Min: 1, Max: 4}, "2.50 (1.00..4.00)"},
		{[]float64{0.1234, 12.345}, report.Summary{Median: 6.2342, Min: 0.1234, Max: 12.345}, "6.23 (0.123..12.3)"},
	} {
		got := report.Summarise(c.values)
		if math.Abs(got.Median-c.want.Median) > 1e-9 || got.Min != c.want.Min || got.Max != c.want.Max {
			t.Errorf("%v: got %+v, want %+v", c.values, got, c.want)
		}
		if got.String() != c.text {
			t.Errorf("%v: got %q, want %q", c.values, got.String(), c.text)
		}
	}
	values := []float64{3, 1, 2}
	report.Summarise(values)
	if values[0] != 3 {
		t.Error("the values were sorted in place")
	}
	if s := report.Summarise(nil); !math.IsNaN(s.Median) || s.String() == "" {
		t.Errorf("no values: %+v", s)
	}
}

// measured has three repeats. The machine is twice as slow in the second, so the
// ratios agree where the times do not.
func measured() *report.Report {
	r := &report.Report{
		Command: "go run ./throughput", Fedmesh: "fedmesh v1", Go: "go1", Platform: "linux/amd64", CPU: "a processor", Cores: 2,
		Params: 25_000_000, Combiners: 8, Bytes: 800_000_000, Workers: 2, Seed: 7, Fsync: "auto", Model: strings.Repeat("ab", 32),
	}
	for i, slow := range []float64{1, 2, 1} {
		for _, n := range []int{3, 1} {
			k := slow * float64(n)
			r.Runs = append(r.Runs, report.Run{
				Peers: n, Repeat: i + 1, Copy: 0.1 * slow, Sum: 0.3 * slow, Acked: k, Sealed: 0.9 * k, First: 1.5 * k, Served: 2 * k, CPU: 4 * k,
				Peak: []int64{int64(n) * 30_000_000, int64(i) * 1_000_000},
			})
		}
	}
	return r
}

func TestText(t *testing.T) {
	var out strings.Builder
	if err := measured().WriteText(&out); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{
		"8 combiners push 25M float32 parameters each (800 MB together) at once.",
		"of 3 repeats",
		"× copy", "command   go run ./throughput\n", "seed      7\n", "abababababababab.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	rows := map[string][]string{}
	mesh := ""
	for line := range strings.Lines(text) {
		if strings.HasSuffix(strings.TrimSpace(line), "peer") || strings.HasSuffix(strings.TrimSpace(line), "peers") {
			mesh = strings.TrimSpace(line)
		}
		var cells []string
		for cell := range strings.SplitSeq(strings.TrimSpace(line), "  ") {
			if cell = strings.TrimSpace(cell); cell != "" {
				cells = append(cells, cell)
			}
		}
		if len(cells) > 1 {
			rows[mesh+"/"+cells[0]] = cells[1:]
		}
	}
	for row, want := range map[string]string{
		"/copying the same bytes in memory":     "0.100 (0.100..0.200)|1",
		"/pure sum, 2 goroutines, no network":   "0.300 (0.300..0.600)|3.00|1",
		"1 peer/round closed":                   "1.00 (1.00..2.00)", // never before the phase ahead of it
		"1 peer/first peer serves the model":    "1.50 (1.50..3.00)",
		"1 peer/every peer serves the model":    "2.00 (2.00..4.00)|20.0|6.67|4.00 (4.00..8.00)|30",
		"3 peers/every peer serves the model":   "6.00 (6.00..12.0)|60.0|20.0|12.0 (12.0..24.0)|90",
		"3 peers/all pushes acknowledged":       "3.00 (3.00..6.00)",
		"3 peers/first peer serves the model":   "4.50 (4.50..9.00)",
		"3 peers/copying the same bytes in RAM": "",
	} {
		if got := strings.Join(rows[row], "|"); got != want {
			t.Errorf("%s: got %q, want %q", row, got, want)
		}
	}
	if t.Failed() {
		t.Log("\n" + text)
	}
}

func TestUnknownMemory(t *testing.T) {
	r := measured()
	for i := range r.Runs {
		r.Runs[i].Peak = nil
	}
	if r.Peak(1) != 0 {
		t.Error("a peak out of nothing")
	}
	var out strings.Builder
	if err := r.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "  0\n") {
		t.Errorf("unknown memory is shown as 0\n%s", out.String())
	}
}

func TestPicture(t *testing.T) {
	var out bytes.Buffer
	if err := measured().Picture(&out, "png"); err != nil {
		t.Fatal(err)
	}
	p, err := png.Decode(&out)
	if err != nil {
		t.Fatal(err)
	}
	if b := p.Bounds(); b.Dx() < 600 || b.Dy() < 300 {
		t.Errorf("the picture is %v", b)
	}
	colours := map[[3]uint32]int{}
	for y := range p.Bounds().Dy() {
		for x := range p.Bounds().Dx() {
			r, g, b, _ := p.At(x, y).RGBA()
			colours[[3]uint32{r >> 8, g >> 8, b >> 8}]++
		}
	}
	for _, c := range [][3]uint32{{0, 0x72, 0xb2}, {0xe6, 0x9f, 0}, {0xd5, 0x5e, 0}} {
		if colours[c] < 500 {
			t.Errorf("colour %x is on %d points only", c, colours[c])
		}
	}
	out.Reset()
	if err := measured().Picture(&out, "svg"); err != nil || !strings.Contains(out.String(), "3 peers") {
		t.Errorf("svg: %v", err)
	}
	if measured().Picture(&out, "txt") == nil {
		t.Error("a format that does not exist was drawn")
	}
}
