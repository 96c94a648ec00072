package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/benchmarks/kill/reducer"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
	"github.com/fedmesh/fedmesh/model"
)

// judge closes the session, takes every process's listing of its rounds, and
// compares them with what the combiners were told.
func (t *trial) judge(ctx context.Context) (*Result, error) {
	r := &Result{
		System: t.system.name, Peers: t.system.peers, Finished: t.watch.finished, Kills: t.watch.kills, Skipped: t.skipped,
		Pushes: t.work.pushes, Usage: t.used, InTime: len(t.watch.finished) >= t.config.rounds, Alone: t.alone,
		GaveUp: t.work.gaveUp, Means: Means{Wrong: []uint64{}, Unknown: []uint64{}},
	}
	for _, p := range r.Pushes {
		r.Seconds = max(r.Seconds, p.Acked)
	}
	if !r.InTime {
		r.Seconds = max(r.Seconds, t.config.timeLimit.Seconds())
	}
	client, err := api.NewClient(t.cluster.URLs(), api.ClientOptions{})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	closing, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	if _, err := client.CloseSession(closing, t.session); err != nil {
		return nil, err
	}
	verdict, err := process.Check(ctx, process.CheckOptions{
		Session: t.session, Peers: t.cluster.Peers(), Receipts: t.work.receipts, Timeout: checkPatience,
	})
	if err != nil {
		return nil, err
	}
	r.take(verdict)
	r.Bytes = int64(r.Acknowledged) * t.load.Layout.Size()
	for _, v := range verdict.Views {
		t.watch.final(v.Rounds)
	}
	r.Changed = slices.AppendSeq([]uint64{}, maps.Keys(t.watch.changed))
	slices.Sort(r.Changed)
	for _, v := range verdict.Views {
		if v.Err == nil {
			err = t.checkMeans(ctx, client, v.Rounds, &r.Means)
			break
		}
	}
	return r, err
}

// checkMeans computes every round's model again: the updates are trained again
// from the models they say they were trained from, and their digests compared
// with those in the listing; then their mean, and its digest.
func (t *trial) checkMeans(ctx context.Context, client *api.Client, rounds []api.RoundInfo, m *Means) error {
	spec, err := reducer.SpecOf(bytes.NewReader(t.load.Seed), int64(len(t.load.Seed)))
	if err != nil {
		return err
	}
	c := &checker{trial: t, client: client, spec: spec, models: map[string][]byte{}}
	seed := model.Sum(t.load.Seed).String()
	c.models[seed] = t.load.Seed
	previous := seed
	for _, r := range rounds {
		if len(r.Updates) == 0 {
			continue
		}
		err := c.check(ctx, r, previous)
		var gone *goneError
		switch {
		case err == nil:
			m.Checked++
		case errors.As(err, &gone):
			m.Unknown = append(m.Unknown, r.Round)
		case ctx.Err() != nil:
			return err
		default:
			m.Wrong = append(m.Wrong, r.Round)
		}
		previous = r.Model
	}
	return nil
}

// checker holds the models that were pulled last.
type checker struct {
	*trial
	client *api.Client
	spec   *aggregate.Spec
	models map[string][]byte
	order  []string
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
	var b bytes.Buffer
	if _, err := c.client.Pull(ctx, c.session, api.PullOptions{Digest: digest}, &b); err != nil {
		return nil, &goneError{err}
	}
	c.models[digest] = b.Bytes()
	if c.order = append(c.order, digest); len(c.order) > keep {
		delete(c.models, c.order[0])
		c.order = c.order[1:]
	}
	return b.Bytes(), nil
}

func (c *checker) check(ctx context.Context, r api.RoundInfo, previous string) error {
	prev, err := c.get(ctx, previous)
	if err != nil {
		return err
	}
	round := aggregate.Round{Spec: c.spec, Number: r.Round, Base: func(d model.Digest) (io.ReaderAt, error) {
		b, err := c.get(ctx, d.String())
		return bytes.NewReader(b), err
	}}
	round.Prev.Source = bytes.NewReader(prev)
	if round.Prev.Digest, err = model.ParseDigest(previous); err != nil {
		return err
	}
	for _, u := range r.Updates {
		base, err := c.get(ctx, u.Base)
		if err != nil {
			return err
		}
		combiner, err := combinerIndex(u.Combiner, c.config.combiners)
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
