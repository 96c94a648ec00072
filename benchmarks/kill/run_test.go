package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// quick runs the benchmark in small and returns what it measured.
func quick(t *testing.T, args ...string) *Report {
	t.Helper()
	if testing.Short() {
		t.Skip("builds programs and starts processes")
	}
	dir, out := t.TempDir(), t.TempDir()
	var stdout strings.Builder
	args = append([]string{"--quick", "--json", "--dir", dir, "--out", out}, args...)
	if err := run(t.Context(), args, &stdout, os.Stderr); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if files, err := filepath.Glob(filepath.Join(out, "kill-*.txt")); err != nil || len(files) != 1 {
		t.Errorf("tables: %v, %v", files, err)
	}
	var r Report
	if err := json.Unmarshal([]byte(stdout.String()), &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

func check(t *testing.T, r *Result) {
	t.Helper()
	if r.Acknowledged < 12*3 || r.Counted != r.Acknowledged || r.Lost+r.Doubled+r.Altered+r.Divergent+len(r.Changed) > 0 || !r.Agreed {
		t.Errorf("%s: %+v", r.System, *r)
	}
	if r.Rounds < 12 || r.Means.Checked != r.Rounds || len(r.Finished) < 12 || len(r.Pushes) != r.Acknowledged || !r.InTime {
		t.Errorf("%s: %d rounds, %d finished, %d pushes, %+v", r.System, r.Rounds, len(r.Finished), len(r.Pushes), r.Means)
	}
	for _, p := range r.Pushes {
		if p.Attempts < 1 || p.Took() <= 0 || len(p.Copies) < 1 {
			t.Errorf("%s: %+v", r.System, p)
		}
	}
}

func TestLeaderKilled(t *testing.T) {
	r := quick(t, "--systems", "mesh,single")
	if len(r.Systems) != 2 {
		t.Fatalf("%d systems", len(r.Systems))
	}
	for _, s := range r.Systems {
		check(t, s)
		if len(s.Kills) == 0 {
			t.Errorf("%s: nobody was killed", s.System)
		}
		for _, k := range s.Kills {
			if k.Back <= k.At {
				t.Errorf("%s: %+v", s.System, k)
			}
		}
	}
}

func TestAllButOneKilled(t *testing.T) {
	r := quick(t, "--kill", "all-but-one")
	check(t, r.Systems[0])
	a := r.Systems[0].Alone
	if a == nil || a.Pushes == 0 || a.Rounds < 2 || a.Model == "" || a.Round < a.Before || a.AgreedOn < a.Before+2 || len(r.Systems[0].Kills) != 2 {
		t.Errorf("%+v", a)
	}
}

// What is interrupted leaves nothing behind.
func TestInterrupt(t *testing.T) {
	if testing.Short() {
		t.Skip("builds fedmesh")
	}
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	show := func(format string, _ ...any) {
		if strings.Contains(format, "round %s") {
			cancel() // as soon as it is under way
		}
	}
	c, err := parse([]string{"--quick", "--systems", "single", "--dir", dir}, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := measure(ctx, c, nil, show); err == nil {
		t.Error("a run that was interrupted succeeded")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, args := range []string{
		"--kill all-but-one --systems mesh,raft", "--kill sometimes", "--systems mesh,mesh", "--systems paxos", "--peers 2", "--rounds 0", "--partition --kill random", "--kills 5 --kill none", "--kills 5 --kill all-but-one",
		"--calm 0", "--keep-models 3", "--partition --cut-for 1ms", "--partition --cuts 0", "--kill-every 1us", "extra",
	} {
		var said strings.Builder
		if _, err := parse(strings.Fields(args), &said); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	c, err := parse([]string{"--kills", "1000", "--kill", "random"}, os.Stderr)
	if err != nil || c.rounds != 0 || c.timeLimit < time.Hour || c.keepModels != keptModels {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = parse([]string{"--partition"}, os.Stderr); err != nil || c.rounds != 0 || c.kill != killNone || c.cuts == 0 || c.name() != "kill-partition" {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = parse([]string{"--quick", "--rounds", "30"}, os.Stderr)
	if err != nil || c.rounds != 30 || c.params >= 1_000_000 || len(c.systems) != 3 {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestRunByKills(t *testing.T) {
	r := quick(t, "--systems", "mesh", "--kill", "random", "--kills", "6")
	s := r.Systems[0]
	if len(s.Kills) != 6 || s.Lost+s.Doubled+s.Altered+s.Divergent+len(s.Changed) > 0 || !s.Agreed || !s.InTime {
		t.Errorf("%+v", *s)
	}
	for _, k := range s.Kills {
		if k.Agree == 0 {
			t.Errorf("no agreement after %+v", k)
		}
	}
	if len(s.Calm) == 0 || s.CalmUntil == 0 || s.Means.Checked == 0 || len(s.Means.Wrong) > 0 {
		t.Errorf("%d calm moments until %v, %+v", len(s.Calm), s.CalmUntil, s.Means)
	}
}

func TestPartition(t *testing.T) {
	if l, err := newLAN([]string{"a"}, 1); err != nil {
		t.Skip(err)
	} else if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r := quick(t, "--systems", "mesh", "--partition")
	s := r.Systems[0]
	if len(s.Cuts) != 1 || s.Lost+s.Doubled+s.Altered+s.Divergent+len(s.Changed) > 0 || !s.Agreed || !s.InTime {
		t.Fatalf("%+v", *s)
	}
	c := s.Cuts[0]
	// How many rounds a side finishes depends on when it takes the other for dead; that is what the limits are for.
	if c.Healed < c.At+6 || c.Contact < c.Healed || c.Agreed < c.Contact || c.Rounds[0] == 0 || min(c.Acked[0], c.Acked[1]) == 0 {
		t.Errorf("%+v", c)
	}
}
