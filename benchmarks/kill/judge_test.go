package main

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/benchmarks/verify"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// told is a session of three rounds with two combiners, the same at three peers,
// and what the combiners were told of it.
func told() ([]api.Receipt, []process.View) {
	var receipts []api.Receipt
	var views []process.View
	for _, p := range []string{"a", "b", "c"} {
		v := process.View{Peer: p, Session: api.SessionInfo{State: api.SessionClosed, Round: 3}}
		for n := 1; n <= 3; n++ {
			id := strconv.Itoa(n)
			r := api.RoundInfo{Round: uint64(n), State: api.RoundFinal, Model: "model" + id, Inputs: "inputs" + id}
			for _, c := range []string{"c000", "c001"} {
				r.Updates = append(r.Updates, api.UpdateInfo{Combiner: c, ID: id, Digest: c + id})
				if p == "a" {
					receipts = append(receipts, api.Receipt{Combiner: c, ID: id, Digest: c + id})
				}
			}
			v.Rounds = append(v.Rounds, r)
		}
		views = append(views, v)
	}
	return receipts, views
}

// What must never be fails the command, whatever else was measured.
func TestFaultsFail(t *testing.T) {
	l, err := load.New(t.Context(), load.Options{Params: 10, Updates: 2, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		spoil func(receipts *[]api.Receipt, v *process.View) // of one peer
		fine  bool
	}{
		"nothing": {spoil: func(*[]api.Receipt, *process.View) {}, fine: true},
		"lost":    {spoil: func(_ *[]api.Receipt, v *process.View) { v.Rounds[1].Updates = v.Rounds[1].Updates[:1] }},
		"doubled": {spoil: func(_ *[]api.Receipt, v *process.View) {
			v.Rounds[2].Updates = append(v.Rounds[2].Updates, v.Rounds[1].Updates[1])
		}},
		"altered":            {spoil: func(r *[]api.Receipt, _ *process.View) { (*r)[0].Digest = "other" }},
		"divergent model":    {spoil: func(_ *[]api.Receipt, v *process.View) { v.Rounds[1].Model = "other" }},
		"divergent inputs":   {spoil: func(_ *[]api.Receipt, v *process.View) { v.Rounds[1].Inputs = "other" }},
		"one does not agree": {spoil: func(_ *[]api.Receipt, v *process.View) { v.Rounds[2].State = api.RoundSettled }},
		"one is silent": {spoil: func(_ *[]api.Receipt, v *process.View) {
			*v = process.View{Peer: v.Peer, Err: errors.New("refused")}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			receipts, views := told()
			for i := range views {
				for j := range views[i].Rounds {
					views[i].Rounds[j].Updates = slices.Clone(views[i].Rounds[j].Updates)
				}
			}
			c.spoil(&receipts, &views[1])
			tr := &trial{load: l, watch: newWatch([]string{"a", "b", "c"}, func() float64 { return 0 })}
			r := &Result{System: sysMesh, Peers: 3, InTime: true}
			tr.conclude(r, process.Judge(receipts, views))
			report := &Report{Kill: killRandom, Systems: []*Result{r}}
			report.judge()
			if r.Bad() == c.fine || (report.Limits.Broken("kill") == nil) != c.fine {
				t.Errorf("bad %v, limits %v, %+v", r.Bad(), report.Limits.Broken("kill"), *r)
			}
		})
	}
}

// A round that was final and is another in the end has changed, even though all
// say the same then.
func TestChangedFinalFails(t *testing.T) {
	l, err := load.New(t.Context(), load.Options{Params: 10, Updates: 2, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	receipts, views := told()
	tr := &trial{load: l, watch: newWatch([]string{"a"}, func() float64 { return 0 })}
	before := views[0].Rounds[1]
	before.Model = "another"
	tr.watch.final([]api.RoundInfo{before})
	r := &Result{System: sysMesh, InTime: true}
	tr.conclude(r, process.Judge(receipts, views))
	report := &Report{Kill: killRandom, Systems: []*Result{r}}
	report.judge()
	if !r.Bad() || report.Limits.Broken("kill") == nil || !slices.Equal(r.Changed, []uint64{2}) {
		t.Errorf("%+v, %v", *r, report.Limits.Broken("kill"))
	}
}

// A model that is not the mean fails.
func TestWrongMeanFails(t *testing.T) {
	r := &Result{Means: verify.Means{Wrong: []uint64{2}}}
	if !r.Bad() {
		t.Error("a wrong model does not fail")
	}
}

func TestLimits(t *testing.T) {
	good := func() *Report {
		r := made()
		r.Systems[0].Agreed = true
		r.Systems[0].Pushes[1].Acked = 0.2 // nobody waits for seconds
		r.Systems[0].Kills = r.Systems[0].Kills[:2]
		r.Systems[1].Finished, r.Systems[1].InTime = []float64{0.5, 9}, true
		return r
	}
	for name, c := range map[string]struct {
		spoil func(mesh, raft *Result)
		say   string // empty: nothing is wrong
	}{
		"nothing":         {spoil: func(_, _ *Result) {}},
		"slow retry":      {spoil: func(m, _ *Result) { m.Pushes[3].Acked = m.Pushes[3].Start + 0.3 }, say: "retried"},
		"slow to agree":   {spoil: func(m, _ *Result) { m.Kills[1].Agree += 5 }, say: "agreed round"},
		"no agreement":    {spoil: func(m, _ *Result) { m.Kills[0].Agree, m.Kills[1].Agree = 0, 0 }, say: "agreed round"},
		"as slow as raft": {spoil: func(_, r *Result) { r.Finished = []float64{0.5, 3} }, say: "raft's"},
		"not in time":     {spoil: func(m, _ *Result) { m.InTime = false }, say: "could go on"},
		"gave up":         {spoil: func(m, _ *Result) { m.GaveUp = 1 }, say: "could go on"},
		"lost":            {spoil: func(m, _ *Result) { m.Lost = 1 }, say: "lost"},
	} {
		r := good()
		c.spoil(r.Systems[0], r.Systems[1])
		r.judge()
		err := r.Limits.Broken("kill")
		if c.say == "" && err != nil || c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say) || len(strings.Split(err.Error(), "\n")) > 1) {
			t.Errorf("%s: %v", name, err)
		}
	}
	few := good()
	few.Kills = 3
	if few.judge(); few.Limits.Broken("kill") == nil {
		t.Error("too few kills are not seen")
	}
	cut := good()
	cut.Partition = true
	cut.Systems[0].Kills = nil
	cut.Systems[0].Cuts = []Cut{{At: 1, Healed: 2, Contact: 2.5, Agreed: 3, Rounds: [2]uint64{4, 1}, Acked: [2]int{9, 2}}}
	if cut.judge(); cut.Limits.Broken("kill") != nil {
		t.Error(cut.Limits.Broken("kill"))
	}
	cut.Systems[0].Cuts[0].Rounds[1] = 0
	if cut.judge(); cut.Limits.Broken("kill") == nil {
		t.Error("a side that stood still is not seen")
	}
	cut.Systems[0].Cuts[0].Rounds[1], cut.Systems[0].Cuts[0].Agreed = 1, 0
	if cut.judge(); cut.Limits.Broken("kill") == nil {
		t.Error("a cut that was never healed is not seen")
	}
	lone := good()
	lone.Kill = killAllButOne
	if lone.judge(); lone.Limits.Broken("kill") == nil {
		t.Error("that nobody was left alone is not seen")
	}
	lone.Systems[0].Alone = &Alone{Round: 3, Before: 3, Pushes: 1, Rounds: 2, AgreedOn: 6}
	if lone.judge(); lone.Limits.Broken("kill") != nil {
		t.Error(lone.Limits.Broken("kill"))
	}
}
