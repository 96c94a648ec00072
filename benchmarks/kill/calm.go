package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// marksPerKill is how many marks the calm time has in the time of one kill: they
// hurt nobody.
const marksPerKill = 20

// calm lets the rounds go by that nobody is killed in, and marks moments to
// compare those of kills with. It returns false when the run has ended.
func (t *trial) calm(ctx context.Context, stop <-chan struct{}) bool {
	r := rand.New(rand.NewPCG(t.config.seed, 5))
	every := t.config.killEvery
	if t.config.partition {
		every = 2 * time.Second
	}
	for {
		if round, _ := t.watch.newest(); round >= t.config.calm {
			t.calmUntil = t.now()
			return true
		}
		next := time.NewTimer(time.Duration(float64(every) / marksPerKill * (0.5 + r.Float64())))
		select {
		case <-next.C:
			t.watch.mark()
		case <-stop:
			next.Stop()
			return false
		case <-ctx.Done():
			next.Stop()
			return false
		}
	}
}
