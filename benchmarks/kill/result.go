package main

import (
	"slices"

	"github.com/fedmesh/fedmesh/benchmarks/figures"
	"github.com/fedmesh/fedmesh/benchmarks/proc"
	"github.com/fedmesh/fedmesh/benchmarks/verify"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Result is one system's run.
type Result struct {
	System  string  `json:"system"`
	Peers   int     `json:"peers"`
	Seconds float64 `json:"seconds"` // from the start to the last acknowledgement
	InTime  bool    `json:"in_time"` // all rounds were finished before the time was up

	Acknowledged int          `json:"acknowledged"`
	Counted      int          `json:"counted"`
	Extra        int          `json:"unacknowledged"` // counted though the answer was lost
	Lost         int          `json:"lost"`
	Doubled      int          `json:"doubled"`
	Altered      int          `json:"altered"`
	Divergent    int          `json:"divergent_rounds"`
	Changed      []uint64     `json:"changed_final_rounds"`
	Agreed       bool         `json:"agreed"`
	Rounds       int          `json:"rounds"` // with updates in them
	Means        verify.Means `json:"means"`
	Faults       string       `json:"faults,omitempty"`
	GaveUp       int          `json:"combiners_given_up"` // who got no further within minutes, though all processes were back

	Finished   []float64  `json:"finished"` // seconds at which the first process served round i+1, or a later one
	Pushes     []Push     `json:"pushes"`
	CalmUntil  float64    `json:"calm_until"` // seconds; before, nobody was killed and nothing cut
	Calm       []Mark     `json:"calm"`       // moments before that
	Kills      []Kill     `json:"kills"`
	Skipped    int        `json:"kills_skipped"` // no leader, or too many down already
	Cuts       []Cut      `json:"cuts,omitempty"`
	SideGaps   [2]float64 `json:"side_gaps"`   // of a network that was cut: the longest time in which neither side's peers served a newer round
	KeptModels int        `json:"kept_models"` // by each process; 0: all
	Usage      proc.Usage `json:"usage"`
	Bytes      int64      `json:"update_bytes"` // of all acknowledged updates together
	Alone      *Alone     `json:"alone,omitempty"`
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

// Gap is the longest time in which no round was finished, once there were kills
// or cuts.
func (r *Result) Gap() float64 {
	end := lastOf(r.Finished)
	if !r.InTime {
		end = max(end, r.Seconds)
	}
	return gap(r.Finished, r.CalmUntil, end)
}

// CalmGap is the longest such time before, that before the first round among it.
func (r *Result) CalmGap() float64 { return gap(r.Finished, 0, r.CalmUntil) }

// gap is the longest time between two points, or between one and an end, of what
// lies between two times.
func gap(times []float64, from, to float64) float64 {
	last, longest := from, 0.0
	for _, t := range times {
		if t >= from && t <= to {
			longest, last = max(longest, t-last), t
		}
	}
	return max(longest, to-last)
}

func lastOf(times []float64) float64 {
	if len(times) == 0 {
		return 0
	}
	return times[len(times)-1]
}

// Latencies returns how long those pushes took that are meant, in ascending order.
func (r *Result) Latencies(meant func(Push) bool) []float64 {
	var out []float64
	for _, p := range r.Pushes {
		if meant(p) {
			out = append(out, p.Took())
		}
	}
	slices.Sort(out)
	return out
}

// Which pushes are meant. A push belongs to the time in which it began.
func (r *Result) calmly(p Push) bool   { return p.Start < r.CalmUntil }
func (r *Result) ordinary(p Push) bool { return p.Start >= r.CalmUntil && p.Attempts == 1 }
func (r *Result) retried(p Push) bool  { return p.Start >= r.CalmUntil && p.Attempts > 1 }

func anyPush(Push) bool { return true }

// Agreements returns how long it took from each kill, or from the first contact
// after each cut, until all living processes served the same later round or the
// same model, in ascending order, and of how many the end of the run came first.
func (r *Result) Agreements() (took []float64, open int) {
	for _, k := range r.Kills {
		took, open = k.add(took, open)
	}
	for _, c := range r.Cuts {
		took, open = Mark{At: c.Contact, Agree: c.Agreed}.add(took, open)
	}
	slices.Sort(took)
	return took, open
}

// CalmAgreements are the same of moments at which nobody was killed.
func (r *Result) CalmAgreements() (took []float64, open int) {
	for _, m := range r.Calm {
		took, open = m.add(took, open)
	}
	slices.Sort(took)
	return took, open
}

func (m Mark) add(took []float64, open int) ([]float64, int) {
	if m.Agree == 0 {
		return took, open + 1
	}
	return append(took, m.Agree-m.At), open
}

// Moments counts the kills by what the process was doing; one may count more
// than once.
func (r *Result) Moments() map[string]int {
	out := map[string]int{}
	for _, k := range r.Kills {
		for _, what := range k.During {
			out[what]++
		}
		if len(k.During) == 0 {
			out[duringNothing]++
		}
	}
	return out
}

// Report is what one command measured, and on what.
type Report struct {
	Command   string         `json:"command"`
	Fedmesh   string         `json:"fedmesh"`
	Go        string         `json:"go"`
	Platform  string         `json:"platform"`
	CPU       string         `json:"cpu"`
	Cores     int            `json:"cores"`
	LoadAvg   string         `json:"load_average"`
	Seed      uint64         `json:"seed"`
	Kill      string         `json:"kill"`
	Partition bool           `json:"partition"`
	CutEvery  float64        `json:"cut_every,omitempty"`
	CutFor    float64        `json:"cut_for,omitempty"`
	Kills     int            `json:"kills"` // to end after
	Calm      int            `json:"calm_rounds"`
	Every     float64        `json:"kill_every"`
	Restart   float64        `json:"restart_after"`
	Combiners int            `json:"combiners"`
	Params    int64          `json:"params"`
	Target    int            `json:"rounds"`
	Quick     bool           `json:"quick"`
	Systems   []*Result      `json:"systems"`
	Limits    figures.Limits `json:"limits"`
}
