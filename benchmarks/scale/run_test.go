package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The whole command in small, with real processes.
func TestScale(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	var stdout strings.Builder
	args := []string{"--quick", "--json", "--sessions", "6", "--combiners", "10", "--peers", "4", "--bursts", "1", "--overload", "8", "--max-uploads", "1", "--dir", dir, "--out", out}
	if err := run(t.Context(), args, &stdout, os.Stderr); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if files, err := filepath.Glob(filepath.Join(out, "scale-*")); err != nil || len(files) != 6 {
		t.Errorf("files: %v, %v", files, err)
	}
	var r Report
	if err := json.Unmarshal([]byte(stdout.String()), &r); err != nil {
		t.Fatal(err)
	}
	s := r.Sessions
	if s.Verdict.Sessions != 6 || s.Verdict.Acknowledged < 4*4 || s.Verdict.Means != s.Verdict.Rounds || s.Verdict.bad() {
		t.Errorf("sessions: %+v", s.Verdict)
	}
	if len(s.Alone.Laps) < 4 || len(s.Among.Laps) < 4 || len(s.Others.Laps) < 4 || len(s.BadPushes) < 3 || len(s.BadAnswers) > 0 {
		t.Errorf("sessions: %d, %d and %d laps, %v, %v", len(s.Alone.Laps), len(s.Among.Laps), len(s.Others.Laps), s.BadPushes, s.BadAnswers)
	}
	c := r.Crowd
	if len(c.Few.Rounds) != 3 || len(c.Many.Rounds) != 3 || !c.Many.Rounds[2].Burst || c.Many.Verdict.Acknowledged != 30 || c.Many.Verdict.bad() {
		t.Errorf("combiners: %+v, %+v", c.Few.Rounds, c.Many.Verdict)
	}
	if c.Overload.Verdict.Acknowledged != 8 || c.Overload.Verdict.bad() || c.Overload.NoRetry > 0 {
		t.Errorf("overload: %+v", c.Overload.Verdict)
	}
	p := r.Peers
	if len(p.Killed) != 1 || p.Verdict.bad() || p.After.Rounds < 2 || p.Agreed == 0 || p.AllAgree == 0 || len(p.Idle.Sent) != 4 || len(p.After.Sent) != 3 {
		t.Errorf("peers: %+v", *p)
	}
	// Each update goes to another peer, however long that takes; the first round's may have gone before anybody looked.
	bodies := 0.0
	for _, rate := range p.Training.Bodies {
		bodies += rate * p.Training.Seconds
	}
	if least := float64(4*p.Params) * float64((p.Training.Rounds-1)*sessionCombiners); bodies < least || p.Training.Sent[0] <= 0 {
		t.Errorf("peers in training sent %.0f bytes, less than %.0f, and %v a second of gossip", bodies, least, p.Training.Sent)
	}
}

func TestParse(t *testing.T) {
	for _, args := range []string{
		"--sessions 4", "--combiners 3", "--peers 2", "--peers 27", "--peers 5 --kill 5", "--rounds -1", "--params 0", "--train -1s", "--max-uploads 0", "more",
	} {
		var said strings.Builder
		if _, err := parse(strings.Fields(args), &said); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	c, err := parse(nil, os.Stderr)
	if err != nil || c.sessions != 100 || c.combiners != 500 || c.peers != 24 || c.overload != 500 || c.kill != 8 || len(c.claims()) != 3 || c.out == "" {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = parse(strings.Fields("--quick --peers 9 --train 1s"), os.Stderr)
	if err != nil || c.sessions != 0 || c.combiners != 0 || c.kill != 3 || c.train.Seconds() != 1 || c.rounds != 2 || c.out != "" || c.claims()[0] != claimPeers {
		t.Errorf("%+v, %v", c, err)
	}
}
