package fedn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/fedmesh/fedmesh/aggregate"
)

// foldAt is how many clients' models wait on disk until they are summed up: their sum
// takes less than two of them.
const foldAt = 8

// collection is what a combiner stores for one round.
type collection struct {
	dir     string
	spec    *aggregate.Spec
	global  *file             // what the clients trained from, in the spec's layout
	weights map[string]int64  // by client; 0 for those of which only the model came
	bad     map[string]error  // why a client's metadata were refused
	models  map[string]*file  // not summed up yet
	summed  map[string]string // client to digest of those that are
	sums    []*file           // exact sums over disjoint sets of clients
	counted int64             // weights in the sums

	answered bool // the combiner was given what came of it
}

func newCollection(dir string, spec *aggregate.Spec, global *file) *collection {
	return &collection{dir: dir, spec: spec, global: global, weights: map[string]int64{}, bad: map[string]error{}, models: map[string]*file{}, summed: map[string]string{}}
}

// Close removes all files but those that were kept.
func (c *collection) Close() error {
	if c == nil {
		return nil
	}
	return errors.Join(c.clear(), c.global.Close())
}

// clear forgets all clients.
func (c *collection) clear() error {
	var err error
	for _, f := range c.models {
		err = errors.Join(err, f.Close())
	}
	for _, f := range c.sums {
		err = errors.Join(err, f.Close())
	}
	*c = *newCollection(c.dir, c.spec, c.global)
	return err
}

// add takes a client's model; a second one of the same client replaces the first as long as
// that is possible. What does not fit is refused.
func (c *collection) add(ctx context.Context, client string, f *file) error {
	f, err := conform(ctx, c.dir, f, c.spec)
	if err != nil {
		return err
	}
	if d, ok := c.summed[client]; ok {
		err := f.Close()
		if d != f.digest.String() {
			err = errors.Join(err, errors.New("fedn: a second model of the same client comes too late"))
		}
		return err
	}
	if old := c.models[client]; old != nil {
		if err := old.Close(); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	c.models[client] = f
	return c.fold(ctx)
}

// whole returns the clients whose model and weight are here and not summed up, sorted.
func (c *collection) whole() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(c.models)) {
		if c.weights[name] > 0 {
			names = append(names, name)
		}
	}
	return names
}

// fold sums up what waits, when it is much.
func (c *collection) fold(ctx context.Context) error {
	names := c.whole()
	if len(names) < foldAt {
		return nil
	}
	f, err := os.CreateTemp(c.dir, "sum-*")
	if err != nil {
		return fmt.Errorf("fedn: %w", err)
	}
	sum := &file{File: f}
	w := newBuffered(f)
	err = c.spec.Partial(ctx, nil, 0, c.spec.Elements(), c.terms(names), w)
	if err == nil {
		err = w.Flush()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("fedn: %w", err), sum.Close())
	}
	c.sums = append(c.sums, sum)
	for _, name := range names {
		c.counted += c.weights[name]
		c.summed[name] = c.models[name].digest.String()
		err = errors.Join(err, c.models[name].Close())
		delete(c.models, name)
	}
	return err
}

func (c *collection) terms(names []string) []aggregate.Term {
	terms := make([]aggregate.Term, len(names))
	for i, name := range names {
		terms[i] = aggregate.Term{Source: c.models[name], Weight: c.weights[name]}
	}
	return terms
}

// clients is how many have brought all.
func (c *collection) clients() int { return len(c.summed) + len(c.whole()) }

// mean writes the exact weighted mean of all clients.
func (c *collection) mean(ctx context.Context) (f *file, total int64, err error) {
	names := c.whole()
	total = c.counted
	for _, name := range names {
		total += c.weights[name]
	}
	f, err = write(c.dir, c.spec.Layout(), func(w io.Writer) error {
		sums := make([]io.Reader, len(c.sums))
		for i, s := range c.sums {
			if _, err := s.Seek(0, io.SeekStart); err != nil {
				return err
			}
			sums[i] = newReader(s)
		}
		out := newBuffered(w)
		if _, err := c.spec.Mean(ctx, nil, 0, c.spec.Elements(), c.terms(names), sums, total, out); err != nil {
			return err
		}
		return out.Flush()
	})
	return f, total, err
}
