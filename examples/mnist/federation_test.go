package main

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/examples/mnist/digits"
	"github.com/fedmesh/fedmesh/examples/mnist/learn"
	"github.com/fedmesh/fedmesh/model"
)

// federation is combiners that train without a mesh, in one process: what a
// strategy makes of their updates is the same.
type federation struct {
	config    Config
	combiners []*combiner
	wire      *wire
	spec      *aggregate.Spec
	test      *digits.Set
}

// newFederation makes combiners of the data's clients.
func newFederation(c Config, d data) (f *federation, err error) {
	f = &federation{config: c, test: d.test}
	if f.wire, err = newWire(c.Shape); err != nil {
		return nil, err
	}
	layout := f.wire.layout
	if f.spec, err = aggregate.NewSpec(layout, make([]int8, len(layout.Tensors()))); err != nil {
		return nil, err
	}
	slots := make(chan struct{}, 1)
	for i := range c.Combiners {
		f.combiners = append(f.combiners, &combiner{
			index: i + 1, seed: c.Seed, clients: d.clients[i*c.Clients : (i+1)*c.Clients], train: d.train,
			trainer: learn.NewTrainer(c.Shape, c.Hyper), slots: slots,
		})
	}
	return f, nil
}

// head is the first examples of a set.
type head struct {
	*digits.Set
	n int
}

func (h head) Len() int { return h.n }

// evenly is the alpha of clients that have all digits in nearly the same
// proportions. The papers' guarantees are for such.
const evenly = 1000

// loadHead divides the first examples of the training set among the combiners'
// clients.
func loadHead(t *testing.T, c Config, examples int) data {
	t.Helper()
	dir, err := digits.Find(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	var d data
	if d.train, d.test, err = digits.Load(dir); err != nil {
		t.Fatal(err)
	}
	if d.clients, err = learn.Split(head{d.train, examples}, c.Combiners*c.Clients, evenly, c.Seed); err != nil {
		t.Fatal(err)
	}
	return d
}

// run tries once and returns the accuracy of the last model on the test set.
func (f *federation) run(t *testing.T, try trial) float64 {
	t.Helper()
	s, err := aggregate.Lookup(try.Strategy, try.Params)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range f.combiners {
		c.attack = nil
		if try.Attack != attackNone && i >= len(f.combiners)-f.config.attackers() {
			c.attack = &attack{kind: try.Attack, scale: f.config.Scale}
		}
	}
	params := f.config.Shape.Init(f.config.Seed)
	for round := 1; round <= f.config.Rounds; round++ {
		file := f.wire.encode(params)
		r := aggregate.Round{
			Spec: f.spec, Number: uint64(round),
			Prev: aggregate.Model{Digest: model.Sum(file), Source: bytes.NewReader(file)},
		}
		for _, c := range f.combiners {
			update, weight, err := c.update(t.Context(), params, round)
			if err != nil {
				t.Fatal(err)
			}
			r.Updates = append(r.Updates, aggregate.Update{
				Name: strconv.Itoa(c.index), Weight: weight, Base: r.Prev.Digest, BaseRound: uint64(round - 1),
				Source: bytes.NewReader(f.wire.encode(update)),
			})
		}
		plan, err := s.Plan(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		var next bytes.Buffer
		next.Write(f.wire.header)
		if _, err := plan.Range(t.Context(), nil, 0, f.spec.Elements(), nil, aggregate.Output{Model: &next}); err != nil {
			t.Fatal(err)
		}
		if params, err = f.wire.decode(next.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	return learn.Accuracy(f.config.Shape, params, f.test)
}
