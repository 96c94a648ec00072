package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/figures"
)

// made is a report of two systems, one of which did nothing.
func made() *Report {
	return &Report{
		Kill: killLeader, Every: 2, Restart: 3, Combiners: 2, Params: 1000, Target: 3, Fedmesh: "<devel>",
		Systems: []*Result{
			{
				System: sysMesh, Peers: 5, Seconds: 4, InTime: true, Acknowledged: 4, Counted: 4, Rounds: 3, Finished: []float64{0.5, 1, 3},
				Pushes: []Push{
					{Start: 0.1, Acked: 0.2, Attempts: 1},
					{Start: 0.1, Acked: 2.1, Attempts: 3},
					{Start: 1, Acked: 1.01, Attempts: 1},
					{Start: 1, Acked: 1.02, Attempts: 2},
				},
				CalmUntil: 0.5, Calm: []Mark{{At: 0.1, Agree: 0.3}},
				Kills: []Kill{
					{Mark: Mark{At: 1, Agree: 1.5}, Peer: "a", Back: 2, During: []string{duringUpload, duringFile}},
					{Mark: Mark{At: 2, Agree: 3}, Peer: "b"},
					{Mark: Mark{At: 3.9}, Peer: "c"},
				},
			},
			{System: sysRaft, Peers: 5, Seconds: 4},
		},
	}
}

func TestPicturesAreWellFormed(t *testing.T) {
	for name, picture := range made().pictures() {
		d := xml.NewDecoder(bytes.NewReader(picture))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, picture)
			}
		}
		for _, want := range []string{"prefers-color-scheme:dark", ">mesh<", "2 combiners"} {
			if !strings.Contains(string(picture), want) {
				t.Errorf("%s lacks %q", name, want)
			}
		}
		if strings.Contains(string(picture), "NaN") || strings.Contains(string(picture), "Inf") {
			t.Errorf("%s has a value that is no number:\n%s", name, picture)
		}
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := made().WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"updates acknowledged", "20 ms / 2.00 s / 2.00 s (4)", // all pushes
		"20 ms / 20 ms / 20 ms (1)",     // retried
		"100 ms / 2.00 s / 2.00 s (2)",  // in the calm rounds
		"500 ms / 1.00 s / 1.00 s (1)",  // agreement, one open
		"kills (left out)", "<devel>\n", // what it ran on
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

func TestFigures(t *testing.T) {
	r := made().Systems[0]
	if g := r.Gap(); g != 2 {
		t.Errorf("gap %v", g)
	}
	r.InTime, r.Seconds = false, 10
	if g := r.Gap(); g != 7 {
		t.Errorf("gap %v of a run that did not end", g)
	}
	for q, want := range map[float64]float64{0: 1, 0.5: 2, 0.51: 3, 0.99: 4, 1: 4} {
		if got := figures.Quantile([]float64{1, 2, 3, 4}, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if r.Bad() {
		t.Error("nothing is wrong with it")
	}
	r.Changed = []uint64{3}
	if !r.Bad() {
		t.Error("a final round that changed is not seen")
	}
}
