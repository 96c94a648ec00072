package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
)

// Comparison is what came out of several strategies on one mesh.
type Comparison struct {
	Seed      uint64   `json:"seed"`
	Peers     int      `json:"peers"`
	Combiners int      `json:"combiners"`
	Attack    string   `json:"attack"`
	Attackers int      `json:"attackers"`
	Scale     float64  `json:"scale"`
	Trials    []Result `json:"trials"` // in the order of training
	OK        bool     `json:"ok"`
}

// compare trains with one strategy after the other, each in a session of its own,
// all from the same first model on the same data. It draws a picture where that
// was asked for.
func compare(ctx context.Context, c Config, d data, dir string, live *live) (out Comparison, err error) {
	out = Comparison{
		Seed: c.Seed, Peers: c.Peers, Combiners: c.Combiners,
		Attack: c.Attack, Attackers: c.attackers(), Scale: c.Scale,
	}
	m, err := startMesh(ctx, c, dir, "strategies")
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	for i, t := range c.trials() {
		live.line("strategy " + t.String())
		r, err := m.try(ctx, c, t, d, fmt.Sprintf("%d-%s", i+1, t.Strategy), live)
		if err != nil {
			return out, fmt.Errorf("%w (strategy %s)", err, t)
		}
		r.OK = r.Err() == nil
		out.Trials = append(out.Trials, r)
	}
	out.OK = out.Err() == nil
	if c.SVG == "" {
		return out, nil
	}
	if err := os.WriteFile(c.SVG, out.picture().render(), 0o644); err != nil {
		return out, fmt.Errorf("mnist: %w", err)
	}
	return out, nil
}

func (c Comparison) good() bool { return c.OK }

// Err is nil when each training was what it should be. Accuracy is not judged.
func (c Comparison) Err() error {
	var errs []error
	for _, r := range c.Trials {
		if err := r.Err(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.trial, err))
		}
	}
	return errors.Join(errs...)
}

// pair is a strategy's result in peace, and under attack if there was one.
type pair struct {
	peace    Result
	attacked *Result
}

func (c Comparison) pairs() []pair {
	var out []pair
	for _, r := range c.Trials {
		if r.Attack == attackNone {
			out = append(out, pair{peace: r})
			continue
		}
		for i := range out {
			if out[i].peace.Strategy == r.Strategy {
				out[i].attacked = &r
			}
		}
	}
	return out
}

// write prints the comparison for people.
func (c Comparison) write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "\nstrategy\taccuracy")
	if c.Attackers > 0 {
		fmt.Fprint(t, "\t"+c.Attack)
	}
	fmt.Fprintln(t)
	for _, p := range c.pairs() {
		fmt.Fprintf(t, "%s\t%.4f", p.peace.trial, p.peace.Accuracy)
		if p.attacked != nil {
			fmt.Fprintf(t, "\t%.4f", p.attacked.Accuracy)
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("mnist: %w", err)
	}
	acknowledged, counted := 0, 0
	for _, r := range c.Trials {
		acknowledged += r.Verdict.Acknowledged
		counted += r.Verdict.Counted
	}
	verdict := "good: the peers agree on every round"
	if err := c.Err(); err != nil {
		verdict = "BAD\n" + err.Error()
	}
	if _, err := fmt.Fprintf(w, "\n%d updates acknowledged, %d counted\nverdict           %s\n", acknowledged, counted, verdict); err != nil {
		return fmt.Errorf("mnist: %w", err)
	}
	return nil
}
