package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/benchmarks/kill/reducer"
	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

// sampled is how many rounds there are for one whose model is computed again
// while a long run goes on: it takes processor time from what is measured.
const sampled = 10

// checker computes rounds' models again, in order. It holds the few models that
// were pulled last.
type checker struct {
	load      *load.Load
	combiners int
	spec      *aggregate.Spec
	every     uint64 // one round of so many
	pull      func(ctx context.Context, digest string) ([]byte, error)
	next      uint64
	previous  string // digest of the model before the next round
	means     Means

	models map[string][]byte
	order  []string
}

func newChecker(l *load.Load, combiners int, every uint64, pull func(ctx context.Context, digest string) ([]byte, error)) (*checker, error) {
	spec, err := reducer.SpecOf(bytes.NewReader(l.Seed), int64(len(l.Seed)))
	if err != nil {
		return nil, err
	}
	seed := model.Sum(l.Seed).String()
	return &checker{
		load: l, combiners: combiners, spec: spec, every: every, pull: pull, next: 1, previous: seed,
		means: Means{Wrong: []uint64{}, Unknown: []uint64{}}, models: map[string][]byte{seed: l.Seed},
	}, nil
}

// puller pulls models from whichever process has them.
func (t *trial) puller(client *api.Client) func(ctx context.Context, digest string) ([]byte, error) {
	return func(ctx context.Context, digest string) ([]byte, error) {
		var b bytes.Buffer
		_, err := client.Pull(ctx, t.session, api.PullOptions{Digest: digest}, &b)
		return b.Bytes(), err
	}
}

// follow checks final rounds while they are made, until ctx ends.
func (c *checker) follow(ctx context.Context, client *api.Client, session string) {
	for pause(ctx, time.Second); ctx.Err() == nil; pause(ctx, time.Second) {
		rounds, err := client.Rounds(ctx, session, c.next, 200)
		if err != nil {
			continue
		}
		// Finality comes in order.
		if i := slices.IndexFunc(rounds, func(r api.RoundInfo) bool { return r.State != api.RoundFinal }); i >= 0 {
			rounds = rounds[:i]
		}
		if c.take(ctx, rounds) != nil {
			return // ctx has ended, and the end will see what is left
		}
	}
}

// take computes the models of the next rounds again: the updates are trained
// again from the models they say they were trained from, and their digests
// compared with those in the listing; then their mean, and its digest.
func (c *checker) take(ctx context.Context, rounds []api.RoundInfo) error {
	for _, r := range rounds {
		if r.Round != c.next {
			return fmt.Errorf("kill: round %d is listed where %d was expected", r.Round, c.next)
		}
		if len(r.Updates) > 0 && r.Round%c.every == 0 {
			err := c.check(ctx, r)
			var gone *goneError
			switch {
			case err == nil:
				c.means.Checked++
			case ctx.Err() != nil:
				return err
			case errors.As(err, &gone):
				c.means.Unknown = append(c.means.Unknown, r.Round)
			default:
				c.means.Wrong = append(c.means.Wrong, r.Round)
			}
		}
		if len(r.Updates) > 0 {
			c.previous = r.Model
		}
		c.next++
	}
	return nil
}

// goneError is a model that cannot be had any more.
type goneError struct{ err error }

func (e *goneError) Error() string { return e.err.Error() }
func (e *goneError) Unwrap() error { return e.err }

// get pulls a model; a few of the last stay here.
func (c *checker) get(ctx context.Context, digest string) ([]byte, error) {
	const keep = 4
	if b, ok := c.models[digest]; ok {
		return b, nil
	}
	b, err := c.pull(ctx, digest)
	if err != nil {
		return nil, &goneError{err}
	}
	c.models[digest] = b
	if c.order = append(c.order, digest); len(c.order) > keep {
		delete(c.models, c.order[0])
		c.order = c.order[1:]
	}
	return b, nil
}

func (c *checker) check(ctx context.Context, r api.RoundInfo) error {
	prev, err := c.get(ctx, c.previous)
	if err != nil {
		return err
	}
	round := aggregate.Round{Spec: c.spec, Number: r.Round, Base: func(d model.Digest) (io.ReaderAt, error) {
		b, err := c.get(ctx, d.String())
		return bytes.NewReader(b), err
	}}
	round.Prev.Source = bytes.NewReader(prev)
	if round.Prev.Digest, err = model.ParseDigest(c.previous); err != nil {
		return err
	}
	for _, u := range r.Updates {
		base, err := c.get(ctx, u.Base)
		if err != nil {
			return err
		}
		combiner, err := combinerIndex(u.Combiner, c.combiners)
		if err != nil {
			return err
		}
		step, err := strconv.Atoi(u.ID)
		if err != nil {
			return fmt.Errorf("kill: %s/%s was never pushed", u.Combiner, u.ID)
		}
		update, err := train(c.load, nil, base, combiner, step)
		if err != nil {
			return err
		}
		if model.Sum(update).String() != u.Digest || u.Weight != c.load.Weights[combiner] {
			return fmt.Errorf("kill: %s/%s is not what was pushed", u.Combiner, u.ID)
		}
		baseDigest, err := model.ParseDigest(u.Base)
		if err != nil {
			return err
		}
		round.Updates = append(round.Updates, aggregate.Update{
			Weight: u.Weight, Base: baseDigest, BaseRound: u.BaseRound, Name: u.Combiner, Source: bytes.NewReader(update),
		})
	}
	mean := make(memory, c.spec.Layout().Size())
	if err := reducer.Mean(ctx, round, mean); err != nil {
		return err
	}
	if got := model.Sum(mean).String(); got != r.Model {
		return fmt.Errorf("kill: the mean of round %d is %s, its model %s", r.Round, got, r.Model)
	}
	return nil
}

// memory is a file in memory of fixed size.
type memory []byte

// WriteAt implements io.WriterAt.
func (m memory) WriteAt(p []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(p)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[at:], p), nil
}
