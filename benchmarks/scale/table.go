package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/fedmesh/fedmesh/benchmarks/figures"
)

// writeText prints a claim's figures for people, and what is needed to get them
// again.
func (r *Report) writeText(w io.Writer, claim string, n int) error {
	var b strings.Builder
	switch claim {
	case claimSessions:
		r.Sessions.write(&b, r.Train)
	case claimCombiners:
		r.Crowd.write(&b, r.Train)
	default:
		r.Peers.write(&b, r.Train)
	}
	b.WriteString("\n")
	if err := r.byClaim[claim].Write(&b); err != nil {
		return err
	}
	fmt.Fprintf(&b, "\ncommand   %s\nfedmesh   %s\ngo        %s %s\nmachine   %s, %d cores; load average before: %s\nseed      %d\n",
		r.Command, r.Fedmesh, r.Go, r.Platform, r.CPU, r.Cores, r.Loads[n], r.Seed)
	_, err := io.WriteString(w, b.String())
	return err
}

// table lines up rows of cells.
func table(b *strings.Builder, rows ...[]string) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	_ = t.Flush() // a strings.Builder takes everything
}

// spread writes median, p99 and the largest of values in ascending order.
func spread(sorted []float64, unit func(float64) string) string {
	return fmt.Sprintf("%s / %s / %s (%d)", unit(figures.Quantile(sorted, 0.5)), unit(figures.Quantile(sorted, 0.99)), unit(figures.Quantile(sorted, 1)), len(sorted))
}

func (s *Sessions) write(b *strings.Builder, train float64) {
	fmt.Fprintf(b, "%d sessions at once on %d peers, %d combiners each, which train for %s; models of %s float32 parameters.\n",
		s.Sessions, sessionPeers, sessionCombiners, figures.Seconds(train), figures.Count(float64(s.Params)))
	fmt.Fprintf(b, "Among them one with a model of %s, one that gets bad pushes all the time, one that is closed in the middle.\n\n",
		figures.Size(4*float64(s.Huge)))
	parts := []struct {
		name string
		Part
	}{{"one session alone", s.Alone}, {"the same among all", s.Among}, {"all other small ones", s.Others}}
	rows := [][]string{{"median / p99 / largest (combiners' rounds)", "round", "without training", "push", "CPU peers", "CPU combiners"}}
	for _, p := range parts {
		rows = append(rows, []string{
			p.name, spread(times(p.Laps, Lap.Round), figures.Seconds), spread(times(p.Laps, Lap.Mesh), figures.Seconds),
			spread(times(p.Laps, func(l Lap) float64 { return l.Acked - l.Trained }), figures.Seconds),
			share(p.PeersCPU, p.Seconds), share(p.OwnCPU, p.Seconds),
		})
	}
	table(b, rows...)
	hugeRound := "-"
	if s.HugeRound != nil {
		hugeRound = figures.Seconds(*s.HugeRound)
	}
	fmt.Fprintf(b, `
A round goes from the moment that a combiner has a model until it has the next; without training, from the end of its training.
CPU is the processor time of all peers, and of the benchmark with its combiners, per second; the last two lines are of the same time.
The others were opened in %s. The huge model had %d rounds of %s without training; the closed session had %d.
`, figures.Seconds(s.Opening), s.HugeRounds, hugeRound, s.ClosedRounds)
	fmt.Fprintf(b, "What the mesh takes of the one session's round, its training left out, is %.1f times what it is alone (medians).\n",
		median(s.Among.Laps, Lap.Mesh)/median(s.Alone.Laps, Lap.Mesh))
	fmt.Fprintf(b, "Pushes of good combiners: %d acknowledged, %d of them not by the first peer that was asked; answers with 503 or 429: %d.\n", s.Verdict.Acknowledged, s.Verdict.Retried, s.Refusals)
	fmt.Fprintf(b, "Bad pushes refused: %s; %d tries got no answer, or one that means later.\n", listed(s.BadPushes), s.BadUnanswered)
	faults(b, s.Verdict, s.Fallen, s.BadAnswers)
}

func share(cpu, seconds float64) string {
	if cpu == 0 || seconds == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", cpu/seconds)
}

func listed(counts map[string]int) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		out = append(out, fmt.Sprintf("%s %d", k, counts[k]))
	}
	if len(out) == 0 {
		return "none"
	}
	return strings.Join(out, ", ")
}

// faults lists what is wrong.
func faults(b *strings.Builder, v Verdict, more ...[]string) {
	for _, f := range append(v.Faults, slices.Concat(more...)...) {
		fmt.Fprintf(b, "FAULT: %s\n", f)
	}
}

func (c *Crowd) write(b *strings.Builder, train float64) {
	fmt.Fprintf(b, "All combiners of one session push models of %s to %d peers: %d rounds in which each pushes after %s of training, give or take half,\nand %d in which all push in the same moment.\n\n",
		figures.Size(4*float64(c.Params)), crowdPeers, c.Rounds, figures.Seconds(train), c.Bursts)
	rows := [][]string{{"combiners", "round", "first push to last receipt", "to the model at all combiners", "resident, most of any peer"}}
	for _, t := range []Throng{c.Few, c.Many} {
		rows = append(rows, []string{fmt.Sprint(t.Combiners), "before", "", "", figures.Size(known(t.Idle))})
		for i, r := range t.Rounds {
			name := fmt.Sprint(i + 1)
			if r.Burst {
				name += ", at once"
			}
			rows = append(rows, []string{"", name, figures.Seconds(r.Acked - r.Began), figures.Seconds(r.Got - r.Began), figures.Size(known(r.Resident))})
		}
	}
	table(b, rows...)
	b.WriteString("\n")
	for _, t := range []Throng{c.Few, c.Many} {
		fmt.Fprintf(b, "%d combiners: %d pushes acknowledged, %d of them not at the first try; answers with 503 or 429: %d.\n", t.Combiners, t.Verdict.Acknowledged, t.Verdict.Retried, t.Refusals)
		faults(b, t.Verdict, t.Fallen)
	}
	if o := c.Overload; o != nil {
		o.write(b)
	}
}

func (o *Overload) write(b *strings.Builder) {
	limit := "told to take " + fmt.Sprint(o.MaxUploads) + " uploads at a time"
	if o.MaxUploads == 0 {
		limit = "which cannot be told how many uploads to take at a time"
	}
	fmt.Fprintf(b, "\nOverload: %d pushes of %s at the same time to one peer of %d, %s.\n", o.Pushes, figures.Size(4*float64(o.Params)), crowdPeers, limit)
	fmt.Fprintf(b, "All were acknowledged after %s, by at most %d tries; refusals by status: %s; %d without Retry-After; %d tries got no answer.\n",
		figures.Seconds(o.Seconds), o.MostTries, listed(o.Answers), o.NoRetry, o.Broken)
	fmt.Fprintf(b, "Resident at most %s, %s before.\n", figures.Size(known(o.Resident)), figures.Size(known(o.Idle)))
	faults(b, o.Verdict, o.Fallen, o.BrokenHow)
}

func (p *Peers) write(b *strings.Builder, train float64) {
	fmt.Fprintf(b, "%d peers join by one; a session of %d combiners trains for %s a round with models of %s float32 parameters;\n%d peers are killed at once and come back.\n\n",
		p.Peers, sessionCombiners, figures.Seconds(train), figures.Count(float64(p.Params)), len(p.Killed))
	table(b,
		[]string{"all started to all ready", figures.Seconds(p.Ready)},
		[]string{"all started to all see all", figures.Seconds(p.Seen)},
		[]string{"longest time without a new model, before the kill", figures.Seconds(p.CalmGap)},
		[]string{"  after it", figures.Seconds(p.Gap)},
		[]string{fmt.Sprintf("kill of %d to one later model at the %d others", len(p.Killed), p.Peers-len(p.Killed)), figures.Seconds(p.Agreed)},
		[]string{"restart of all to all ready", figures.Seconds(p.Back)},
		[]string{fmt.Sprintf("  to one later model at all %d", p.Peers), figures.Seconds(p.AllAgree)},
	)
	b.WriteString("\n")
	rows := [][]string{{"per peer: median / largest", "idle", "training", "after the kill"}}
	add := func(name string, of func(Traffic) []float64, unit func(float64) string) {
		row := []string{name}
		for _, t := range []Traffic{p.Idle, p.Training, p.After} {
			v := of(t)
			row = append(row, unit(figures.Median(v))+" / "+unit(figures.Quantile(v, 1)))
		}
		rows = append(rows, row)
	}
	add("gossip sent per second", func(t Traffic) []float64 { return t.Sent }, figures.Size)
	add("gossip received per second", func(t Traffic) []float64 { return t.Received }, figures.Size)
	add("bodies sent to other peers by HTTP per second", func(t Traffic) []float64 { return t.Bodies }, figures.Size)
	add("processor time per second", func(t Traffic) []float64 { return t.CPU }, func(x float64) string { return fmt.Sprintf("%.1f ms", 1000*x) })
	add("resident memory", func(t Traffic) []float64 { return t.Resident }, figures.Size)
	add("open files", func(t Traffic) []float64 { return t.Files }, figures.Count)
	add("  of them sockets", func(t Traffic) []float64 { return t.Sockets }, figures.Count)
	rows = append(rows, []string{"rounds", "", fmt.Sprint(p.Training.Rounds), fmt.Sprint(p.After.Rounds)},
		[]string{"looked at for", figures.Seconds(p.Idle.Seconds), figures.Seconds(p.Training.Seconds), figures.Seconds(p.After.Seconds)})
	table(b, rows...)
	b.WriteString("\nGossip is what peers gave to and took from the network over UDP and TCP, without the kernel's headers.\n")
	faults(b, p.Verdict, p.Fallen)
}
