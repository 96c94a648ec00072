package aggregate_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// TestDeliveries: 10,000 deliveries of the same updates, each in another order, grouped otherwise into partial sums from other peers,
// with other ranges: one digest for each strategy that works from sums.
func TestDeliveries(t *testing.T) {
	const deliveries, elements = 10_000, 24
	rnd := rand.New(rand.NewPCG(10, 10))
	var all []aggregate.Summing
	for _, params := range [][]string{
		{"fedavg"},
		{"fedavg", "staleness", "polynomial"},
		{"fedavg", "clip_norm", "2", "staleness", "polynomial"},
		{"fedavg", "clip_norm", "2", "dp_noise_multiplier", "1"},
		{"fedavgm", "server_momentum", "0.9"},
		{"fedadam"},
		{"fedadam", "clip_norm", "1", "dp_noise_multiplier", "0.1"},
		{"fedyogi"},
		{"fedadagrad", "staleness", "polynomial"},
	} {
		summing, ok := lookup(t, params[0], params[1:]...).(aggregate.Summing)
		if !ok {
			t.Fatalf("%v is no strategy of sums", params)
		}
		all = append(all, summing)
	}
	tr := newTrained(t, rnd, elements, 3, nil)
	for len(tr.round.Updates) < 7 {
		more := newTrained(t, rnd, elements, 3, nil)
		for _, u := range more.round.Updates {
			u.Base, u.BaseRound = tr.round.Prev.Digest, 2
			tr.round.Updates = append(tr.round.Updates, u)
		}
	}
	tr.round.Secret = secret
	digests := make([]model.Digest, len(all))
	for i := range deliveries {
		k := i % len(all)
		d := sum(deliver(t, rnd, all[k], tr.round))
		if i < len(all) {
			digests[k] = d
		} else if d != digests[k] {
			t.Fatalf("delivery %d of %s: %s, the first was %s", i, all[k].Info().Name, d.Short(), digests[k].Short())
		}
	}
	distinct := map[model.Digest]bool{}
	for _, d := range digests {
		distinct[d] = true
	}
	if len(distinct) != len(all) {
		t.Error("two strategies make the same model")
	}
}

func sum(files ...[]byte) model.Digest { return model.Sum(bytes.Join(files, nil)) }

// deliver computes a round from some updates and partial sums over the others, in two ranges.
func deliver(t testing.TB, rnd *rand.Rand, s aggregate.Summing, r aggregate.Round) (out, state []byte) {
	t.Helper()
	n := r.Spec.Elements()
	updates := slices.Clone(r.Updates)
	rnd.Shuffle(len(updates), func(i, j int) { updates[i], updates[j] = updates[j], updates[i] })
	r.Updates = slices.Clone(updates)
	own := rnd.IntN(len(updates) + 1)
	groups := [][]aggregate.Term{}
	for away := updates[own:]; len(away) > 0; {
		k := 1 + rnd.IntN(len(away))
		terms, err := s.Terms(t.Context(), r, away[:k])
		if err != nil {
			t.Fatal(err)
		}
		groups, away = append(groups, terms), away[k:]
	}
	for i := own; i < len(updates); i++ {
		r.Updates[i].Source = nil
	}
	plan, err := s.Plan(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	model := newFile(r.Spec.Layout())
	o := aggregate.Output{}
	var states *file
	if stateful, ok := s.(aggregate.Stateful); ok {
		l, err := stateful.StateLayout(r.Spec)
		if err != nil {
			t.Fatal(err)
		}
		states = newFile(l)
		o.State = states
	}
	cut := rnd.Int64N(n + 1)
	for _, ends := range [][2]int64{{0, cut}, {cut, n}} {
		var sums []io.Reader
		for _, terms := range groups {
			var b bytes.Buffer
			if err := r.Spec.Partial(t.Context(), nil, ends[0], ends[1], terms, &b); err != nil {
				t.Fatal(err)
			}
			sums = append(sums, &b)
		}
		offset, _ := r.Spec.Section(ends[0], ends[1])
		o.Model = io.NewOffsetWriter(model, offset)
		if _, err := plan.Range(t.Context(), nil, ends[0], ends[1], sums, o); err != nil {
			t.Fatal(err)
		}
	}
	if states != nil {
		state = states.bytes
	}
	return model.bytes, state
}

// TestChain: a peer that computes all rounds from the first has the model and the state of one that went along, through rounds that
// keep them and rounds that are amended after the fact.
func TestChain(t *testing.T) {
	const rounds, elements = 12, 300
	for _, params := range [][]string{
		{"fedavgm", "server_momentum", "0.9", "server_learning_rate", "0.5"},
		{"fedadam"},
		{"fedyogi", "clip_norm", "5"},
		{"fedadagrad", "staleness", "polynomial"},
		{"fedadam", "clip_norm", "5", "dp_noise_multiplier", "0.01"},
	} {
		s := lookup(t, params[0], params[1:]...)
		seed := newTrained(t, rand.New(rand.NewPCG(1, 0)), elements, 1, nil).round.Prev
		file, err := io.ReadAll(io.NewSectionReader(seed.Source, 0, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		// compute returns models and states after some rounds; version changes what is in round 5.
		compute := func(from int, models, states [][]byte, version uint64) ([][]byte, [][]byte) {
			models, states = slices.Clone(models[:from]), slices.Clone(states[:from])
			for number := from; number <= rounds; number++ {
				v := uint64(0)
				if number == 5 {
					v = version
				}
				tr := newTrained(t, rand.New(rand.NewPCG(uint64(number), v)), elements, uint64(number), models[number-1])
				tr.round.Secret, tr.round.Inputs = secret, model.Sum([]byte(fmt.Sprint(number, v)))
				if states[number-1] != nil {
					tr.round.State = stored(states[number-1])
				}
				if number%4 == 0 {
					tr.round.Updates = nil
				}
				out, state, events := run(t, s, tr.round, int64(number))
				if kept := events.Kept != ""; kept != (number%4 == 0) {
					t.Fatalf("round %d: events %+v", number, events)
				}
				models, states = append(models, out), append(states, state)
			}
			return models, states
		}
		models, states := compute(1, [][]byte{file}, [][]byte{nil}, 0)
		again, more := compute(1, [][]byte{file}, [][]byte{nil}, 0)
		if sum(models...) != sum(again...) || sum(states...) != sum(more...) {
			t.Errorf("%v: the same rounds gave another chain", params)
		}
		amended, after := compute(5, models, states, 1)
		if bytes.Equal(amended[5], models[5]) {
			t.Errorf("%v: the amended round is as before", params)
		}
		again, more = compute(1, [][]byte{file}, [][]byte{nil}, 1)
		if sum(amended...) != sum(again...) || sum(after...) != sum(more...) {
			t.Errorf("%v: computed from an amended round on differs from the first on", params)
		}
	}
}
