package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/fedmesh/fedmesh/benchmarks/figures"
	"github.com/fedmesh/fedmesh/benchmarks/proc"
)

// meaningful is how many parameters a model must have for its bytes to outweigh
// the last, half empty pages of the files, which write_bytes counts as whole.
const meaningful = 50_000

// WriteText prints the figures for people, and what is needed to get them again.
func (r *Report) WriteText(out io.Writer) error {
	var w bytes.Buffer
	fmt.Fprintf(&w, "%d combiners push %s float32 parameters each, %s.\n%s\n\n", r.Combiners, figures.Count(float64(r.Params)), r.span(), r.plan())
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
	if r.Partition {
		number("cuts", func(s *Result) int { return len(s.Cuts) })
	} else {
		row("kills (left out)", func(s *Result) string { return fmt.Sprintf("%d (%d)", len(s.Kills), s.Skipped) })
	}
	number("rounds finished", func(s *Result) int { return s.Rounds })
	row("in", func(s *Result) string { return figures.Seconds(s.Seconds) })
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
	r.times(row)
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
	if err := r.writeMoments(&w); err != nil {
		return err
	}
	r.writeCuts(&w)
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
	if err := r.writeLimits(&w); err != nil {
		return err
	}
	fmt.Fprintf(&w, `
"Bytes sent" is wchar less write_bytes of /proc/PID/io, of all the system's processes: what they wrote to sockets, pulls by the
combiners among it. A push lasts from the start of its first attempt to the receipt; it was retried when that attempt failed.
Agreement is when all living processes serve the same later round; it is open when the run ended before. Without a kill it is
counted from moments of the first rounds, at which nobody was killed.

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

// times are the rows about how long things took.
func (r *Report) times(row func(string, func(*Result) string)) {
	row("longest time without a finished round", func(s *Result) string { return figures.Seconds(s.Gap()) })
	row("  in the calm rounds before", func(s *Result) string { return figures.Seconds(s.CalmGap()) })
	if r.Partition {
		row("  on the larger / smaller side", func(s *Result) string { return figures.Seconds(s.SideGaps[0]) + " / " + figures.Seconds(s.SideGaps[1]) })
		row("rounds during the cuts, larger / smaller side", func(s *Result) string {
			a, b, _, _ := s.during()
			return fmt.Sprintf("%d / %d", a, b)
		})
		row("updates acknowledged during the cuts, likewise", func(s *Result) string {
			_, _, a, b := s.during()
			return fmt.Sprintf("%d / %d", a, b)
		})
	}
	pushes := func(name string, which func(*Result) func(Push) bool) {
		row(name, func(s *Result) string {
			l := s.Latencies(which(s))
			return fmt.Sprintf("%s (%d)", spread(l), len(l))
		})
	}
	pushes("push: p50 / p99 / max (pushes)", func(*Result) func(Push) bool { return anyPush })
	pushes("  in the calm rounds", func(s *Result) func(Push) bool { return s.calmly })
	pushes("  later, at the first attempt", func(s *Result) func(Push) bool { return s.ordinary })
	pushes("  later, retried", func(s *Result) func(Push) bool { return s.retried })
	agreements := func(name string, which func(*Result) ([]float64, int)) {
		row(name, func(s *Result) string {
			took, open := which(s)
			return fmt.Sprintf("%s (%d)", spread(took), open)
		})
	}
	if r.Partition {
		row("heal to first contact: p50 / p99 / max", func(s *Result) string { return spread(s.contacts()) })
		agreements("contact to one model: p50 / p99 / max (open)", (*Result).Agreements)
		return
	}
	agreements("kill to agreement: p50 / p99 / max (open)", (*Result).Agreements)
	agreements("  without a kill", (*Result).CalmAgreements)
	row("  difference: p50 / p99", func(s *Result) string {
		killed, _ := s.Agreements()
		calm, _ := s.CalmAgreements()
		return figures.Seconds(figures.Quantile(killed, 0.5)-figures.Quantile(calm, 0.5)) + " / " + figures.Seconds(figures.Quantile(killed, 0.99)-figures.Quantile(calm, 0.99))
	})
}

// during adds up what either side did while the network was cut.
func (r *Result) during() (leftRounds, rightRounds uint64, left, right int) {
	for _, c := range r.Cuts {
		leftRounds, rightRounds = leftRounds+c.Rounds[0], rightRounds+c.Rounds[1]
		left, right = left+c.Acked[0], right+c.Acked[1]
	}
	return leftRounds, rightRounds, left, right
}

// contacts are the times from the end of each cut to the first contact.
func (r *Result) contacts() (took []float64) {
	for _, c := range r.Cuts {
		if c.Contact > 0 {
			took = append(took, c.Contact-c.Healed)
		}
	}
	slices.Sort(took)
	return took
}

// writeMoments tells what processes were doing when they were killed.
func (r *Report) writeMoments(w *bytes.Buffer) error {
	some := false
	for _, s := range r.Systems {
		some = some || len(s.Kills) > 0
	}
	if !some {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\nkills by moment (one may count more than once)")
	for _, s := range r.Systems {
		fmt.Fprint(t, "\t", s.System)
	}
	fmt.Fprintln(t, "\t")
	for _, m := range allMoments {
		fmt.Fprint(t, "  ", m[0])
		for _, s := range r.Systems {
			fmt.Fprint(t, "\t", s.Moments()[m[0]])
		}
		fmt.Fprintln(t, "\t"+m[1])
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	return nil
}

// writeCuts tells of each cut.
func (r *Report) writeCuts(w *bytes.Buffer) {
	for _, s := range r.Systems {
		for i, c := range s.Cuts {
			fmt.Fprintf(w, "\n%s, cut %d, %s after the start and for %s: %d and %d rounds, %d and %d updates on the larger and the smaller side;",
				s.System, i+1, figures.Seconds(c.At), figures.Seconds(c.Healed-c.At), c.Rounds[0], c.Rounds[1], c.Acked[0], c.Acked[1])
			if c.Agreed == 0 {
				fmt.Fprint(w, "\n  no one model afterwards")
				continue
			}
			fmt.Fprintf(w, "\n  contact %s after the healing, one model %s after that", figures.Seconds(c.Contact-c.Healed), figures.Seconds(c.Agreed-c.Contact))
		}
		if len(s.Cuts) > 0 {
			fmt.Fprintln(w)
		}
	}
}

// writeLimits puts what is promised beside what was measured.
func (r *Report) writeLimits(w *bytes.Buffer) error {
	if len(r.Limits) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nlimits of fedmesh\tmeasured\tpromised\t")
	for _, l := range r.Limits {
		kept := "kept"
		if !l.Kept {
			kept = "NOT KEPT"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\n", l.What, l.Measured, l.Bound, kept)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	return nil
}

// span says how long it goes.
func (r *Report) span() string {
	switch {
	case r.Partition:
		return fmt.Sprintf("for %d calm rounds and then until the network was cut and healed as often as asked for", r.Calm)
	case r.Kills > 0:
		return fmt.Sprintf("for %d calm rounds and then until %d kills", r.Calm, r.Kills)
	}
	return fmt.Sprintf("for %d calm rounds and then %d more", r.Calm, r.Target)
}

// plan says who is killed when.
func (r *Report) plan() string {
	if r.Partition {
		return fmt.Sprintf("About %s after all have one model the network is cut between the majority of the peers and the others, each with half of the combiners, for %s.",
			plain(r.CutEvery)+" s", plain(r.CutFor)+" s")
	}
	switch r.Kill {
	case killNone:
		return "Nobody is killed."
	case killAllButOne:
		return "After a third of them all peers but one are killed at once."
	case killLeader:
		return fmt.Sprintf("About every %s the leader is killed, and started again after %s.", plain(r.Every)+" s", plain(r.Restart)+" s")
	}
	return fmt.Sprintf("About every %s a process is killed at random, and started again after %s.", plain(r.Every)+" s", plain(r.Restart)+" s")
}

func spread(sorted []float64) string {
	if len(sorted) == 0 {
		return "-"
	}
	return figures.Seconds(figures.Quantile(sorted, 0.5)) + " / " + figures.Seconds(figures.Quantile(sorted, 0.99)) + " / " + figures.Seconds(figures.Quantile(sorted, 1))
}
