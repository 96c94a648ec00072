package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/fedmesh/fedmesh/benchmarks/report"
)

// row is one figure: the sum of some benchmarks' ns/param, as a multiple of the copy's.
type row struct {
	name string
	sum  []string
	most map[string]float64 // what is promised, by build
}

func rows() []row {
	return []row{
		{"fold 8 updates, float32", []string{"FoldF32"}, map[string]float64{"assembly": 2.5, "pure Go": 6}},
		{"fold 8 updates, bfloat16", []string{"FoldBF16"}, nil},
		{"fold 8 updates, float16", []string{"FoldF16"}, nil},
		{"check for NaN, infinity and range", []string{"CheckF32"}, map[string]float64{"assembly": 1}},
		{"finalise to float32", []string{"FinalF32"}, map[string]float64{"assembly": 4}},
		{"merge two sums", []string{"Merge"}, nil},
		{"encode a sum", []string{"Pack"}, nil},
		{"decode and add a sum", []string{"MergePacked"}, nil},
	}
}

// leastRate is how many bytes of float32 a second a core must encode and decode.
const leastRate = 1e9

func ratio(all []repeat, build string, names ...string) report.Summary {
	var out []float64
	for _, r := range all {
		out = append(out, total(r[build], names)/r[build]["Copy"])
	}
	return report.Summarise(out)
}

func total(ns map[string]float64, names []string) (sum float64) {
	for _, name := range names {
		sum += ns[name]
	}
	return sum
}

// rate returns the bytes of float32 that are encoded and decoded in a second.
func rate(all []repeat, build string) report.Summary {
	var out []float64
	for _, r := range all {
		out = append(out, 4/total(r[build], []string{"Pack", "MergePacked"})) // bytes a nanosecond: GB/s
	}
	return report.Summarise(out)
}

// write prints the table and returns what is not reached.
func write(w io.Writer, all []repeat) (missed []string) {
	fmt.Fprintf(w, "Nanoseconds per input parameter, as multiples of copying the same float32 in memory.\nMedian (smallest..largest) of %d repeats, one goroutine.\n\n", len(all))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tassembly\tat most\tpure Go\tat most")
	for _, r := range rows() {
		fmt.Fprint(t, r.name)
		for _, b := range builds() {
			s := ratio(all, b.name, r.sum...)
			limit := "-"
			if most := r.most[b.name]; most > 0 {
				limit = fmt.Sprint(most)
				if s.Median > most {
					missed = append(missed, fmt.Sprintf("%s, %s: %.2f × copy, at most %v is promised", r.name, b.name, s.Median, most))
				}
			}
			fmt.Fprintf(t, "\t%s\t%s", s, limit)
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // w is the caller's
	encoded := rate(all, "assembly")
	fmt.Fprintf(w, "\nencode and decode, assembly: %s GB of float32 a second and core, at least %v\n", encoded, leastRate/1e9)
	if encoded.Median < leastRate/1e9 {
		missed = append(missed, fmt.Sprintf("encode and decode: %.2f GB/s, at least %v is promised", encoded.Median, leastRate/1e9))
	}
	copied := report.Summarise(column(all, "assembly", "Copy"))
	fmt.Fprintf(w, "the copy itself: %s ns per float32\n", copied)
	return missed
}

func column(all []repeat, build, name string) (out []float64) {
	for _, r := range all {
		out = append(out, r[build][name])
	}
	return out
}
