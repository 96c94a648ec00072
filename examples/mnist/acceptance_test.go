package main

import (
	"flag"
	"fmt"
	"io"
	"strconv"
	"testing"
)

var seed = flag.Uint64("mnist.seed", 1, "seed of the trainings that the tests do")

// With three of fifteen combiners pushing ten times the opposite of what they
// learnt, federated averaging is lost; each robust strategy stays near what it
// is in peace and, stricter, near what averaging is in peace. Krum is spared the
// latter: its model is that of one combiner, which has a fifteenth of the data.
func TestRobustStrategiesWithstandAttackers(t *testing.T) {
	const (
		within = 0.02
		lost   = 0.5
	)
	robust := []string{"fedmedian", "fedtrimmedavg", "krum", "multikrum", "bulyan", "geomedian"}
	config := func(strategy string) Config {
		c, err := parse([]string{
			"--strategy", strategy, "--attack", attackSignFlip, "--kill", killNone,
			"--seed", strconv.FormatUint(*seed, 10), "--rounds", "10",
		}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		c.Shape.Hidden, c.Hyper.Epochs = 32, 2
		if n := c.attackers(); c.Combiners != 15 || n != 3 {
			t.Fatalf("%d of %d combiners attack", n, c.Combiners)
		}
		return c
	}
	d := loadHead(t, config("fedavg"), 12_000)

	// Two at a time, as each trains on one processor.
	accuracy := map[string]map[string]float64{}
	t.Run("train", func(t *testing.T) {
		for _, strategy := range append([]string{"fedavg"}, robust...) {
			c := config(strategy)
			try := c.trials()[0]
			got := map[string]float64{}
			accuracy[strategy] = got
			t.Run(strategy, func(t *testing.T) {
				t.Parallel()
				f, err := newFederation(c, d)
				if err != nil {
					t.Fatal(err)
				}
				peace := try
				peace.Attack = attackNone
				got[attackNone] = f.run(t, peace)
				got[attackSignFlip] = f.run(t, try)
				t.Logf("seed %d: %v in peace %.4f, attacked %.4f", *seed, peace, got[attackNone], got[attackSignFlip])
			})
		}
	})
	if t.Failed() {
		return
	}

	average := accuracy["fedavg"]
	if average[attackNone] < 0.85 {
		t.Errorf("seed %d: averaging in peace: accuracy %.4f", *seed, average[attackNone])
	}
	if average[attackSignFlip] >= lost {
		t.Errorf("seed %d: averaging under attack: accuracy %.4f, want less than %v", *seed, average[attackSignFlip], lost)
	}
	for _, strategy := range robust {
		own := accuracy[strategy]
		if got, want := own[attackSignFlip], own[attackNone]; got < want-within {
			t.Errorf("seed %d: %s: accuracy %.4f, in peace %.4f", *seed, strategy, got, want)
		}
		if got, want := own[attackSignFlip], average[attackNone]; got < want-within && strategy != "krum" {
			t.Errorf("seed %d: %s: accuracy %.4f, of averaging in peace %.4f", *seed, strategy, got, want)
		}
	}
}

// A strategy that is told of fewer attackers than there are does not withstand
// them: it is the number that it is told which protects it.
func TestTooFewExpectedAttackers(t *testing.T) {
	c, err := parse([]string{
		"--strategy", "fedtrimmedavg", "--set", "beta=0.1", "--attack", attackSignFlip, "--kill", killNone,
		"--seed", fmt.Sprint(*seed), "--rounds", "6",
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c.Shape.Hidden, c.Hyper.Epochs = 32, 2
	f, err := newFederation(c, loadHead(t, c, 6000))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.run(t, c.trials()[0]); got >= 0.7 {
		t.Errorf("seed %d: one of three attackers is cut off, and the accuracy is %.4f", *seed, got)
	} else {
		t.Logf("seed %d: one of three attackers is cut off: accuracy %.4f", *seed, got)
	}
}
