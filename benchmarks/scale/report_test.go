package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// made is a report in which every limit is kept.
func made() *Report {
	v := Verdict{Sessions: 1, Acknowledged: 8, Counted: 8, Rounds: 2, Means: 2}
	part := func(mesh ...float64) Part {
		p := Part{Seconds: 10, PeersCPU: 5, OwnCPU: 1}
		for i, x := range mesh {
			p.Laps = append(p.Laps, Lap{Step: i + 1, Trained: 2, Acked: 2 + x/2, Got: 2 + x})
		}
		return p
	}
	throng := func(n int, resident ...int64) Throng {
		t := Throng{Combiners: n, Verdict: v, Idle: 20e6, Samples: []Sample{{At: 3, Resident: 20e6}, {At: 4, Resident: 25e6}}}
		for i, b := range resident {
			t.Rounds = append(t.Rounds, CrowdRound{Burst: i == len(resident)-1, Began: 1, Acked: 2, Got: 3, Resident: b})
		}
		return t
	}
	traffic := func(x float64) Traffic {
		l := []float64{x, 2 * x}
		return Traffic{Seconds: 3, Rounds: 5, Sent: l, Received: l, Bodies: l, CPU: l, Resident: l, Files: l, Sockets: l}
	}
	return &Report{
		Command: "go run ./scale", CPU: "a <processor>", Cores: 2, Train: 2, Loads: []string{"0.50", "0.60", "0.70"},
		Sessions: &Sessions{Sessions: 100, Params: 10_000, Rounds: 3, Alone: part(0.03, 0.05, 0.04), Among: part(0.06, 0.07), Others: part(0.06, 0.3), BadPushes: map[string]int{"no model": 9}, Verdict: v},
		Crowd: &Crowd{
			Params: 250_000, Rounds: 2, Bursts: 1, Few: throng(50, 30e6, 31e6, 40e6), Many: throng(500, 50e6, 60e6, 200e6),
			Overload: &Overload{Pushes: 500, Params: 5_000_000, MaxUploads: 32, Answers: map[string]int{"503": 7}, Resident: 90e6, Idle: 20e6, Verdict: v},
		},
		Peers: &Peers{
			Peers: 24, Killed: []string{"b"}, Params: 10_000, Rounds: 5, Ready: 1, Seen: 2, Idle: traffic(900), Training: traffic(5000), After: traffic(6000),
			Agreed: 0.5, AllAgree: 1, Verdict: v,
		},
	}
}

func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(r *Report)
		say   string // empty: nothing is wrong
		fails bool   // without --check, too
	}{
		"nothing":          {spoil: func(*Report) {}},
		"slow among":       {spoil: func(r *Report) { r.Sessions.Among.Laps = []Lap{{Trained: 2, Got: 9}} }, say: "2 times"},
		"slow others":      {spoil: func(r *Report) { r.Sessions.Others.Laps = []Lap{{Trained: 2, Got: 9}} }, say: "all other small sessions"},
		"nobody measured":  {spoil: func(r *Report) { r.Sessions.Others.Laps = nil }, say: "NaN times"},
		"bad push taken":   {spoil: func(r *Report) { r.Sessions.BadAnswers = []string{"taken"} }, say: "bad pushes", fails: true},
		"no bad push":      {spoil: func(r *Report) { r.Sessions.BadPushes = nil }, say: "bad pushes"},
		"500":              {spoil: func(r *Report) { r.Sessions.ServerErrors = 1 }, say: "status 500"},
		"peer fell":        {spoil: func(r *Report) { r.Crowd.Many.Fallen = []string{"a: killed"} }, say: "500 combiners: peers that fell", fails: true},
		"lost":             {spoil: func(r *Report) { r.Crowd.Few.Verdict.Lost = 1 }, say: "50 combiners: updates lost", fails: true},
		"not computed":     {spoil: func(r *Report) { r.Peers.Verdict.Means = 1 }, say: "exact mean"},
		"much memory":      {spoil: func(r *Report) { r.Crowd.Many.Rounds[2].Resident = 401e6 }, say: "resident memory"},
		"memory unknown":   {spoil: func(r *Report) { r.Crowd.Overload.Resident = 0 }, say: "resident memory"},
		"memory grows":     {spoil: func(r *Report) { r.Crowd.Many.Rounds[1].Resident = 63e6 }, say: "second half"},
		"no Retry-After":   {spoil: func(r *Report) { r.Crowd.Overload.NoRetry = 2 }, say: "Retry-After"},
		"broken off":       {spoil: func(r *Report) { r.Crowd.Overload.Broken = 2 }, say: "another end"},
		"nothing refused":  {spoil: func(r *Report) { r.Crowd.Overload.Answers = nil }, say: "refusals"},
		"no rounds":        {spoil: func(r *Report) { r.Peers.After.Rounds = 1 }, say: "rounds after the kill"},
		"never one model":  {spoil: func(r *Report) { r.Peers.AllAgree = 0 }, say: "all come to one"},
		"those that lived": {spoil: func(r *Report) { r.Peers.Agreed = 0 }, say: "those that lived"},
	} {
		r := made()
		c.spoil(r)
		r.judge()
		err := r.fail(true)
		if c.say == "" && err != nil || c.say != "" && (err == nil || !strings.Contains(err.Error(), c.say)) {
			t.Errorf("%s: %v", name, err)
		}
		if (r.fail(false) != nil) != c.fails {
			t.Errorf("%s without --check: %v", name, r.fail(false))
		}
	}
}

func TestTables(t *testing.T) {
	r := made()
	r.judge()
	for i, claim := range []string{claimSessions, claimCombiners, claimPeers} {
		var b strings.Builder
		if err := r.writeText(&b, claim, i); err != nil {
			t.Fatal(err)
		}
		for _, want := range map[string][]string{
			claimSessions:  {"40 ms / 50 ms / 50 ms (3)", "60 ms / 70 ms / 70 ms (2)", "is 1.6 times", "0.50", "no model 9", "before: 0.50"},
			claimCombiners: {"3, at once", "200 MB", "503 7", "told to take 32", "before: 0.60"},
			claimPeers:     {"1.35 kB / 1.8 kB", "at the 23 others", "before: 0.70"},
		}[claim] {
			if !strings.Contains(b.String(), want) {
				t.Errorf("%s: %q is missing in\n%s", claim, want, b.String())
			}
		}
		if strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "NOT KEPT") {
			t.Errorf("%s:\n%s", claim, b.String())
		}
	}
}

func TestPictures(t *testing.T) {
	none := &Report{Sessions: &Sessions{}, Crowd: &Crowd{}, Peers: &Peers{}}
	for _, r := range []*Report{made(), none} {
		for _, claim := range []string{claimSessions, claimCombiners, claimPeers} {
			picture := r.picture(claim)
			d := xml.NewDecoder(bytes.NewReader(picture))
			for {
				_, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%s: %v\n%s", claim, err, picture)
				}
			}
			if strings.Contains(string(picture), "NaN") || strings.Contains(string(picture), "Inf") {
				t.Errorf("%s has a value that is no number:\n%s", claim, picture)
			}
			if r != none && !strings.Contains(string(picture), `class="line`) {
				t.Errorf("%s shows nothing", claim)
			}
		}
	}
}
