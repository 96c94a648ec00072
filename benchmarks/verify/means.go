package verify

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

// Means says how many rounds' models were computed again.
type Means struct {
	Checked int      `json:"checked"` // bit for bit the mean of what the round is said to contain
	Wrong   []uint64 `json:"wrong"`
	Unknown []uint64 `json:"unknown"` // of which a model or an update could not be had again
}

// Pull gets the bytes of a model.
type Pull func(ctx context.Context, digest string) ([]byte, error)

// Checker computes rounds' models again, in order. It holds the few models that
// were pulled last.
type Checker struct {
	load      *load.Load
	combiners int
	spec      *aggregate.Spec
	every     uint64 // one round of so many
	pull      Pull
	next      uint64
	previous  string // digest of the model before the next round
	means     Means

	models map[string][]byte
	order  []string
}

// New makes a checker of one round of so many.
func New(l *load.Load, combiners int, every uint64, pull Pull) (*Checker, error) {
	spec, err := reducer.SpecOf(bytes.NewReader(l.Seed), int64(len(l.Seed)))
	if err != nil {
		return nil, err
	}
	seed := model.Sum(l.Seed).String()
	return &Checker{
		load: l, combiners: combiners, spec: spec, every: every, pull: pull, next: 1, previous: seed,
		means: Means{Wrong: []uint64{}, Unknown: []uint64{}}, models: map[string][]byte{seed: l.Seed},
	}, nil
}

// Puller pulls a session's models from whichever process has them.
func Puller(client *api.Client, session string) Pull {
	return func(ctx context.Context, digest string) ([]byte, error) {
		var b bytes.Buffer
		_, err := client.Pull(ctx, session, api.PullOptions{Digest: digest}, &b)
		return b.Bytes(), err
	}
}

// Next is the round that is taken next.
func (c *Checker) Next() uint64 { return c.next }

// Means is what was found.
func (c *Checker) Means() Means { return c.means }

// Follow checks final rounds while they are made, until ctx ends.
func (c *Checker) Follow(ctx context.Context, client *api.Client, session string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		rounds, err := client.Rounds(ctx, session, c.next, 200)
		if err != nil {
			continue
		}
		// Finality comes in order.
		if i := slices.IndexFunc(rounds, func(r api.RoundInfo) bool { return r.State != api.RoundFinal }); i >= 0 {
			rounds = rounds[:i]
		}
		if c.Take(ctx, rounds) != nil {
			return // ctx has ended, and the end will see what is left
		}
	}
}

// Take computes the models of the next rounds again: the updates are trained
// again from the models they say they were trained from, and their digests
// compared with those in the listing; then their mean, and its digest.
func (c *Checker) Take(ctx context.Context, rounds []api.RoundInfo) error {
	for _, r := range rounds {
		if r.Round != c.next {
			return fmt.Errorf("verify: round %d is listed where %d was expected", r.Round, c.next)
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
func (c *Checker) get(ctx context.Context, digest string) ([]byte, error) {
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

func (c *Checker) check(ctx context.Context, r api.RoundInfo) error {
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
		again, err := c.again(ctx, u)
		if err != nil {
			return err
		}
		round.Updates = append(round.Updates, again)
	}
	mean := make(memory, c.spec.Layout().Size())
	if err := reducer.Mean(ctx, round, mean); err != nil {
		return err
	}
	if got := model.Sum(mean).String(); got != r.Model {
		return fmt.Errorf("verify: the mean of round %d is %s, its model %s", r.Round, got, r.Model)
	}
	return nil
}

// again trains an update again.
func (c *Checker) again(ctx context.Context, u api.UpdateInfo) (out aggregate.Update, err error) {
	base, err := c.get(ctx, u.Base)
	if err != nil {
		return out, err
	}
	combiner, err := Index(u.Combiner, c.combiners)
	if err != nil {
		return out, err
	}
	step, err := strconv.Atoi(u.ID)
	if err != nil || step < 0 {
		return out, fmt.Errorf("verify: %s/%s was never pushed", u.Combiner, u.ID)
	}
	update, err := Train(c.load, base, combiner, step)
	if err != nil {
		return out, err
	}
	digest, err := update.Digest()
	if err != nil {
		return out, err
	}
	if digest.String() != u.Digest || u.Weight != Weight(c.load, combiner) {
		return out, fmt.Errorf("verify: %s/%s is not what was pushed", u.Combiner, u.ID)
	}
	out = aggregate.Update{Weight: u.Weight, BaseRound: u.BaseRound, Name: u.Combiner, Source: update}
	out.Base, err = model.ParseDigest(u.Base)
	return out, err
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
