package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Cost is what a mesh took per update, the median of the repeats.
type Cost struct {
	Peers  int `json:"peers"`
	Copies int `json:"copies"`

	CPU   float64 `json:"cpu_seconds_per_update"` // of all peers
	Wire  float64 `json:"bytes_per_update_byte"`  // that come to the peers; 0: not known
	Bound float64 `json:"bound"`                  // of Wire
	Idle  float64 `json:"idle_cpu_per_second"`

	OnLoopback []Run `json:"on_loopback"`
	OnWire     []Run `json:"on_wire,omitempty"`
}

// Size is what was measured with models of one size.
type Size struct {
	Params int64   `json:"params"`
	Bytes  int64   `json:"model_bytes"`
	Rounds int     `json:"rounds"`
	Costs  [2]Cost `json:"costs"` // of shapes
}

// Report is what one command measured, and on what.
type Report struct {
	Command  string `json:"command"`
	Fedmesh  string `json:"fedmesh"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	LoadAvg  string `json:"load_average"`
	Repeat   int    `json:"repeat"`
	Wire     string `json:"wire"` // how bytes were counted
	Sizes    []Size `json:"sizes"`
}

// reckonable is how large a model must be for its bytes to outweigh the last, half
// empty pages of the files, which write_bytes counts as whole.
const reckonable = 200_000

// conclude fills in the medians.
func (c *Cost) conclude(modelBytes int64) {
	c.CPU = median(c.OnLoopback, func(r Run) float64 { return r.CPU / float64(r.Updates) })
	c.Idle = median(c.OnLoopback, func(r Run) float64 { return r.Idle })
	switch {
	case len(c.OnWire) > 0:
		c.Wire = median(c.OnWire, func(r Run) float64 { return float64(r.Received) / float64(r.Bytes) })
	case modelBytes >= reckonable:
		c.Wire = median(c.OnLoopback, func(r Run) float64 { return float64(r.Bytes+r.Written) / float64(r.Bytes) })
	}
}

func median(runs []Run, value func(Run) float64) float64 {
	var all []float64
	for _, r := range runs {
		all = append(all, value(r))
	}
	slices.Sort(all)
	if len(all) == 0 {
		return 0
	}
	return (all[len(all)/2] + all[(len(all)-1)/2]) / 2
}

// ratio is b of a; 0 when it is not known.
func ratio(a, b float64) float64 {
	if a <= 0 || b <= 0 {
		return 0
	}
	return b / a
}

// WriteText prints the figures for people, and what is needed to get them again.
func (r *Report) WriteText(out io.Writer) error {
	var w bytes.Buffer
	fmt.Fprintf(&w, "%d combiners push at once, round after round: to one peer (copies 1), and to three (copies 2). Medians of %d runs.\n\n", updates, r.Repeat)
	t := tabwriter.NewWriter(&w, 0, 0, 2, ' ', 0)
	row := func(name string, value func(Size) string) {
		fmt.Fprint(t, name)
		for _, s := range r.Sizes {
			fmt.Fprint(t, "\t", value(s))
		}
		fmt.Fprintln(t)
	}
	number := func(x float64, format string) string {
		if x == 0 {
			return "-"
		}
		return fmt.Sprintf(format, x)
	}
	row("a model", func(s Size) string { return size(s.Bytes) })
	row("rounds of a run", func(s Size) string { return fmt.Sprint(s.Rounds) })
	row("CPU of all peers per update, 1 peer", func(s Size) string { return number(1000*s.Costs[0].CPU, "%.1f ms") })
	row("  3 peers", func(s Size) string { return number(1000*s.Costs[1].CPU, "%.1f ms") })
	row("  ratio", func(s Size) string { return number(ratio(s.Costs[0].CPU, s.Costs[1].CPU), "%.2f") })
	row("bytes to all peers per byte of update, 1 peer", func(s Size) string { return number(s.Costs[0].Wire, "%.3f") })
	row("  3 peers", func(s Size) string { return number(s.Costs[1].Wire, "%.3f") })
	row("  ratio", func(s Size) string { return number(ratio(s.Costs[0].Wire, s.Costs[1].Wire), "%.2f") })
	row("bound, 1 peer", func(s Size) string { return number(s.Costs[0].Bound, "%.3f") })
	row("  3 peers", func(s Size) string { return number(s.Costs[1].Bound, "%.3f") })
	row("  ratio", func(s Size) string { return number(ratio(s.Costs[0].Bound, s.Costs[1].Bound), "%.2f") })
	row("CPU of idle peers per second, 1 / 3 peers", func(s Size) string {
		return fmt.Sprintf("%.0f / %.0f ms", 1000*s.Costs[0].Idle, 1000*s.Costs[1].Idle)
	})
	if err := t.Flush(); err != nil {
		return fmt.Errorf("overhead: %w", err)
	}
	fmt.Fprintf(&w, `
Processor time is that of the peers' processes, from the first push until the last round is final everywhere, on the loopback
interface; gossip is part of it. %s
The bound is copies × the update, and one model to each peer for each round of %d updates, unless there is only one peer.

command   %s
fedmesh   %s
go        %s %s
machine   %s, %d cores; load average before: %s
`, explain[r.Wire], updates, r.Command, r.Fedmesh, r.Go, r.Platform, r.CPU, r.Cores, r.LoadAvg)
	if _, err := out.Write(w.Bytes()); err != nil {
		return fmt.Errorf("overhead: %w", err)
	}
	return nil
}

// explain says how bytes were counted.
var explain = map[string]string{
	wireNamespaces: "Bytes are those that the peers' network interfaces received, in runs of\ntheir own with a network namespace for each peer, headers of all packets (of 1,500 bytes) among them.",
	wireSockets:    "Bytes are reckoned: what was pushed, and what the peers wrote to sockets\n(wchar less write_bytes of /proc/PID/io); for small models that cannot be told from files.",
}

// size writes a number of bytes.
func size(n int64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.3g MB", float64(n)/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.3g kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%d B", n)
}
