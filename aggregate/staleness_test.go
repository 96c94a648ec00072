package aggregate_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// TestStaleness compares the weights with the formula in floating point.
func TestStaleness(t *testing.T) {
	t.Parallel()
	const n = 200
	rnd := rand.New(rand.NewPCG(11, 12))
	for _, exponent := range []float64{0, 0.125, 0.5, 0.333, 1, 2.5, 8} {
		s := lookup(t, "fedavg", "staleness", "polynomial", "staleness_exponent", strconv.FormatFloat(exponent, 'g', -1, 64))
		for range 10 {
			number := 1 + rnd.Uint64N(1000)
			tr := newTrained(t, rnd, n, number, nil)
			for i := range tr.round.Updates {
				tr.round.Updates[i].BaseRound = rnd.Uint64N(number)
			}
			weight := func(u aggregate.Update) int64 {
				behind := float64(number - 1 - u.BaseRound)
				if u.Base == tr.round.Prev.Digest {
					behind = 0
				}
				f := math.Floor(1024*math.Pow(1+behind, -exponent) + 0.5)
				return u.Weight * int64(max(f, 1))
			}
			out, _, _ := run(t, s, tr.round, 77)
			for i, x := range values(t, tr.round.Spec.Layout(), out, "w") {
				if want := tr.prev[i] + tr.delta(i, weight); ulps(x, want) > 1 {
					t.Fatalf("exponent %v, element %d: %v, want %v", exponent, i, x, want)
				}
			}
		}
	}
}

// TestStalenessTie: 1024·4^-5.5 is exactly one half: rounded up.
func TestStalenessTie(t *testing.T) {
	l := mustLayout(t, model.Tensor{Name: "w", DType: model.F64})
	f := func(x float64) *bytes.Reader {
		b := bytes.Clone(l.Header())
		for i := range 8 {
			b = append(b, byte(math.Float64bits(x)>>(8*i)))
		}
		return reader(b)
	}
	for _, c := range []struct {
		exponent string
		behind   uint64
		weight   float64 // of the stale update, in 1/1024
	}{{"5.5", 3, 1}, {"5", 3, 1}, {"4.5", 3, 2}, {"0", 1000, 1024}, {"8", 1 << 40, 1}, {"1", 2, 341}, {"1", 4, 205}, {"0.5", 1, 724}} {
		s := lookup(t, "fedavg", "staleness", "polynomial", "staleness_exponent", c.exponent)
		zero := aggregate.Model{Digest: model.Sum([]byte("prev")), Source: f(0)}
		r := aggregate.Round{Spec: mustSpec(t, l, nil), Number: c.behind + 10, Prev: zero, Updates: []aggregate.Update{
			{Weight: 1, Base: zero.Digest, Source: f(0)},
			{Weight: 1, Base: model.Sum([]byte("old")), BaseRound: 9, Source: f(1)},
		}, Base: func(model.Digest) (io.ReaderAt, error) { return f(0), nil }}
		out, _, _ := run(t, s, r)
		if got, want := f64(out[len(l.Header()):]), c.weight/(1024+c.weight); got != want {
			t.Errorf("%+v: %v, want %v", c, got, want)
		}
	}
}

func TestStalenessRefuses(t *testing.T) {
	tr := newTrained(t, rand.New(rand.NewPCG(1, 1)), 3, 1, nil)
	s := lookup(t, "fedavg", "staleness", "polynomial")
	tr.round.Updates = tr.round.Updates[:1]
	tr.round.Updates[0].Base, tr.round.Number = model.Digest{}, 0
	if _, err := s.Plan(t.Context(), tr.round); !errors.Is(err, aggregate.ErrSource) || errors.Is(err, aggregate.ErrRound) {
		t.Errorf("no round number: %v", err)
	}
	tr.round.Number = 1
	tr.round.Updates[0].Weight = s.Limits().Weight + 1
	if _, err := s.Plan(t.Context(), tr.round); !errors.Is(err, aggregate.ErrWeight) || !errors.Is(err, aggregate.ErrRound) {
		t.Errorf("weight: %v", err)
	}
}
