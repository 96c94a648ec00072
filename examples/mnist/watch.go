package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/examples/mnist/digits"
	"github.com/fedmesh/fedmesh/examples/mnist/learn"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Round is what was seen of a round when its model appeared.
type Round struct {
	Round    uint64  `json:"round"`
	Accuracy float64 `json:"accuracy"`
	Updates  int     `json:"updates"`
	Model    string  `json:"model"`
}

// watcher follows the training from outside, through peers like anyone else.
type watcher struct {
	config  Config
	session string
	cluster *process.Cluster
	any     *api.Client            // of whichever peer answers
	each    map[string]*api.Client // of one peer only
	test    *digits.Set
	wire    *wire
	live    *live
	onRound func(round int) // called after each line
}

// run writes a line per round and returns what it saw.
func (w *watcher) run(ctx context.Context) ([]Round, error) {
	var rounds []Round
	for n := 1; n <= w.config.Rounds; n++ {
		info, params, err := pull(ctx, w.any, w.session, strconv.Itoa(n-1), w.wire)
		if err != nil {
			return rounds, fmt.Errorf("mnist: watch round %d: %w", n, err)
		}
		if info.Round > uint64(n) { // nobody waits for who only watches: the training has gone on meanwhile
			if info, params, err = take(ctx, w.any, w.session, api.PullOptions{Round: new(uint64(n))}, w.wire); err != nil {
				return rounds, fmt.Errorf("mnist: watch round %d: %w", n, err)
			}
		}
		if info.Round != uint64(n) {
			return rounds, fmt.Errorf("mnist: watch: the model after round %d is that of round %d", n-1, info.Round)
		}
		r := Round{
			Round: info.Round, Model: info.Digest.String(),
			Accuracy: learn.Accuracy(w.config.Shape, params, w.test),
		}
		var said []string
		for _, p := range w.cluster.Peers() {
			word := "dead"
			if slices.Contains(w.cluster.Running(), p.Name) {
				word, r.Updates = w.ask(ctx, p.Name, info.Round, r.Updates)
			}
			said = append(said, fmt.Sprintf("%s %-8s", p.Name, word))
		}
		rounds = append(rounds, r)
		w.live.line(fmt.Sprintf("round %3d  accuracy %.4f  %d updates   %s",
			n, r.Accuracy, r.Updates, strings.TrimSpace(strings.Join(said, "   "))))
		w.onRound(n)
	}
	return rounds, nil
}

// ask gets the prefix of the digest that a peer has for a round, and the number
// of updates in it. A peer that is a little behind is given some time.
func (w *watcher) ask(ctx context.Context, name string, round uint64, updates int) (string, int) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		info, err := w.each[name].Round(ctx, w.session, round)
		if err == nil && info.State != api.RoundOpen && info.Model != "" {
			return info.Model[:min(8, len(info.Model))], len(info.Updates)
		}
		select {
		case <-ctx.Done():
			if err != nil {
				return "silent", updates
			}
			return "behind", updates
		case <-tick.C:
			if !slices.Contains(w.cluster.Running(), name) {
				return "dead", updates
			}
		}
	}
}
