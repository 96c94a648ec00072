package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/fedmesh/fedmesh/benchmarks/report"
)

// What is timed.
const (
	meshNever   = "fedmesh-never"
	meshAuto    = "fedmesh-auto"
	fednReduce  = "fedn-reduce"
	fednCommit  = "fedn-reduce-commit"
	fednStored  = "fedn-reduce-stored"
	fednCombine = "fedn-combine"
	flowerFirst = "flower-aggregate"
	flowerAgain = "flower-aggregate-again"
)

// rows are what is timed, in the order of table and picture.
var rows = []struct{ what, name string }{
	{meshNever, "fedmesh, --fsync never"},
	{meshAuto, "fedmesh, --fsync auto"},
	{flowerAgain, "Flower, aggregate() again"},
	{flowerFirst, "Flower, aggregate() in memory"},
	{fednStored, "FEDn, reduce, npz stored"},
	{fednReduce, "FEDn, reduce"},
	{fednCombine, "FEDn, combiner's FedAvg"},
	{fednCommit, "FEDn, reduce and commit"},
}

// The targets: how much longer others take, and the peer's memory.
const (
	minFEDn   = 6.0
	minFlower = 1.0
	maxPeak   = 400e6
	maxSpread = 0.10 // of a memory case from the first
)

// Report is all that was measured, and where.
type Report struct {
	Command    string             `json:"command"`
	Versions   map[string]string  `json:"versions"`
	Platform   string             `json:"platform"`
	CPU        string             `json:"cpu"`
	Cores      int                `json:"cores"`
	RAM        int64              `json:"ram"`         // bytes; 0 when not known
	LoadBefore float64            `json:"load_before"` // load average of a minute; -1 when not known
	LoadAfter  float64            `json:"load_after"`
	Quick      bool               `json:"quick"` // the figures say nothing
	Params     int64              `json:"params"`
	Combiners  int                `json:"combiners"`
	Bytes      int64              `json:"bytes"` // of all updates
	Seed       uint64             `json:"seed"`
	Model      string             `json:"model"`            // digest that every fedmesh peer came to
	Errors     map[string]float64 `json:"errors,omitempty"` // the others' largest differences from the mean
	Runs       []Run              `json:"runs"`
	Memory     []Memory           `json:"memory"`
}

// Run is one measurement.
type Run struct {
	Repeat  int     `json:"repeat"`
	What    string  `json:"what"`
	Seconds float64 `json:"seconds"`
	Peak    int64   `json:"peak,omitempty"` // resident memory of the process at most, bytes; 0 when not known
}

// Memory is the peak of a fedmesh peer's memory under a load.
type Memory struct {
	Combiners int     `json:"combiners"`
	Params    int64   `json:"params"`
	Bytes     int64   `json:"bytes"` // of one model
	Seconds   float64 `json:"seconds"`
	Peak      int64   `json:"peak"` // bytes; 0 when not known
}

func (r *Report) add(repeat int, what string, seconds float64, peak int64) {
	r.Runs = append(r.Runs, Run{Repeat: repeat, What: what, Seconds: seconds, Peak: peak})
}

// seconds summarises one thing's repeats.
func (r *Report) seconds(what string) report.Summary {
	var values []float64
	for _, x := range r.Runs {
		if x.What == what {
			values = append(values, x.Seconds)
		}
	}
	return report.Summarise(values)
}

// ratio summarises how often one thing's time goes into another's, taken within
// each repeat.
func (r *Report) ratio(what, over string) report.Summary {
	var values []float64
	for _, x := range r.Runs {
		for _, y := range r.Runs {
			if x.What == what && y.What == over && x.Repeat == y.Repeat {
				values = append(values, x.Seconds/y.Seconds)
			}
		}
	}
	return report.Summarise(values)
}

// peak is the largest of one thing's repeats; 0 when not known.
func (r *Report) peak(what string) (peak int64) {
	for _, x := range r.Runs {
		if x.What == what {
			peak = max(peak, x.Peak)
		}
	}
	return peak
}

func (r *Report) measured(what string) bool {
	return slices.ContainsFunc(r.Runs, func(x Run) bool { return x.What == what })
}

func (r *Report) repeats() (n int) {
	for _, x := range r.Runs {
		n = max(n, x.Repeat)
	}
	return n
}

// target is something that is to be reached.
type target struct {
	text string
	met  bool
}

// targets judges what was measured.
func (r *Report) targets() []target {
	var ts []target
	for _, x := range []struct {
		what, name string
		least      float64
	}{
		{fednReduce, "FEDn's reduce", minFEDn},
		{flowerFirst, "Flower's aggregate()", minFlower},
	} {
		if !r.measured(x.what) {
			continue
		}
		got := r.ratio(x.what, meshNever)
		ts = append(ts, target{
			fmt.Sprintf("%s takes %s times as long as fedmesh with --fsync never; at least %g", x.name, got, x.least),
			got.Median >= x.least,
		})
	}
	for i, m := range r.Memory {
		if m.Peak == 0 {
			continue
		}
		base := r.Memory[0].Peak
		off := float64(m.Peak)/float64(base) - 1
		text := fmt.Sprintf("%d combiners, %s each: %s resident; under %s", m.Combiners, size(m.Bytes), size(m.Peak), size(maxPeak))
		if i > 0 {
			text += fmt.Sprintf(", within %.0f%% of the first: %+.1f%%", 100*maxSpread, 100*off)
		}
		ts = append(ts, target{text, m.Peak < maxPeak && math.Abs(off) <= maxSpread})
	}
	return ts
}

// Check fails when a target is missed or could not be measured.
func (r *Report) Check() error {
	var errs []error
	ts := r.targets()
	if want := 2 + len(r.Memory); len(ts) < want {
		errs = append(errs, fmt.Errorf("peers: --check: only %d of %d targets could be measured on this platform", len(ts), want))
	}
	for _, t := range ts {
		if !t.met {
			errs = append(errs, fmt.Errorf("peers: --check: missed: %s", t.text))
		}
	}
	return errors.Join(errs...)
}

// WriteText prints the figures for people, and what is needed to get them again.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	if r.Quick {
		b.WriteString("A quick run, to see that it works. The figures say nothing.\n\n")
	}
	fmt.Fprintf(&b, "The mean of %d models of %s float32 parameters each (%s together).\n", r.Combiners, count(r.Params), size(r.Bytes))
	fmt.Fprintf(&b, "Median (smallest..largest) of %d repeats; ratios are taken within a repeat.\n\n", r.repeats())
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tseconds\t× never\t× auto\tMB resident")
	for _, row := range rows {
		if r.measured(row.what) {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", row.name, r.seconds(row.what), r.ratio(row.what, meshNever), r.ratio(row.what, meshAuto), megabytes(r.peak(row.what)))
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	if !r.measured(fednReduce) {
		b.WriteString("\nFEDn and Flower were not measured: --without-python was given.\n")
	}
	if len(r.Memory) == 0 {
		b.WriteString("\nMemory was not measured: --without-memory was given.\n")
	} else {
		b.WriteString("\nResident memory of a fedmesh peer at most, --fsync never, one round with all combiners pushing at once:\n\n")
		fmt.Fprintln(t, "combiners\tmodel\tpushed\tMB resident\tto the first\tseconds")
		for _, m := range r.Memory {
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%.3g\n", m.Combiners, size(m.Bytes), size(m.Bytes*int64(m.Combiners)), megabytes(m.Peak), r.off(m), m.Seconds)
		}
		if err := t.Flush(); err != nil {
			return fmt.Errorf("peers: %w", err)
		}
	}
	if !r.Quick {
		b.WriteString("\nTargets:\n")
		for _, x := range r.targets() {
			fmt.Fprintf(&b, "  %-7s %s\n", map[bool]string{true: "reached", false: "missed"}[x.met], x.text)
		}
	}
	b.WriteString("\n")
	b.WriteString(r.footer())
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	return nil
}

// off is how far a memory case is from the first one.
func (r *Report) off(m Memory) string {
	if base := r.Memory[0].Peak; base > 0 {
		return fmt.Sprintf("%+.1f%%", 100*(float64(m.Peak)/float64(base)-1))
	}
	return "-"
}

// footer says where and with what.
func (r *Report) footer() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Every fedmesh peer served the exact mean, rounded once: %.16s.\n", r.Model)
	for _, x := range []struct{ whose, name string }{{"fedn", "FEDn's"}, {"flwr", "Flower's"}} {
		if e, ok := r.Errors[x.whose]; ok {
			fmt.Fprintf(&b, "%s mean differs from a mean in double precision by %.2g at most.\n", x.name, e)
		}
	}
	var versions []string
	for _, name := range []string{"fedmesh", "fedn", "flwr", "numpy", "python", "go"} {
		if v, ok := r.Versions[name]; ok {
			versions = append(versions, name+" "+v)
		}
	}
	machine := fmt.Sprintf("%s, %d cores", r.CPU, r.Cores)
	if r.RAM > 0 {
		machine += fmt.Sprintf(", %.3g GB", float64(r.RAM)/1e9)
	}
	fmt.Fprintf(&b, "\ncommand   %s\nversions  %s\nmachine   %s, %s\n", r.Command, strings.Join(versions, ", "), machine, r.Platform)
	if r.LoadBefore >= 0 {
		fmt.Fprintf(&b, "load      average %.2f before, %.2f after (this benchmark's own included)\n", r.LoadBefore, r.LoadAfter)
	}
	fmt.Fprintf(&b, "seed      %d\n", r.Seed)
	return b.String()
}

// count writes a number of parameters.
func count(n int64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.4gM", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.4gk", float64(n)/1e3)
	}
	return fmt.Sprint(n)
}

func size[T int64 | float64](n T) string {
	if n >= 1e9 {
		return fmt.Sprintf("%.3g GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.3g MB", float64(n)/1e6)
}

func megabytes(n int64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", float64(n)/1e6)
}
