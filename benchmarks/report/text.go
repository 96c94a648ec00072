package report

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// WriteText prints the figures for people, and what is needed to get them again.
func (r *Report) WriteText(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, seconds Summary, ratios ...string) {
		fmt.Fprintf(t, "%s\t%s", name, seconds)
		for _, x := range ratios {
			fmt.Fprintf(t, "\t%s", x)
		}
		fmt.Fprintln(t)
	}
	fmt.Fprintf(w, "%d combiners push %s float32 parameters each (%s together) at once.\n", r.Combiners, count(r.Params), size(r.Bytes))
	fmt.Fprintf(w, "Median (smallest..largest) of %d repeats; ratios are taken within a repeat.\n\n", r.repeats())
	fmt.Fprintln(t, "\tseconds\t× copy\t× pure sum\tCPU seconds\tMB resident")
	row("copying the same bytes in memory", r.Of(0, func(x Run) float64 { return x.Copy }), "1")
	row(fmt.Sprintf("pure sum, %d goroutines, no network", r.Workers), r.Of(0, func(x Run) float64 { return x.Sum }),
		r.Of(0, func(x Run) float64 { return x.Sum / x.Copy }).String(), "1")
	for _, n := range r.Sizes() {
		fmt.Fprintf(t, "%s\t\n", peers(n))
		for i, phase := range phases {
			seconds := r.Of(n, phase.until)
			if i < len(phases)-1 {
				row("  "+phase.name, seconds)
				continue
			}
			row("  "+phase.name, seconds,
				r.Of(n, func(x Run) float64 { return x.Served / x.Copy }).String(),
				r.Of(n, func(x Run) float64 { return x.Served / x.Sum }).String(),
				r.Of(n, func(x Run) float64 { return x.CPU }).String(),
				megabytes(r.Peak(n)))
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := fmt.Fprintf(w, `
Times count from the first push. "MB resident" is the largest peak of any peer in any repeat.
Every peer served the model that the pure sum came to: %.16s.

command   %s
fedmesh   %s
go        %s %s
machine   %s, %d cores; load average before: %s
seed      %d
fsync     %s
`, r.Model, r.Command, r.Fedmesh, r.Go, r.Platform, r.CPU, r.Cores, r.LoadAvg, r.Seed, r.Fsync)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func (r *Report) repeats() int {
	n := 0
	for _, run := range r.Runs {
		n = max(n, run.Repeat)
	}
	return n
}

func peers(n int) string {
	if n == 1 {
		return "1 peer"
	}
	return fmt.Sprintf("%d peers", n)
}

// count writes a number of parameters.
func count(n int64) string {
	switch {
	case n >= 1e6:
		return digits0(float64(n)/1e6) + "M"
	case n >= 1e3:
		return digits0(float64(n)/1e3) + "k"
	}
	return digits0(float64(n))
}

func size(n int64) string { return digits0(float64(n)/1e6) + " MB" }

func megabytes(n int64) string {
	if n == 0 {
		return "-"
	}
	return digits0(float64(n) / 1e6)
}

// digits0 writes at most three digits and no trailing zeros.
func digits0(x float64) string { return fmt.Sprintf("%.4g", x) }
