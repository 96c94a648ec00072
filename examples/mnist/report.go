package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

const (
	wantAccuracy = 0.95  // of plain averaging in peace
	maxDistance  = 0.005 // in accuracy, between a run with a kill and one without
)

// Result is what came out of a run.
type Result struct {
	trial
	Seed     uint64          `json:"seed"`
	Kill     string          `json:"kill"`
	Victim   string          `json:"victim,omitempty"`
	Seconds  float64         `json:"seconds"`
	Accuracy float64         `json:"accuracy"` // of the last model on the whole test set
	Want     float64         `json:"want"`     // the least that it must be; 0 where nothing is expected
	Model    string          `json:"model"`    // its digest
	Rounds   []Round         `json:"rounds"`
	Verdict  process.Verdict `json:"verdict"`
	// Undisturbed is the same training without a kill, with --compare.
	Undisturbed *Result `json:"undisturbed,omitempty"`
	OK          bool    `json:"ok"`
}

func newResult(c Config, t trial, rounds []Round, victim string, v process.Verdict, took time.Duration) Result {
	last := rounds[len(rounds)-1]
	want := 0.0
	if t.Strategy == "fedavg" && len(t.Params) == 0 && t.Attack == attackNone && !c.compares() {
		want = wantAccuracy
	}
	return Result{
		trial: t, Want: want,
		Seed: c.Seed, Kill: c.Kill, Victim: victim, Seconds: took.Seconds(),
		Accuracy: last.Accuracy, Model: last.Model, Rounds: rounds, Verdict: v,
	}
}

func (r Result) good() bool { return r.OK }

// Err is nil when the run is what it should be; otherwise it lists what is wrong.
func (r Result) Err() error {
	var errs []error
	if r.Accuracy < r.Want {
		errs = append(errs, fmt.Errorf("mnist: accuracy %.4f is below %.2f", r.Accuracy, r.Want))
	}
	errs = append(errs, r.Verdict.Err())
	if v := r.Verdict; v.Acknowledged != v.Counted || v.Extra != 0 {
		errs = append(errs, fmt.Errorf("mnist: %d updates acknowledged, %d of them counted, and %d others", v.Acknowledged, v.Counted, v.Extra))
	}
	if u := r.Undisturbed; u != nil {
		if d := math.Abs(r.Accuracy - u.Accuracy); d > maxDistance {
			errs = append(errs, fmt.Errorf("mnist: accuracy is %.4f from that of the run without a kill, more than %.3f", d, maxDistance))
		}
		if err := u.Err(); err != nil {
			errs = append(errs, fmt.Errorf("mnist: run without a kill: %w", err))
		}
	}
	return errors.Join(errs...)
}

// write prints the result for people.
func (r Result) write(w io.Writer) error {
	fmt.Fprintln(w)
	if err := r.Verdict.WriteRounds(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if err := r.Verdict.WriteTable(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\naccuracy          %.4f on the test set, %.0f s\n", r.Accuracy, r.Seconds)
	if u := r.Undisturbed; u != nil {
		same := "another model"
		if u.Model == r.Model {
			same = "the same model to the bit"
		}
		fmt.Fprintf(w, "without a kill    %.4f, %s\n", u.Accuracy, same)
	}
	verdict := "good"
	if err := r.Err(); err != nil {
		verdict = "BAD\n" + err.Error()
	}
	if _, err := fmt.Fprintln(w, "verdict           "+verdict); err != nil {
		return fmt.Errorf("mnist: %w", err)
	}
	return nil
}
