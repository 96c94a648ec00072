package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// report is all that was seen.
type report struct {
	FEDn    string        `json:"fedn"` // version
	Seed    uint64        `json:"seed"`
	Mesh    []roundResult `json:"mesh"`
	Stock   []stockResult `json:"stock"`
	RetryMS float64       `json:"retry_p99_ms"` // of the pushes whose first peer was dead
	CalmMS  float64       `json:"calm_p99_ms"`  // of the others
}

// maxUlps is how far a model may be from the exact mean: each combiner's mean is rounded to float32 once, and
// the mesh's of these once more.
const maxUlps = 1.5

// times sums up how long pushes took.
func (r *report) times() {
	var retried, calm []float64
	for _, res := range r.Mesh {
		for _, c := range slices.Sorted(maps.Keys(res.PushMS)) {
			if slices.Contains(res.Retried, c) {
				retried = append(retried, res.PushMS[c])
			} else if res.Round > 1 { // the first opens the session
				calm = append(calm, res.PushMS[c])
			}
		}
	}
	r.RetryMS, r.CalmMS = p99(retried), p99(calm)
}

func p99(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	slices.Sort(v)
	return v[min(len(v)-1, len(v)*99/100)]
}

// faults lists what does not hold.
func (r *report) faults() []string {
	var out []string
	bad := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, res := range r.Mesh {
		all := map[string]bool{}
		for _, d := range res.Peers {
			all[d] = true
		}
		for _, d := range res.Made {
			all[d] = true
		}
		if len(all) != 1 {
			bad("round %d: %d different models", res.Round, len(all))
		}
		if res.Ulps > maxUlps {
			bad("round %d: %.2f ulps from the exactly weighted mean, at most %.1f allowed", res.Round, res.Ulps, maxUlps)
		}
	}
	if len(r.Mesh) != rounds {
		bad("%d rounds over the mesh, not %d", len(r.Mesh), rounds)
	}
	return out
}

func (r *report) write(w io.Writer) error {
	fmt.Fprintf(w, "FEDn %s unchanged, two networks of two combiners with two clients each, over three fedmesh peers.\n\n", r.FEDn)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "round\tupdates\texamples of each\tat each peer\tat each combiner and network\tulps from the mean\taccuracy\thappened")
	for _, res := range r.Mesh {
		fmt.Fprintf(t, "%d\t%d\t%s\t%s\t%s\t%.2f\t%.4f\t%s\n", res.Round, res.Updates, join(res.Examples), digests(res.Peers), digests(res.Made), res.Ulps, res.Accuracy, res.Happened)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\npush until acknowledged, p99: %.0f ms where the first peer asked was dead, %.0f ms elsewhere\n\n", r.RetryMS, r.CalmMS)
	fmt.Fprintf(w, "The same networks without fedmesh. Each averages its own clients only, and combiners without weights.\n\n")
	t = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "round\tnetwork\tround was\tmodel\tulps from its clients' weighted mean\tlargest difference")
	for _, res := range r.Stock {
		for _, n := range slices.Sorted(maps.Keys(res.Status)) {
			if d := res.Digests[n]; d != "" {
				fmt.Fprintf(t, "%d\t%s\t%s\t%.8s\t%.0f\t%.2g\n", res.Round, n, res.Status[n], d, res.Ulps[n], res.Abs[n])
			} else {
				fmt.Fprintf(t, "%d\t%s\t%s\tnone\t\t\n", res.Round, n, res.Status[n])
			}
		}
	}
	return t.Flush()
}

func join(ns []int64) string {
	var out []string
	for _, n := range ns {
		out = append(out, fmt.Sprint(n))
	}
	return strings.Join(out, " ")
}

// digests shows one digest when all agree, and else who has which.
func digests(m map[string]string) string {
	names := slices.Sorted(maps.Keys(m))
	same := true
	for _, n := range names {
		same = same && m[n] == m[names[0]]
	}
	if same && len(names) > 0 {
		return fmt.Sprintf("%.8s at all %d", m[names[0]], len(names))
	}
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf("%s %.8s", n, m[n]))
	}
	return strings.Join(out, ", ")
}
