package main

// Inside the package, because a command cannot be imported.

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/fedmesh/fedmesh/examples/mnist/learn"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

func TestWire(t *testing.T) {
	shape := learn.Shape{Inputs: 5, Hidden: 3, Outputs: 2}
	w, err := newWire(shape)
	if err != nil {
		t.Fatal(err)
	}
	params := shape.Init(1)
	b := w.encode(params)
	back, err := w.decode(b)
	if err != nil || !slices.Equal(params, back) {
		t.Errorf("got %v (%v), want %v", back, err, params)
	}
	layout, err := safetensors.ReadLayout(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if int(layout.Elements()) != shape.Params() || len(layout.Tensors()) != 4 {
		t.Errorf("the file has %d elements in %d tensors", layout.Elements(), len(layout.Tensors()))
	}
	other := bytes.Clone(b)
	other[9] ^= 1
	for name, bad := range map[string][]byte{"cut": b[:len(b)-1], "long": append(bytes.Clone(b), 0), "other header": other, "empty": nil} {
		if _, err := w.decode(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestConfig(t *testing.T) {
	c, err := parse([]string{"--peers", "5", "--kill=none", "--seed", "9"}, io.Discard)
	if err != nil || c.Peers != 5 || c.Kill != killNone || c.Seed != 9 {
		t.Errorf("got %+v, %v", c, err)
	}
	for _, bad := range [][]string{
		{"--peers", "0"},
		{"--peers", "27"},
		{"--rounds", "0"},
		{"--kill", "sometimes"},
		{"more"},
		{"--peers", "1"},
		{"--combiners", "1"},
		{"--rounds", "5"},
	} {
		if _, err := parse(bad, io.Discard); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

// In the kill round three of six push, one more may set off, and then the kill
// comes before the rest.
func TestStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var victims []string
		release := make(chan struct{})
		c := Config{Combiners: 6, Rounds: 20, Kill: killMiddle}
		s := newStage(c, newLive(io.Discard, 6), func(victim string) error {
			victims = append(victims, victim)
			<-release
			return nil
		})
		var entered int
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range c.Combiners {
			wg.Go(func() {
				for round := 1; round <= c.Rounds; round++ {
					if err := s.enter(t.Context(), round); err != nil {
						t.Error(err)
					}
					if round == s.killRound {
						mu.Lock()
						entered++
						mu.Unlock()
					}
					s.pushed(round, api.Receipt{Copies: []string{"a", "b"}})
				}
			})
		}
		synctest.Wait()
		if entered != 4 || !slices.Equal(victims, []string{"b"}) {
			t.Errorf("%d combiners set off before the kill of %v, want 4 and b", entered, victims)
		}
		close(release)
		wg.Wait()
		receipts, victim := s.result()
		if entered != 6 || victim != "b" || len(receipts) != 6*20 || len(victims) != 1 {
			t.Errorf("%d combiners, victim %q of %v, %d receipts", entered, victim, victims, len(receipts))
		}
	})
}

func TestStageReportsAFailedKill(t *testing.T) {
	broken := errors.New("no such process")
	s := newStage(Config{Combiners: 2, Rounds: 6, Kill: killMiddle}, newLive(io.Discard, 2), func(string) error { return broken })
	if err := s.enter(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	s.pushed(3, api.Receipt{Copies: []string{"a"}})
	<-s.free // the one that sets off meanwhile
	if err := s.enter(t.Context(), 3); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestResult(t *testing.T) {
	good := Result{
		Accuracy: 0.96, Want: wantAccuracy, Rounds: []Round{{Round: 1}},
		Verdict: process.Verdict{Acknowledged: 6, Counted: 6, Agreed: true},
	}
	if err := good.Err(); err != nil {
		t.Fatal(err)
	}
	near, far := good, good
	near.Accuracy, far.Accuracy = 0.9645, 0.966
	for name, c := range map[string]struct {
		spoil func(*Result)
		want  string // in the error; empty: none
	}{
		"inaccurate":  {func(r *Result) { r.Accuracy = 0.9499 }, "accuracy"},
		"lost":        {func(r *Result) { r.Verdict.Counted, r.Verdict.Lost = 5, []process.Key{{Combiner: "x", ID: "1"}} }, "lost"},
		"uncounted":   {func(r *Result) { r.Verdict.Counted = 5 }, "5 of them counted"},
		"extra":       {func(r *Result) { r.Verdict.Extra = 1 }, "1 others"},
		"disagreeing": {func(r *Result) { r.Verdict.Agreed = false }, "agree"},
		"near":        {func(r *Result) { r.Undisturbed = &near }, ""},
		"far":         {func(r *Result) { r.Undisturbed = &far }, "from that of the run without a kill"},
	} {
		t.Run(name, func(t *testing.T) {
			r := good
			c.spoil(&r)
			err := r.Err()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			var b bytes.Buffer
			if werr := r.write(&b); werr != nil || strings.Contains(b.String(), "BAD") != (err != nil) {
				t.Errorf("printed (%v):\n%s", werr, b.String())
			}
		})
	}
}
