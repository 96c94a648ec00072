package main

import (
	"fmt"
	"math"

	"github.com/fedmesh/fedmesh/benchmarks/figures"
)

// What fedmesh is held to.
const (
	retryWithin   = 0.25 // seconds, p99 of pushes whose first attempt failed
	agreeWithin   = 1.0  // seconds from a kill to agreement, p99, beyond what it takes without a kill
	gapTimes      = 3.0  // how many times as long raft must go without a finished round at its longest
	mergeWithin   = 2.0  // seconds from the first contact after a cut to one model, p99
	momentsWanted = 200  // kills from which on each moment must have been hit
)

// judge fills in the limits of fedmesh, when it was among the systems.
func (r *Report) judge() {
	r.Limits = nil
	var mesh, raft *Result
	for _, s := range r.Systems {
		switch s.System {
		case sysMesh:
			mesh = s
		case sysRaft:
			raft = s
		}
	}
	if mesh == nil {
		return
	}
	r.nothingWrong(mesh)
	switch {
	case r.Partition:
		r.cutLimits(mesh)
	case r.Kill == killAllButOne:
		a := mesh.Alone
		r.Limits.Add("the last peer serves the last model, acknowledges with copies 1 and finishes rounds", "a round",
			a != nil && a.Round >= a.Before && a.Pushes > 0 && a.Rounds > 0, "%t", a != nil)
		r.Limits.Add("the others return and all agree", "yes", a != nil && a.AgreedOn > a.Before, "%t", a != nil && a.AgreedOn > a.Before)
	case len(mesh.Kills) > 0:
		r.killLimits(mesh, raft)
	}
}

// most adds a limit on a time.
func (r *Report) most(what string, took, bound float64) {
	r.Limits.Add(what, "at most "+figures.Seconds(bound), !math.IsNaN(took) && took <= bound, "%s", figures.Seconds(took))
}

func (r *Report) nothingWrong(m *Result) {
	n := m.Lost + m.Doubled + m.Altered
	r.Limits.Add("updates lost, doubled or altered", "0", n == 0, "%d of %d", n, m.Acknowledged)
	r.Limits.Add("rounds divergent, changed when final, or not the mean", "0", m.Divergent+len(m.Changed)+len(m.Means.Wrong) == 0,
		"%d of %d", m.Divergent+len(m.Changed)+len(m.Means.Wrong), m.Rounds)
	r.Limits.Add("all peers agree in the end, and all combiners could go on", "yes", m.Agreed && m.Faults == "" && m.GaveUp == 0 && m.InTime, "%t", m.Agreed && m.InTime)
}

func (r *Report) killLimits(mesh, raft *Result) {
	if r.Kills > 0 {
		r.Limits.Add("kills", fmt.Sprintf("at least %d", r.Kills), len(mesh.Kills) >= r.Kills, "%d", len(mesh.Kills))
	}
	// Only what was retried tells anything; few kills may hit no push.
	if l := mesh.Latencies(mesh.retried); len(l) > 0 {
		r.most("push retried after a kill, p99", figures.Quantile(l, 0.99), retryWithin)
	}
	killed, _ := mesh.Agreements()
	calm, _ := mesh.CalmAgreements()
	r.most("kill to the next agreed round, p99, beyond that without a kill", figures.Quantile(killed, 0.99)-figures.Quantile(calm, 0.99), agreeWithin)
	if raft != nil && mesh.Gap() > 0 {
		times := raft.Gap() / mesh.Gap()
		r.Limits.Add("longest time without a finished round, raft's beside fedmesh's", fmt.Sprintf("at least %.0f times", gapTimes), times >= gapTimes, "%.1f times", times)
	}
	if len(mesh.Kills) < momentsWanted {
		return
	}
	hit := mesh.Moments()
	for _, what := range []string{duringUpload, duringCopies, duringSeal, duringRepair, duringStart} {
		r.Limits.Add("kills during: "+what, "at least 1", hit[what] > 0, "%d", hit[what])
	}
}

func (r *Report) cutLimits(mesh *Result) {
	least := uint64(math.MaxUint64)
	acked := math.MaxInt
	for _, c := range mesh.Cuts {
		for i := range c.Rounds {
			least, acked = min(least, c.Rounds[i]), min(acked, c.Acked[i])
		}
	}
	if len(mesh.Cuts) == 0 {
		least, acked = 0, 0
	}
	r.Limits.Add("rounds finished on either side of each cut", "at least 1", least > 0, "%d", least)
	r.Limits.Add("updates acknowledged on either side of each cut", "at least 1", acked > 0, "%d", acked)
	took, open := mesh.Agreements()
	r.most("first contact to one model everywhere, p99", figures.Quantile(took, 0.99), mergeWithin)
	r.Limits.Add("cuts after which there never was one model", "0", open == 0, "%d", open)
}
