package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/fedmesh/fedmesh/examples/mnist/digits"
	"github.com/fedmesh/fedmesh/examples/mnist/learn"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// waitForModel is how long one request waits for the next model; it is repeated
// until the model is there.
const waitForModel = 20 * time.Second

// combiner is one site: it has clients and their data, and belongs to no peer.
type combiner struct {
	index   int
	session string
	rounds  int
	seed    uint64
	clients [][]int // the examples of each client
	train   *digits.Set
	wire    *wire
	shape   learn.Shape
	trainer *learn.Trainer
	routes  routes
	stage   *stage
	slots   chan struct{} // as many as may train at once
	pace    time.Duration // that a round lasts at least
	attack  *attack       // nil: it is honest
}

// run takes part in every round. What it computes depends on the seed and the
// models it gets, and neither on time nor on whom it talks to.
func (c *combiner) run(ctx context.Context) error {
	r := rand.New(rand.NewPCG(c.seed, uint64(1000+c.index)))
	after := ""
	for round := 1; round <= c.rounds; round++ {
		to, from := c.routes.pick(r)
		base, params, err := pull(ctx, from, c.session, after, c.wire)
		if err != nil {
			return fmt.Errorf("mnist: combiner %d, round %d: %w", c.index, round, err)
		}
		if want := uint64(round - 1); base.Round != want {
			return fmt.Errorf("mnist: combiner %d got the model of round %d from %s, want %d: a round did not wait for all combiners",
				c.index, base.Round, base.Peer, want)
		}
		began := time.Now()
		update, weight, err := c.update(ctx, params, round)
		if err != nil {
			return err
		}
		if err := pause(ctx, c.pace-time.Since(began)); err != nil {
			return err
		}
		if err := c.stage.enter(ctx, round); err != nil {
			return err
		}
		receipt, err := to.Push(ctx, c.session, api.PushOptions{
			Combiner: "combiner-" + strconv.Itoa(c.index),
			ID:       "round-" + strconv.Itoa(round),
			Weight:   weight,
			Base:     base.Digest.String(),
			Metrics:  c.metrics(params),
		}, api.Bytes(c.wire.encode(update)))
		if err != nil {
			return fmt.Errorf("mnist: combiner %d, round %d: push: %w", c.index, round, err)
		}
		c.stage.pushed(round, receipt)
		after = strconv.FormatUint(base.Round, 10)
	}
	return nil
}

// metrics says how well the model that the combiner got does on a few of its own images.
func (c *combiner) metrics(params []float32) map[string]float64 {
	mine := c.clients[0][:min(len(c.clients[0]), 100)]
	if len(mine) == 0 {
		return nil
	}
	pass := learn.NewPass(c.shape, len(mine))
	pass.Fill(c.train, mine)
	loss, right := pass.Forward(params)
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return nil // an attack has succeeded
	}
	return map[string]float64{"loss": loss, "accuracy": float64(right) / float64(len(mine))}
}

// pause waits, unless ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// update is what the combiner pushes: its clients' mean, or what its attack makes
// of that.
func (c *combiner) update(ctx context.Context, params []float32, round int) (update []float32, weight int64, err error) {
	mean, err := c.trainClients(ctx, params, round)
	if err != nil {
		return nil, 0, err
	}
	if update, err = mean.Model(); err != nil {
		return nil, 0, err
	}
	if wild(update) {
		update = params // nothing was learnt
	}
	if c.attack != nil {
		c.attack.spoil(update, params, rand.New(rand.NewPCG(c.seed<<20^uint64(round), uint64(2000+c.index))))
	}
	return update, mean.Weight(), nil
}

// trainClients lets every client start from the same model, and adds what they
// make of it.
func (c *combiner) trainClients(ctx context.Context, params []float32, round int) (*learn.Mean, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	mean := learn.NewMean(len(params))
	local := make([]float32, len(params))
	for i, examples := range c.clients {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		copy(local, params)
		client := uint64(c.index*len(c.clients) + i)
		c.trainer.Train(local, c.train, examples, c.seed<<40^uint64(round)<<20^client)
		if err := mean.Add(local, int64(len(examples))); err != nil {
			return nil, err
		}
	}
	return mean, nil
}

// pull waits for a model newer than after; any model when after is empty.
func pull(ctx context.Context, c *api.Client, session, after string, w *wire) (api.ModelInfo, []float32, error) {
	for {
		o := api.PullOptions{After: after}
		if after != "" {
			o.Wait = waitForModel
		}
		info, params, err := take(ctx, c, session, o, w)
		if errors.Is(err, api.ErrNotModified) && ctx.Err() == nil {
			continue
		}
		return info, params, err
	}
}

// take pulls a model.
func take(ctx context.Context, c *api.Client, session string, o api.PullOptions, w *wire) (api.ModelInfo, []float32, error) {
	var b bytes.Buffer
	info, err := c.Pull(ctx, session, o, &b)
	if err != nil {
		return info, nil, fmt.Errorf("pull: %w", err)
	}
	params, err := w.decode(b.Bytes())
	return info, params, err
}
