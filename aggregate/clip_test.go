package aggregate_test

import (
	"bytes"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// clipped returns the sum over updates of weight times clipped step, divided by the total weight.
func (tr *trained) clipped(clip float64, weight func(aggregate.Update) int64) []float64 {
	sum, total := make([]float64, len(tr.prev)), 0.0
	for k, u := range tr.round.Updates {
		var square float64
		for j, x := range tr.models[k] {
			square += (x - tr.bases[k][j]) * (x - tr.bases[k][j])
		}
		factor := min(1, clip/math.Sqrt(square))
		w := float64(weight(u))
		for i := range sum {
			sum[i] += w * float64(float32(factor*(tr.models[k][i]-tr.bases[k][i])))
		}
		total += w
	}
	for i := range sum {
		sum[i] /= total
	}
	return sum
}

// TestClip compares clipped rounds, with and without staleness, with the formula, and parts from sums with the whole.
func TestClip(t *testing.T) {
	t.Parallel()
	const n = 5000
	rnd := rand.New(rand.NewPCG(2, 4))
	for _, clip := range []string{"1", "80", "1000"} { // the steps are about 100 long, or 0
		for _, staleness := range []string{"constant", "polynomial"} {
			s := lookup(t, "fedavg", "clip_norm", clip, "staleness", staleness, "staleness_exponent", "1")
			tr := newTrained(t, rnd, n, 4, nil)
			same := tr.round.Updates[0]
			same.Source, same.Base = tr.round.Prev.Source, tr.round.Prev.Digest
			tr.round.Updates = append(tr.round.Updates, same)
			tr.models, tr.bases = append(tr.models, tr.prev), append(tr.bases, tr.prev)
			weight := func(u aggregate.Update) int64 {
				if staleness == "constant" {
					return u.Weight
				}
				behind := 3 - u.BaseRound
				if u.Base == tr.round.Prev.Digest {
					behind = 0
				}
				return u.Weight * int64(math.Round(1024/float64(1+behind)))
			}
			out, _, _ := run(t, s, tr.round, 1, 1000, 1001)
			limit := map[string]float64{"1": 1, "80": 80, "1000": 1000}[clip]
			steps := tr.clipped(limit, weight)
			for i, x := range values(t, tr.round.Spec.Layout(), out, "w") {
				step := steps[i]
				if want := tr.prev[i] + step; ulps(x, want) > 1 && math.Abs(x-want) > 1e-7*math.Abs(step) {
					t.Fatalf("clip %s, element %d: %v, want %v", clip, i, x, want)
				}
			}

			summing, ok := s.(aggregate.Summing)
			if !ok || summing.Plain() {
				t.Fatal("not a strategy of sums of its own")
			}
			k := rnd.IntN(len(tr.round.Updates))
			terms, err := summing.Terms(t.Context(), tr.round, tr.round.Updates[k:])
			if err != nil {
				t.Fatal(err)
			}
			var sum bytes.Buffer
			if err := tr.round.Spec.Partial(t.Context(), nil, 0, n, terms, &sum); err != nil {
				t.Fatal(err)
			}
			for i := range tr.round.Updates[k:] {
				tr.round.Updates[k+i].Source = nil
			}
			plan, err := s.Plan(t.Context(), tr.round)
			if err != nil {
				t.Fatal(err)
			}
			part := bytes.NewBuffer(bytes.Clone(tr.round.Spec.Layout().Header()))
			if _, err := plan.Range(t.Context(), nil, 0, n, []io.Reader{&sum}, aggregate.Output{Model: part}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(part.Bytes(), out) {
				t.Error("with a partial sum the model differs")
			}
		}
	}
}

// TestClipRounding: each element of a step is rounded once, to nearest, half to even, even where the result is subnormal; a zero is +0.
func TestClipRounding(t *testing.T) {
	rnd := rand.New(rand.NewPCG(32, 64))
	const n = 5000
	l := mustLayout(t, model.Tensor{Name: "w", DType: model.F32, Shape: []int64{n}})
	random := func() []float32 {
		xs := make([]float32, n)
		for i := range xs {
			exponent := rnd.Uint32N(127 - 36) // below 2^-36
			xs[i] = math.Float32frombits(rnd.Uint32N(1<<23) | exponent<<23 | rnd.Uint32N(2)<<31)
		}
		return xs
	}
	xs, ms := random(), random()
	xs[0], ms[0] = 1, 0 // to which the others add nothing: the norm is 1
	xs[1], ms[1] = float32(math.Copysign(0, -1)), 0
	r := aggregate.Round{Spec: mustSpec(t, l, nil), Number: 1, Prev: stored(f32File(l, ms...))}
	r.Updates = []aggregate.Update{{Weight: 1, Base: r.Prev.Digest, Source: reader(f32File(l, xs...))}}
	for _, clip := range []float64{1, 0x1p-1, 0x1p-70, 0x1p-110, 0x1p-140} {
		s, ok := lookup(t, "fedavg", "clip_norm", strconv.FormatFloat(clip, 'g', -1, 64)).(aggregate.Summing)
		if !ok {
			t.Fatal("not a strategy of sums")
		}
		terms, err := s.Terms(t.Context(), r, r.Updates)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, l.DataSize())
		if _, err := terms[0].Source.ReadAt(p, int64(len(l.Header()))); err != nil {
			t.Fatal(err)
		}
		for i, got := range f32s(p) {
			step := clip * (float64(xs[i]) - float64(ms[i]))
			want, _ := big.NewFloat(step).Float32() // rounds in software
			want += 0                               // -0 is +0
			if math.Float32bits(got) != math.Float32bits(want) {
				t.Fatalf("clip %v, element %d: %v (%x), want %v", clip, i, got, math.Float32bits(got), want)
			}
		}
	}
}

// TestClipDTypes: every dtype, from several bases; integers take the plain mean, however short the norm, and any ranges make the same
// bytes.
func TestClipDTypes(t *testing.T) {
	t.Parallel()
	l := mixed(t)
	s := mustSpec(t, l, nil)
	rnd := rand.New(rand.NewPCG(19, 9))
	files := map[model.Digest][]byte{}
	random := func() (aggregate.Model, []byte) {
		f := randomFile(l, rnd)
		files[model.Sum(f)] = f
		return stored(f), f
	}
	prev, prevFile := random()
	old, _ := random()
	r := aggregate.Round{Spec: s, Number: 2, Prev: prev, Base: func(d model.Digest) (io.ReaderAt, error) { return reader(files[d]), nil }}
	for i := range 4 {
		u, _ := random()
		base := prev.Digest
		if i%2 == 0 {
			base = old.Digest
		}
		r.Updates = append(r.Updates, aggregate.Update{Weight: 1 + rnd.Int64N(9), Base: base, Source: u.Source})
	}
	mean, _, _ := run(t, fedAvg(t), r)
	clip := lookup(t, "fedavg", "clip_norm", "1e-6")
	out, _, events := run(t, clip, r)
	if events.Saturated > 0 && events.Tensor[0] == 'f' {
		t.Errorf("events: %+v", events)
	}
	for range 3 {
		a, b := rnd.Int64N(s.Elements()), rnd.Int64N(s.Elements())
		if again, _, _ := run(t, clip, r, min(a, b), max(a, b)); !bytes.Equal(again, out) {
			t.Fatal("ranges differ from the whole")
		}
	}
	header := int64(len(l.Header()))
	for _, tensor := range l.Tensors() {
		part := func(f []byte) []byte { return f[header+tensor.Offset:][:tensor.Bytes()] }
		switch {
		case !tensor.DType.Float():
			if !bytes.Equal(part(out), part(mean)) {
				t.Errorf("%s is not the mean", tensor.Name)
			}
		case tensor.DType == model.F32:
			was := f32s(part(prevFile))
			for i, x := range f32s(part(out)) {
				if d := math.Abs(float64(x) - float64(was[i])); d > 1e-6+1e-7*math.Abs(float64(x)) {
					t.Fatalf("%s[%d] moved by %v", tensor.Name, i, d)
				}
			}
		}
	}
	for _, name := range []string{"fedadam", "fedavgm"} {
		params := []string{"clip_norm", "3"}
		if name == "fedavgm" {
			params = append(params, "server_momentum", "0.5")
		}
		s1 := lookup(t, name, params...)
		a, as, _ := run(t, s1, r)
		b, bs, _ := run(t, s1, r, 32768, 33000)
		if !bytes.Equal(a, b) || !bytes.Equal(as, bs) {
			t.Errorf("%s: ranges differ from the whole", name)
		}
	}
}
