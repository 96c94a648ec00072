package main

import (
	"math"
	"slices"

	"github.com/fedmesh/fedmesh/benchmarks/proc"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Means says how many rounds' models were computed again.
type Means struct {
	Checked int      `json:"checked"` // bit for bit the mean of what the round is said to contain
	Wrong   []uint64 `json:"wrong"`
	Unknown []uint64 `json:"unknown"` // of which a model or an update could not be had again
}

// Result is one system's run.
type Result struct {
	System  string  `json:"system"`
	Peers   int     `json:"peers"`
	Seconds float64 `json:"seconds"` // from the start to the last acknowledgement
	InTime  bool    `json:"in_time"` // all rounds were finished before the time was up

	Acknowledged int      `json:"acknowledged"`
	Counted      int      `json:"counted"`
	Extra        int      `json:"unacknowledged"` // counted though the answer was lost
	Lost         int      `json:"lost"`
	Doubled      int      `json:"doubled"`
	Altered      int      `json:"altered"`
	Divergent    int      `json:"divergent_rounds"`
	Changed      []uint64 `json:"changed_final_rounds"`
	Agreed       bool     `json:"agreed"`
	Rounds       int      `json:"rounds"` // with updates in them
	Means        Means    `json:"means"`
	Faults       string   `json:"faults,omitempty"`
	GaveUp       int      `json:"combiners_given_up"` // who got no further within minutes, though all processes were back

	Finished []float64  `json:"finished"` // seconds at which the first process served round i+1, or a later one
	Pushes   []Push     `json:"pushes"`
	Kills    []Kill     `json:"kills"`
	Skipped  int        `json:"kills_skipped"` // no leader, or too many down already
	Usage    proc.Usage `json:"usage"`
	Bytes    int64      `json:"update_bytes"` // of all acknowledged updates together
	Alone    *Alone     `json:"alone,omitempty"`
}

// take fills in what was found of the updates.
func (r *Result) take(v process.Verdict) {
	r.Acknowledged, r.Counted, r.Extra = v.Acknowledged, v.Counted, v.Extra
	r.Lost, r.Doubled, r.Altered, r.Divergent, r.Agreed = len(v.Lost), len(v.Doubled), len(v.Altered), len(v.Divergent), v.Agreed
	if err := v.Err(); err != nil {
		r.Faults = err.Error()
	}
	for _, view := range v.Views {
		n := 0
		for _, round := range view.Rounds {
			if len(round.Updates) > 0 {
				n++
			}
		}
		r.Rounds = max(r.Rounds, n)
	}
}

// Bad reports whether anything is wrong that must never be.
func (r *Result) Bad() bool {
	return r.Faults != "" || r.GaveUp > 0 || len(r.Changed) > 0 || len(r.Means.Wrong) > 0
}

// Gap is the longest time in which no round was finished, the time before the
// first among it.
func (r *Result) Gap() float64 {
	last, longest := 0.0, 0.0
	for _, t := range r.Finished {
		longest, last = max(longest, t-last), t
	}
	if !r.InTime {
		longest = max(longest, r.Seconds-last)
	}
	return longest
}

// Latencies returns how long pushes took, in ascending order: all of them, or
// those whose first attempt failed.
func (r *Result) Latencies(retried bool) []float64 {
	var out []float64
	for _, p := range r.Pushes {
		if !retried || p.Attempts > 1 {
			out = append(out, p.Took())
		}
	}
	slices.Sort(out)
	return out
}

// Agreements returns how long it took from each kill until all living processes
// served the same later round, in ascending order, and of how many kills the end
// of the run came first.
func (r *Result) Agreements() (took []float64, open int) {
	for _, k := range r.Kills {
		if k.Agree == 0 {
			open++
			continue
		}
		took = append(took, k.Agree-k.At)
	}
	slices.Sort(took)
	return took, open
}

// quantile is the smallest of the sorted values that a share q of them does not
// exceed; NaN of none.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[min(len(sorted)-1, max(0, int(math.Ceil(q*float64(len(sorted))))-1))]
}

// Report is what one command measured, and on what.
type Report struct {
	Command   string    `json:"command"`
	Fedmesh   string    `json:"fedmesh"`
	Go        string    `json:"go"`
	Platform  string    `json:"platform"`
	CPU       string    `json:"cpu"`
	Cores     int       `json:"cores"`
	LoadAvg   string    `json:"load_average"`
	Seed      uint64    `json:"seed"`
	Kill      string    `json:"kill"`
	Every     float64   `json:"kill_every"`
	Restart   float64   `json:"restart_after"`
	Combiners int       `json:"combiners"`
	Params    int64     `json:"params"`
	Target    int       `json:"rounds"`
	Quick     bool      `json:"quick"`
	Systems   []*Result `json:"systems"`
}
