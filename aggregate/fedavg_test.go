package aggregate_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

func fedAvg(t testing.TB) aggregate.Summing {
	t.Helper()
	s, err := aggregate.Lookup("fedavg", nil)
	if err != nil {
		t.Fatal(err)
	}
	summing, ok := s.(aggregate.Summing)
	if !ok {
		t.Fatal("fedavg does not work from sums")
	}
	return summing
}

// compute returns the canonical file of a round's model.
func compute(t testing.TB, r aggregate.Round, sums ...io.Reader) []byte {
	t.Helper()
	plan, err := fedAvg(t).Plan(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.NewBuffer(bytes.Clone(r.Spec.Layout().Header()))
	if _, err := plan.Range(t.Context(), nil, 0, r.Spec.Elements(), sums, aggregate.Output{Model: out}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func stored(file []byte) aggregate.Model {
	return aggregate.Model{Digest: model.Sum(file), Source: reader(file)}
}

func TestFedAvgOfTwo(t *testing.T) {
	l := mustLayout(t, model.Tensor{Name: "w", DType: model.F32, Shape: []int64{3}})
	prev := stored(f32File(l, 7, 7, 7))
	got := compute(t, aggregate.Round{Spec: mustSpec(t, l, nil), Prev: prev, Updates: []aggregate.Update{
		{Weight: 1, Base: prev.Digest, Source: reader(f32File(l, 1, -0.5, 1e-30))},
		{Weight: 3, Base: prev.Digest, Source: reader(f32File(l, 5, 0.5, -1e-30))},
	}})
	if want := f32File(l, 4, 0.25, 0); !bytes.Equal(got, want) {
		t.Errorf("got %v, want %v", f32s(got[len(l.Header()):]), f32s(want[len(l.Header()):]))
	}
}

// TestFedAvgStale: an update counts as a step from its own base.
func TestFedAvgStale(t *testing.T) {
	l := mustLayout(t, model.Tensor{Name: "w", DType: model.F32, Shape: []int64{2}})
	prev, old := stored(f32File(l, 10, 100)), stored(f32File(l, 3, 50))
	base := func(d model.Digest) (io.ReaderAt, error) {
		if d != old.Digest {
			return nil, fmt.Errorf("no model %s", d)
		}
		return old.Source, nil
	}
	got := compute(t, aggregate.Round{Spec: mustSpec(t, l, nil), Prev: prev, Base: base, Updates: []aggregate.Update{
		{Weight: 1, Base: prev.Digest, Source: reader(f32File(l, 12, 100))}, // steps +2 and 0
		{Weight: 3, Base: old.Digest, Source: reader(f32File(l, 2, 58))},    // steps -1 and +8
	}})
	if want := f32File(l, 10-0.25, 106); !bytes.Equal(got, want) {
		t.Errorf("got %v, want %v", f32s(got[len(l.Header()):]), f32s(want[len(l.Header()):]))
	}
}

// TestFedAvgOracle compares rounds with up to three bases at the largest weights with the formula in math/big, and any grouping
// into partial sums with the whole.
func TestFedAvgOracle(t *testing.T) {
	const n = 700
	l := mustLayout(t, model.Tensor{Name: "w", DType: model.F32, Shape: []int64{n}})
	s := mustSpec(t, l, nil)
	r := rand.New(rand.NewPCG(5, 5))
	for round := range 40 {
		file := func() []byte {
			if round%2 == 0 {
				return randomFile(l, r)
			}
			xs := make([]float32, n) // of one magnitude: the mean stays in range
			for i := range xs {
				xs[i] = float32(r.NormFloat64())
			}
			return f32File(l, xs...)
		}
		files := [][]byte{file(), file(), file()}
		prev := stored(files[0])
		bases := map[model.Digest][]byte{}
		for _, f := range files {
			bases[model.Sum(f)] = f
		}
		rd := aggregate.Round{Spec: s, Prev: prev, Base: func(d model.Digest) (io.ReaderAt, error) {
			return reader(bases[d]), nil
		}}
		sums := make([]*big.Int, n)
		for i := range sums {
			sums[i] = new(big.Int)
		}
		add := func(file []byte, w int64) {
			for i, x := range f32s(file[len(l.Header()):]) {
				sums[i].Add(sums[i], exact(float64(x), w, 0))
			}
		}
		var total, moved int64
		stale := map[model.Digest]int64{}
		for k := range 1 + r.IntN(6) {
			w := 1 + r.Int64N(aggregate.MaxTotalWeight/6)>>(r.IntN(2)*r.IntN(37))
			if k == 0 && round%5 == 0 {
				w = aggregate.MaxTotalWeight - 6*(aggregate.MaxTotalWeight/6)
			}
			x, b := file(), model.Sum(files[r.IntN(3)])
			rd.Updates = append(rd.Updates, aggregate.Update{Weight: w, Base: b, Source: reader(x)})
			add(x, w)
			total += w
			if b != prev.Digest {
				stale[b] += w
				moved += w
			}
		}
		add(files[0], moved)
		for b, w := range stale {
			add(bases[b], -w)
		}
		got := compute(t, rd)
		for i, x := range f32s(got[len(l.Header()):]) {
			want, _ := ratio(sums[i], total, 0).Float32()
			if want = min(max(want, -(1<<24-1)), 1<<24-1); x != want {
				t.Fatalf("round %d, element %d: got %v, want %v", round, i, x, want)
			}
		}

		// Some of the updates are elsewhere.
		var away []aggregate.Update
		mine := rd
		mine.Updates = nil
		for _, u := range rd.Updates {
			if r.IntN(2) == 0 {
				away = append(away, u)
				u.Source = nil
			}
			mine.Updates = append(mine.Updates, u)
		}
		var partials []io.Reader
		for len(away) > 0 {
			k := 1 + r.IntN(len(away))
			terms, err := fedAvg(t).Terms(t.Context(), rd, away[:k])
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			if err := s.Partial(t.Context(), nil, 0, n, terms, &b); err != nil {
				t.Fatal(err)
			}
			partials, away = append(partials, &b), away[k:]
		}
		if !bytes.Equal(compute(t, mine, partials...), got) {
			t.Fatalf("round %d: with partial sums the model differs", round)
		}
	}
}

func TestFedAvgRefuses(t *testing.T) {
	l := mustLayout(t, model.Tensor{Name: "w", DType: model.F32})
	f := reader(f32File(l, 1))
	prev := stored(f32File(l, 7))
	other := model.Sum([]byte("other"))
	gone := errors.New("gone")
	lost := func(model.Digest) (io.ReaderAt, error) { return nil, gone }
	const most = aggregate.MaxTotalWeight
	for _, c := range []struct {
		name string
		base func(model.Digest) (io.ReaderAt, error)
		us   []aggregate.Update
		want error
	}{
		{"no updates", nil, nil, aggregate.ErrRound},
		{"weight 0", nil, []aggregate.Update{{Base: prev.Digest, Source: f}}, aggregate.ErrWeight},
		{"weight negative", nil, []aggregate.Update{{Weight: -1, Base: prev.Digest, Source: f}}, aggregate.ErrWeight},
		{"weight too large", nil, []aggregate.Update{{Weight: most + 1, Base: prev.Digest, Source: f}}, aggregate.ErrWeight},
		{"weights too large", nil, []aggregate.Update{{Weight: most, Base: prev.Digest, Source: f}, {Weight: 1, Base: prev.Digest, Source: f}}, aggregate.ErrWeight},
		{"no bases", nil, []aggregate.Update{{Weight: 1, Base: other, Source: f}}, aggregate.ErrSource},
		{"base is lost", lost, []aggregate.Update{{Weight: 1, Base: other, Source: f}}, gone},
		{"base is not needed", lost, []aggregate.Update{{Weight: 1, Base: prev.Digest, Source: f}}, nil},
	} {
		_, err := fedAvg(t).Plan(t.Context(), aggregate.Round{Spec: mustSpec(t, l, nil), Prev: prev, Base: c.base, Updates: c.us})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := fedAvg(t).Terms(t.Context(), aggregate.Round{}, []aggregate.Update{{Weight: 1}}); !errors.Is(err, aggregate.ErrSource) {
		t.Errorf("terms without a source: %v", err)
	}

	// Sums and missing sources go together.
	for _, source := range []io.ReaderAt{f, nil} {
		plan, err := fedAvg(t).Plan(t.Context(), aggregate.Round{Spec: mustSpec(t, l, nil), Prev: prev, Updates: []aggregate.Update{{Weight: 1, Base: prev.Digest, Source: source}}})
		if err != nil {
			t.Fatal(err)
		}
		var sums []io.Reader
		if source != nil {
			sums = append(sums, bytes.NewReader(make([]byte, 2)))
		}
		if _, err := plan.Range(t.Context(), nil, 0, 1, sums, aggregate.Output{Model: io.Discard}); !errors.Is(err, aggregate.ErrSource) {
			t.Errorf("source %v, %d sums: %v", source, len(sums), err)
		}
	}
}
