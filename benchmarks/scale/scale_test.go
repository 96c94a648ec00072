package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/benchmarks/verify"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

const exposed = `# HELP fedmesh_x_total Things.
# TYPE fedmesh_x_total counter
fedmesh_x_total{way="datagram"} 10
fedmesh_x_total{way="stream"} 2.5e+01
fedmesh_x_total_more 1000
fedmesh_plain 7
fedmesh_api_request_duration_seconds_count{code="503",method="PUT",route="/v1/sessions/{session}/updates/{combiner}"} 3
fedmesh_api_request_duration_seconds_count{code="429",method="PATCH",route="/v1/uploads/{upload}"} 2
fedmesh_api_request_duration_seconds_count{code="503",method="GET",route="/readyz"} 50
fedmesh_api_request_duration_seconds_count{code="500",method="GET",route="/v1/mesh"} 1
`

func TestSeries(t *testing.T) {
	s, err := parseSeries(strings.NewReader(exposed))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.sum("fedmesh_x_total"); got != 35 {
		t.Errorf("in all %v", got)
	}
	if got := s.sum("fedmesh_x_total", `way="stream"`); got != 25 {
		t.Errorf("by stream %v", got)
	}
	if got := s.sum("fedmesh_plain"); got != 7 {
		t.Errorf("plain %v", got)
	}
	if !s.has("fedmesh_x_total") || !s.has("fedmesh_plain") || s.has("fedmesh_x") {
		t.Error("what there is")
	}
	if s.refusals() != 5 || s.failures() != 1 {
		t.Errorf("%d refusals, %d failures", s.refusals(), s.failures())
	}
	for _, text := range []string{"alone", "a b"} {
		if _, err := parseSeries(strings.NewReader(text)); err == nil {
			t.Errorf("%q was taken for metrics", text)
		}
	}
}

// laps are some rounds of two combiners, the last of which one has not finished.
func laps() []Lap {
	return []Lap{
		{Step: 1, Began: 0, Trained: 2, Acked: 2.1, Got: 2.5},
		{Step: 1, Began: 0, Trained: 2.2, Acked: 2.4, Got: 2.6},
		{Step: 2, Began: 2.5, Trained: 4.5, Acked: 4.6, Got: 5},
		{Step: 2, Began: 2.6, Trained: 4.6, Acked: 4.9, Got: 5.2},
		{Step: 3, Began: 5, Trained: 7, Acked: 7.1, Got: 7.2},
	}
}

func TestLaps(t *testing.T) {
	sys := &system{samples: []Sample{{At: 1, Resident: 900}, {At: 2.3, Resident: 10}, {At: 2.4, Resident: 30}, {At: 5.1, Resident: 50}}}
	s := &session{sys: sys, combiners: 2, steps: 3, laps: laps()}
	if got := s.finished(); got != 2 {
		t.Errorf("%d rounds finished", got)
	}
	rounds := s.crowdRounds(1)
	want := []CrowdRound{{Began: 2, Acked: 2.4, Got: 2.6, Resident: 30}, {Burst: true, Began: 4.5, Acked: 4.9, Got: 5.2, Resident: 50}}
	if !slices.Equal(rounds, want) {
		t.Errorf("rounds %+v", rounds)
	}
	if got := between(s.laps, 0.5, 6); len(got) != 2 || got[0].Step != 2 {
		t.Errorf("between: %+v", got)
	}
	if got := median(s.laps[:1], Lap.Mesh); got != 0.5 {
		t.Errorf("without training %v", got)
	}
	if got := median(s.laps[:1], Lap.Round); got != 2.5 {
		t.Errorf("round %v", got)
	}
	if got := s.gap(0, 10); math.Abs(got-2.8) > 1e-9 {
		t.Errorf("gap %v", got)
	}
	if got := s.gap(5, 5.5); math.Abs(got-0.3) > 1e-9 {
		t.Errorf("gap %v at the end", got)
	}
}

func TestMeeting(t *testing.T) {
	m := &meeting{of: 3}
	var mu sync.Mutex
	var seen []int
	var g sync.WaitGroup
	for range m.of {
		g.Go(func() {
			for step := range 5 {
				mu.Lock()
				seen = append(seen, step)
				mu.Unlock()
				m.wait(t.Context(), step)
			}
		})
	}
	g.Wait()
	if !slices.IsSorted(seen) || len(seen) != 15 {
		t.Errorf("the order was %v", seen)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m.wait(ctx, 7) // the test's own time limit would tell
}

func TestRefusals(t *testing.T) {
	o := &Overload{Answers: map[string]int{}}
	if got := o.refused(&api.Problem{Status: http.StatusServiceUnavailable, RetryAfter: 3 * time.Second}); got != 3*time.Second {
		t.Errorf("asked to wait 3 s, waits %v", got)
	}
	o.refused(fmt.Errorf("wrapped: %w", &api.Problem{Status: http.StatusTooManyRequests}))
	o.refused(&api.Problem{Status: http.StatusConflict})
	o.refused(errors.New("connection reset"))
	later, others := o.refusals()
	if later != 2 || others != 1 || o.NoRetry != 1 || o.Broken != 1 || len(o.BrokenHow) != 1 {
		t.Errorf("%d, %d, %+v", later, others, o.Answers)
	}
}

func TestVandal(t *testing.T) {
	l, err := load.New(t.Context(), load.Options{Params: 10, Updates: 1, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	v := newVandal(&session{load: l})
	kinds := map[string]bool{}
	for _, w := range v.pushes() {
		kinds[w.kind] = true
		body, _, err := w.body()
		if err != nil || body.Close() != nil {
			t.Error(err)
		}
		v.note(w, fmt.Errorf("wrapped: %w", &api.Problem{Status: w.status[0]}))
	}
	if len(kinds) != 6 || len(v.refused) != 6 || len(v.wrong) != 0 {
		t.Errorf("%v, %v, %v", kinds, v.refused, v.wrong)
	}
	v.note(v.pushes()[0], nil)
	v.note(v.pushes()[0], &api.Problem{Status: http.StatusInternalServerError})
	v.note(v.pushes()[0], &api.Problem{Status: http.StatusServiceUnavailable})
	v.note(v.pushes()[0], errors.New("connection reset"))
	if len(v.wrong) != 2 || v.none != 2 {
		t.Errorf("what was taken, and what failed: %v, %d without answer", v.wrong, v.none)
	}
}

// What is wrong with one session is wrong with all, and fails the command.
func TestVerdict(t *testing.T) {
	good := func() (*session, process.Verdict, verify.Means) {
		said := process.Verdict{Acknowledged: 8, Counted: 8, Agreed: true, Views: []process.View{
			{Rounds: []api.RoundInfo{{Round: 1, Updates: make([]api.UpdateInfo, 4)}, {Round: 2, Updates: make([]api.UpdateInfo, 4)}, {Round: 3}}},
		}}
		return &session{name: "s"}, said, verify.Means{Checked: 2}
	}
	for name, c := range map[string]struct {
		spoil func(s *session, v *process.Verdict, m *verify.Means)
		fine  bool
	}{
		"nothing":   {spoil: func(*session, *process.Verdict, *verify.Means) {}, fine: true},
		"lost":      {spoil: func(_ *session, v *process.Verdict, _ *verify.Means) { v.Lost, v.Counted = []process.Key{{}}, 7 }},
		"doubled":   {spoil: func(_ *session, v *process.Verdict, _ *verify.Means) { v.Doubled, v.Counted = []process.Key{{}}, 7 }},
		"altered":   {spoil: func(_ *session, v *process.Verdict, _ *verify.Means) { v.Altered = []process.Key{{}} }},
		"divergent": {spoil: func(_ *session, v *process.Verdict, _ *verify.Means) { v.Divergent = []process.Divergence{{Round: 1}} }},
		"not one":   {spoil: func(_ *session, v *process.Verdict, _ *verify.Means) { v.Agreed = false }},
		"no mean":   {spoil: func(_ *session, _ *process.Verdict, m *verify.Means) { m.Wrong = []uint64{2} }},
		"gave up":   {spoil: func(s *session, _ *process.Verdict, _ *verify.Means) { s.errs = []error{errors.New("refused")} }},
	} {
		s, said, means := good()
		c.spoil(s, &said, &means)
		s2, said2, means2 := good()
		all := s2.conclude(said2, means2)
		all.add(s.conclude(said, means))
		if all.Rounds != 4 || all.Sessions != 2 || all.Acknowledged != 16 {
			t.Errorf("%s: %+v", name, all)
		}
		for _, r := range []*Report{
			{Sessions: &Sessions{Verdict: all}},
			{Crowd: &Crowd{Few: Throng{Verdict: all}}},
			{Crowd: &Crowd{Many: Throng{Verdict: all}}},
			{Crowd: &Crowd{Overload: &Overload{Verdict: all}}},
			{Peers: &Peers{Verdict: all}},
		} {
			r.judge()
			if (r.fail(false) == nil) != c.fine {
				t.Errorf("%s: %v", name, r.fail(false))
			}
		}
		if !c.fine && len(all.Faults) == 0 {
			t.Errorf("%s: nothing is said of it", name)
		}
	}
}
