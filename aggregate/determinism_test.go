package aggregate_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// TestDeliveries: 10,000 deliveries of the same updates, each in another order, grouped otherwise into partial sums from other peers, some of them merged
// again on the way or with parts taken out, and with other ranges: one digest for each strategy that works from sums. The same sums in
// float64 would not do: they come out in hundreds of ways.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	const deliveries = 10_000
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
	round := spread(t, rnd, 9)
	digests := make([]model.Digest, len(all))
	naive := map[[7]float64]bool{}
	var models [][]float64
	for _, u := range round.Updates {
		f := make([]byte, round.Spec.Layout().Size())
		if _, err := u.Source.ReadAt(f, 0); err != nil {
			t.Fatal(err)
		}
		models = append(models, values(t, round.Spec.Layout(), f, "d"))
	}
	for i := range deliveries {
		k := i % len(all)
		order := rnd.Perm(len(round.Updates))
		d := sum(deliver(t, rnd, all[k], round, order))
		if i < len(all) {
			digests[k] = d
		} else if d != digests[k] {
			t.Fatalf("delivery %d of %s: %s, the first was %s", i, all[k].Info().Name, d.Short(), digests[k].Short())
		}
		var sums [7]float64
		for _, u := range order {
			for j, x := range models[u] {
				sums[j] += float64(round.Updates[u].Weight) * x
			}
		}
		naive[sums] = true
	}
	distinct := map[model.Digest]bool{}
	for _, d := range digests {
		distinct[d] = true
	}
	if len(distinct) != len(all) {
		t.Error("two strategies make the same model")
	}
	if len(naive) < 100 {
		t.Errorf("sums in float64 have but %d values: these updates do not tell exact sums from others", len(naive))
	}
}

// spread is a round of updates from three bases over tensors of several dtypes, some of whose elements are so small in all of them that the last bits
// of sums matter.
func spread(t testing.TB, rnd *rand.Rand, updates int) aggregate.Round {
	t.Helper()
	l := mustLayout(t,
		model.Tensor{Name: "d", DType: model.F64, Shape: []int64{7}},
		model.Tensor{Name: "w", DType: model.F32, Shape: []int64{2, 5}},
		model.Tensor{Name: "b", DType: model.BF16, Shape: []int64{3}},
		model.Tensor{Name: "n", DType: model.I64, Shape: []int64{2}},
	)
	random := func() []byte {
		f := bytes.Clone(l.Header())
		for _, tensor := range l.Tensors() {
			for i := range int(tensor.Elements()) {
				x := rnd.NormFloat64() * math.Ldexp(1, -37+9*(i%7)+rnd.IntN(5))
				switch tensor.DType {
				case model.F64:
					f = binary.LittleEndian.AppendUint64(f, math.Float64bits(x))
				case model.F32:
					f = binary.LittleEndian.AppendUint32(f, math.Float32bits(float32(x)))
				case model.BF16:
					f = binary.LittleEndian.AppendUint16(f, uint16(math.Float32bits(float32(x))>>16))
				default:
					f = binary.LittleEndian.AppendUint64(f, rnd.Uint64())
				}
			}
		}
		return f
	}
	bases := [][]byte{random(), random(), random()}
	files := map[model.Digest][]byte{}
	for _, f := range bases {
		files[model.Sum(f)] = f
	}
	r := aggregate.Round{
		Spec: mustSpec(t, l, nil), Number: 3, Inputs: model.Sum([]byte("inputs")), Prev: stored(bases[0]), Secret: secret,
		Base: func(d model.Digest) (io.ReaderAt, error) { return reader(files[d]), nil },
	}
	for i := range updates {
		r.Updates = append(r.Updates, aggregate.Update{
			Weight: 1 + rnd.Int64N(1<<24), Base: model.Sum(bases[i%3]), BaseRound: uint64(2 - i%3), Source: reader(random()),
		})
	}
	return r
}

func sum(files ...[]byte) model.Digest { return model.Sum(bytes.Join(files, nil)) }

// deliver computes a round, its updates in an order, from some of them and partial sums over the others, in two ranges.
func deliver(t testing.TB, rnd *rand.Rand, s aggregate.Summing, r aggregate.Round, order []int) (out, state []byte) {
	t.Helper()
	n := r.Spec.Elements()
	var updates []aggregate.Update
	for _, i := range order {
		updates = append(updates, r.Updates[i])
	}
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
		for _, p := range regroup(t, rnd, r.Spec, ends[0], ends[1], groups) {
			sums = append(sums, bytes.NewReader(p))
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

// regroup returns encoded sums over a range of less than a block that are those of the groups together: some are merged, or were
// of a group more that was taken out again.
func regroup(t testing.TB, rnd *rand.Rand, s *aggregate.Spec, from, to int64, groups [][]aggregate.Term) (sums [][]byte) {
	t.Helper()
	for _, terms := range groups {
		var b bytes.Buffer
		if err := s.Partial(t.Context(), nil, from, to, terms, &b); err != nil {
			t.Fatal(err)
		}
		sums = append(sums, b.Bytes())
	}
	decode := func(sums ...[]byte) *aggregate.Acc {
		acc := new(aggregate.Acc)
		acc.Reset(int(to - from))
		for _, p := range sums {
			if err := acc.MergeEncoded(p); err != nil {
				t.Fatal(err)
			}
		}
		return acc
	}
	if len(sums) < 2 || from == to {
		return sums
	}
	switch first, second := sums[0], sums[1]; rnd.IntN(3) {
	case 0:
		return append(sums[2:], decode(second, first).Append(nil))
	case 1:
		both := decode(first, second)
		both.Sub(decode(first))
		sums[1] = both.Append(nil)
	}
	return sums
}

// TestChain: a peer that computes all rounds from the first has the model and the state of one that went along, through rounds that
// keep them and rounds that are amended after the fact.
func TestChain(t *testing.T) {
	t.Parallel()
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
