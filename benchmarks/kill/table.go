package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/fedmesh/fedmesh/benchmarks/proc"
)

// meaningful is how many parameters a model must have for its bytes to outweigh
// the last, half empty pages of the files, which write_bytes counts as whole.
const meaningful = 50_000

// WriteText prints the figures for people, and what is needed to get them again.
func (r *Report) WriteText(out io.Writer) error {
	var w bytes.Buffer
	fmt.Fprintf(&w, "%d combiners push %s float32 parameters each, for %d rounds. %s\n\n", r.Combiners, count(float64(r.Params)), r.Target, r.plan())
	t := tabwriter.NewWriter(&w, 0, 0, 2, ' ', 0)
	row := func(name string, value func(*Result) string) {
		fmt.Fprint(t, name)
		for _, s := range r.Systems {
			fmt.Fprint(t, "\t", value(s))
		}
		fmt.Fprintln(t)
	}
	number := func(name string, value func(*Result) int) {
		row(name, func(s *Result) string { return fmt.Sprint(value(s)) })
	}
	row("", func(s *Result) string { return s.System })
	number("processes", func(s *Result) int { return s.Peers })
	row("kills (left out)", func(s *Result) string { return fmt.Sprintf("%d (%d)", len(s.Kills), s.Skipped) })
	number("rounds finished", func(s *Result) int { return s.Rounds })
	row("in", func(s *Result) string { return seconds(s.Seconds) })
	number("updates acknowledged", func(s *Result) int { return s.Acknowledged })
	number("  counted", func(s *Result) int { return s.Counted })
	number("  lost", func(s *Result) int { return s.Lost })
	number("  doubled", func(s *Result) int { return s.Doubled })
	number("  altered", func(s *Result) int { return s.Altered })
	number("divergent rounds", func(s *Result) int { return s.Divergent })
	number("final rounds that changed", func(s *Result) int { return len(s.Changed) })
	row("models that are the exact mean", func(s *Result) string {
		text := fmt.Sprintf("%d of %d", s.Means.Checked, s.Means.Checked+len(s.Means.Wrong))
		if n := len(s.Means.Unknown); n > 0 {
			text += fmt.Sprintf(" (%d unknown)", n)
		}
		return text
	})
	row("longest time without a finished round", func(s *Result) string { return seconds(s.Gap()) })
	row("push: p50 / p99 / max", func(s *Result) string { return spread(s.Latencies(false)) })
	row("  retried: p50 / p99 / max (pushes)", func(s *Result) string {
		l := s.Latencies(true)
		return fmt.Sprintf("%s (%d)", spread(l), len(l))
	})
	row("kill to agreement: p50 / p99 / max (open)", func(s *Result) string {
		took, open := s.Agreements()
		return fmt.Sprintf("%s (%d)", spread(took), open)
	})
	per := func(value func(*Result) float64, format string) func(*Result) string {
		return func(s *Result) string {
			if s.Usage == (proc.Usage{}) || s.Acknowledged == 0 {
				return "-"
			}
			return fmt.Sprintf(format, value(s))
		}
	}
	if r.Params >= meaningful {
		row("bytes sent per byte of update", per(func(s *Result) float64 { return float64(s.Usage.Sent()) / float64(s.Bytes) }, "%.2f"))
		row("bytes to files per byte of update", per(func(s *Result) float64 { return float64(s.Usage.Stored) / float64(s.Bytes) }, "%.2f"))
	}
	row("CPU seconds per update", per(func(s *Result) float64 { return s.Usage.CPU / float64(s.Acknowledged) }, "%.4f"))
	row("MB resident at most", per(func(s *Result) float64 { return float64(s.Usage.Peak) / 1e6 }, "%.0f"))
	if err := t.Flush(); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	for _, s := range r.Systems {
		if s.Alone != nil {
			s.Alone.write(&w, s.Peers)
		}
		if s.GaveUp > 0 {
			fmt.Fprintf(&w, "\n%s: %d combiners got no further, though all processes had been back for %v\n", s.System, s.GaveUp, settlePatience)
		}
		if s.Faults != "" {
			fmt.Fprintf(&w, "\n%s: %s\n", s.System, s.Faults)
		}
		if len(s.Means.Wrong) > 0 {
			fmt.Fprintf(&w, "\n%s: not the mean of what they are said to contain: the models of rounds %v\n", s.System, s.Means.Wrong)
		}
	}
	fmt.Fprintf(&w, `
"Bytes sent" is wchar less write_bytes of /proc/PID/io, of all the system's processes: what they wrote to sockets, pulls by the
combiners among it. A push lasts from the start of its first attempt to the receipt; it was retried when that attempt failed.
Agreement is when all living processes serve the same later round; it is open when the run ended before.

command   %s
fedmesh   %s
go        %s %s
machine   %s, %d cores; load average before: %s
seed      %d
`, r.Command, r.Fedmesh, r.Go, r.Platform, r.CPU, r.Cores, r.LoadAvg, r.Seed)
	if _, err := out.Write(w.Bytes()); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	return nil
}

// plan says who is killed when.
func (r *Report) plan() string {
	switch r.Kill {
	case killNone:
		return "Nobody is killed."
	case killAllButOne:
		return "All peers but one are killed at once after a third of the rounds."
	case killLeader:
		return fmt.Sprintf("About every %s the leader is killed, and started again after %s.", plain(r.Every)+" s", plain(r.Restart)+" s")
	}
	return fmt.Sprintf("About every %s a process is killed at random, and started again after %s.", plain(r.Every)+" s", plain(r.Restart)+" s")
}

func spread(sorted []float64) string {
	if len(sorted) == 0 {
		return "-"
	}
	return seconds(quantile(sorted, 0.5)) + " / " + seconds(quantile(sorted, 0.99)) + " / " + seconds(quantile(sorted, 1))
}

// seconds writes a time with two or three digits that mean something.
func seconds(x float64) string {
	switch {
	case math.IsNaN(x):
		return "-"
	case x < 0.9995:
		return fmt.Sprintf("%.0f ms", 1000*x)
	case x < 9.995:
		return fmt.Sprintf("%.2f s", x)
	}
	return fmt.Sprintf("%.1f s", x)
}

// count writes a number of parameters.
func count(n float64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.4gM", n/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.4gk", n/1e3)
	}
	return fmt.Sprintf("%.4g", n)
}
