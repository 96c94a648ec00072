package aggregate_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

var secret = []byte("sixteen bytes or more")

// privateRound is a round of one tensor in which two updates, one of them stale, are steps of nothing.
func privateRound(t testing.TB, d model.DType, n int64) aggregate.Round {
	t.Helper()
	l := mustLayout(t, model.Tensor{Name: "w", DType: d, Shape: []int64{n}})
	zero := append(bytes.Clone(l.Header()), make([]byte, l.DataSize())...)
	prev := stored(zero)
	old := model.Sum([]byte("old"))
	return aggregate.Round{
		Spec: mustSpec(t, l, nil), Number: 3, Inputs: model.Sum([]byte("inputs")), Prev: prev, Secret: secret,
		Base: func(model.Digest) (io.ReaderAt, error) { return reader(zero), nil },
		Updates: []aggregate.Update{
			{Weight: 1, Base: prev.Digest, BaseRound: 2, Source: reader(zero)},
			{Weight: 99, Base: old, BaseRound: 1, Source: reader(zero)},
		},
	}
}

// TestNoise: the noise on the mean is as it should be, lies on its grid to the last bit, and follows from secret and inputs alone.
func TestNoise(t *testing.T) {
	t.Parallel()
	const n = 40000
	for _, c := range []struct {
		staleness, multiplier, clip string
		sigma                       float64 // of the noise on the sum, in steps
		weights                     float64 // of the updates together
	}{
		{"constant", "1", "1", 1, 2},
		{"constant", "0.7", "20", 14, 2},
		{"polynomial", "3", "0.01", 0.03, 1 + 0.70703125},
	} {
		s := lookup(t, "fedavg", "dp_noise_multiplier", c.multiplier, "clip_norm", c.clip, "staleness", c.staleness)
		r := privateRound(t, model.F64, n)
		out, _, events := run(t, s, r, 12345)
		if events != (aggregate.Events{}) {
			t.Errorf("events %+v", events)
		}
		unit := 1.0
		if c.staleness == "polynomial" {
			unit = 1024
		}
		_, e := math.Frexp(c.sigma * unit)
		step := math.Ldexp(1, e-40)
		var sum, square, fourth float64
		for i, x := range values(t, r.Spec.Layout(), out, "w") {
			total := x * c.weights * unit // in the units of the sum; the quotient is rounded
			if k := total / step; math.Abs(k-math.Round(k)) > math.Abs(k)*0x1p-51 {
				t.Fatalf("%+v, element %d: %v steps of the grid", c, i, k)
			}
			z := x * c.weights / c.sigma
			sum, square, fourth = sum+z, square+z*z, fourth+z*z*z*z
		}
		// Within five deviations of what a normal distribution has.
		if m, v, k := sum/n, square/n, fourth/n; math.Abs(m) > 5/math.Sqrt(n) || math.Abs(v-1) > 5*math.Sqrt(2./n) || math.Abs(k-3) > 5*math.Sqrt(96./n) {
			t.Errorf("%+v: mean %v, variance %v, fourth moment %v of the noise", c, m, v, k)
		}

		if again, _, _ := run(t, s, r, 1, 1023, 1024, 20000, 39999); !bytes.Equal(again, out) {
			t.Error("ranges have other noise than the whole")
		}
		other := r
		other.Inputs = model.Sum([]byte("other inputs"))
		if got, _, _ := run(t, s, other); correlated(t, r.Spec.Layout(), got, out) {
			t.Error("two versions of a round share their noise")
		}
		other = r
		other.Secret = append(bytes.Clone(secret), 0)
		if got, _, _ := run(t, s, other); correlated(t, r.Spec.Layout(), got, out) {
			t.Error("two secrets make the same noise")
		}
		other = r
		other.Updates = append([]aggregate.Update(nil), r.Updates...)
		other.Updates[0].Weight = 1 << 30
		if got, _, _ := run(t, s, other); !bytes.Equal(got, out) {
			t.Error("weights count")
		}
	}
}

func correlated(t testing.TB, l *model.Layout, a, b []byte) bool {
	t.Helper()
	x, y := values(t, l, a, "w"), values(t, l, b, "w")
	var xy, xx float64
	for i := range x {
		xy += x[i] * y[i]
		xx += x[i] * x[i]
	}
	return math.Abs(xy/xx) > 6/math.Sqrt(float64(len(x)))
}

// TestNoiseSensitivity: no step is longer than the clip norm, not even by a rounding, and each is on the noise's grid.
func TestNoiseSensitivity(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(4, 4))
	s := lookup(t, "fedavg", "dp_noise_multiplier", "1", "clip_norm", "3")
	summing, ok := s.(aggregate.Summing)
	if !ok {
		t.Fatal("not a strategy of sums")
	}
	step := math.Ldexp(1, 2-40) // 2^1 ≤ 3 < 2^2
	for range 20 {
		tr := newTrained(t, rnd, 3000, 2, nil)
		terms, err := summing.Terms(t.Context(), tr.round, tr.round.Updates)
		if err != nil {
			t.Fatal(err)
		}
		l := tr.round.Spec.Layout()
		for k, term := range terms {
			f := bytes.Clone(l.Header())
			f = append(f, make([]byte, l.DataSize())...)
			if _, err := term.Source.ReadAt(f[len(l.Header()):], int64(len(l.Header()))); err != nil {
				t.Fatal(err)
			}
			square, y := new(big.Int), new(big.Int) // in steps of the grid
			for i, x := range values(t, l, f, "w") {
				k := x / step
				if k != math.Trunc(k) {
					t.Fatalf("element %d: %v steps of the grid", i, k)
				}
				square.Add(square, y.Mul(y.SetInt64(int64(k)), y))
			}
			most := new(big.Int).Lsh(big.NewInt(9), 2*38)
			if got, _ := square.Float64(); square.Cmp(most) > 0 || got < 8.999*0x1p76 {
				t.Errorf("update %d: squared norm %v, want at most 9", k, got*0x1p-76)
			}
			if term.Weight != 1 {
				t.Errorf("update %d: weight %d", k, term.Weight)
			}
		}
	}
}

// TestNoiseDTypes: integers stay as they are, and optimizers get the same noise in any ranges.
func TestNoiseDTypes(t *testing.T) {
	t.Parallel()
	l := mixed(t)
	rnd := rand.New(rand.NewPCG(3, 14))
	file := randomFile(l, rnd)
	prev := stored(file)
	r := aggregate.Round{Spec: mustSpec(t, l, nil), Number: 1, Inputs: model.Sum([]byte("in")), Prev: prev, Secret: secret}
	for range 3 {
		r.Updates = append(r.Updates, aggregate.Update{Weight: 5, Base: prev.Digest, Source: reader(randomFile(l, rnd))})
	}
	for _, name := range []string{"fedavg", "fedavgm", "fedadam", "fedyogi", "fedadagrad"} {
		params := []string{"dp_noise_multiplier", "0.5", "clip_norm", "0.1"}
		if name == "fedavgm" {
			params = append(params, "server_momentum", "0.9")
		}
		s := lookup(t, name, params...)
		out, state, _ := run(t, s, r)
		a, b := rnd.Int64N(r.Spec.Elements()), rnd.Int64N(r.Spec.Elements())
		again, same, _ := run(t, s, r, min(a, b), max(a, b))
		if !bytes.Equal(out, again) || !bytes.Equal(state, same) {
			t.Errorf("%s: ranges differ from the whole", name)
		}
		for i, tensor := range l.Tensors() {
			at := int64(len(l.Header())) + tensor.Offset
			got, was := out[at:][:tensor.Bytes()], file[at:][:tensor.Bytes()]
			if err := r.Spec.Check(i, 0, got); err != nil {
				t.Error(err)
			}
			if !tensor.DType.Float() && !bytes.Equal(got, was) {
				t.Errorf("%s: %s has changed", name, tensor.Name)
			}
		}
	}
}

// TestNoiseGrid: steps of every dtype are on the grid, those that their dtype does not hold among them, with little noise and the most there can be.
// Otherwise there would be bits of the sum without noise.
func TestNoiseGrid(t *testing.T) {
	rnd := rand.New(rand.NewPCG(16, 16))
	for _, d := range []model.DType{model.F16, model.BF16, model.F32, model.F64} {
		l := mustLayout(t, model.Tensor{Name: "w", DType: d, Shape: []int64{1000}})
		r := aggregate.Round{Spec: mustSpec(t, l, nil), Number: 1, Prev: stored(randomFile(l, rnd)), Secret: secret}
		r.Updates = []aggregate.Update{{Weight: 1, Base: r.Prev.Digest, Source: reader(randomFile(l, rnd))}}
		for _, c := range []struct {
			multiplier, clip string
			exponent         int // of the sum's standard deviation
		}{{"1000", "1000000", 40}, {"1", "0.5", 10}, {"0.001", "0.001", -9}} {
			s, ok := lookup(t, "fedavg", "dp_noise_multiplier", c.multiplier, "clip_norm", c.clip, "staleness", "polynomial").(aggregate.Summing)
			if !ok {
				t.Fatal("not a strategy of sums")
			}
			terms, err := s.Terms(t.Context(), r, r.Updates)
			if err != nil {
				t.Fatal(err)
			}
			var sum bytes.Buffer
			if err := r.Spec.Partial(t.Context(), nil, 0, 1000, terms, &sum); err != nil {
				t.Fatal(err)
			}
			// One chunk: its first byte is how many bits, from 2^-63 on, are zero in all its sums.
			if zeros := int(sum.Bytes()[0]) - 63; sum.Bytes()[1] == 0 || zeros < c.exponent-40 {
				t.Errorf("%s, %+v: steps have bits of 2^%d, the grid is 2^%d", d, c, zeros, c.exponent-40)
			}
		}
	}
}

// TestNoiseKeepsSteps: rounding steps toward zero to the noise's grid costs next to nothing of them, though their elements are small next to the
// noise: those of large models are, the more so where weights have fractional bits or there is much noise.
func TestNoiseKeepsSteps(t *testing.T) {
	const n = 1 << 16
	for _, params := range [][]string{
		{"dp_noise_multiplier", "1"},
		{"dp_noise_multiplier", "1", "staleness", "polynomial"},
		{"dp_noise_multiplier", "1000", "staleness", "polynomial"},
	} {
		s, ok := lookup(t, "fedavg", append(params, "clip_norm", "1")...).(aggregate.Summing)
		if !ok {
			t.Fatal("not a strategy of sums")
		}
		r := privateRound(t, model.F32, n)
		l := r.Spec.Layout()
		xs := make([]float32, n)
		for i := range xs {
			xs[i] = 0x1p-12 * (1 + float32(i)/n) // the norm is below 1/2
		}
		r.Updates[0].Source = reader(f32File(l, xs...))
		terms, err := s.Terms(t.Context(), r, r.Updates)
		if err != nil {
			t.Fatal(err)
		}
		file := bytes.Clone(l.Header())
		file = append(file, make([]byte, l.DataSize())...)
		if _, err := terms[0].Source.ReadAt(file[len(l.Header()):], int64(len(l.Header()))); err != nil {
			t.Fatal(err)
		}
		var sum, want float64
		for i, x := range values(t, l, file, "w") {
			if x > float64(xs[i]) {
				t.Fatalf("%v: element %d grew from %v to %v", params, i, xs[i], x)
			}
			sum, want = sum+x, want+float64(xs[i])
		}
		if sum < (1-0x1p-7)*want {
			t.Errorf("%v: %v of the step is left", params, sum/want)
		}
	}
}

func TestNoiseRefuses(t *testing.T) {
	if _, err := aggregate.Lookup("fedavg", map[string]string{"dp_noise_multiplier": "1"}); !errors.Is(err, aggregate.ErrStrategy) {
		t.Errorf("no clip norm: %v", err)
	}
	s := lookup(t, "fedadam", "dp_noise_multiplier", "1.5", "clip_norm", "1")
	if p, ok := s.(aggregate.Private); !ok || p.NoiseMultiplier() != 1.5 {
		t.Error("does not say how much noise")
	}
	if err := aggregate.Require(s, aggregate.Session{}); !errors.Is(err, aggregate.ErrSession) || !errors.Is(err, aggregate.ErrSecret) {
		t.Errorf("session without a secret: %v", err)
	}
	if err := aggregate.Require(s, aggregate.Session{Secret: true}); err != nil {
		t.Errorf("session with a secret: %v", err)
	}
	r := privateRound(t, model.F32, 3)
	r.Secret = r.Secret[:15]
	if _, err := aggregate.PlanRound(t.Context(), s, r); !errors.Is(err, aggregate.ErrSecret) {
		t.Errorf("short secret: %v", err)
	}
	r = privateRound(t, model.F32, 3)
	r.Inputs = model.Digest{}
	if _, err := aggregate.PlanRound(t.Context(), s, r); !errors.Is(err, aggregate.ErrSource) {
		t.Errorf("no name: %v", err)
	}
}

// TestAccountant compares ε with what Google's dp-accounting 0.6.0 makes of the same Gaussian mechanisms (RdpAccountant and PLDAccountant of
// n times GaussianDpEvent(z)), with the exact one (Balle and Wang, 2018), of which all are upper bounds, and with Bun and Steinke's formula,
// which is above.
func TestAccountant(t *testing.T) {
	phi := func(x float64) float64 { return 0.5 * math.Erfc(-x/math.Sqrt2) }
	for _, c := range []struct {
		multiplier float64
		versions   int
		delta      float64
		rdp        float64 // orders 1 + 10^(i/100), -200 ≤ i < 600
		pld        float64 // value_discretization_interval 1e-4
	}{
		{1, 1, 1e-5, 4.728530, 4.377178},
		{1, 100, 1e-5, 96.037002, 91.817290},
		{4, 10, 1e-6, 4.010285, 3.747218},
		{0.5, 3, 1e-9, 27.298857, 26.198236},
		{30, 1, 1e-5, 0.114469, 0.102740},
	} {
		var a aggregate.Accountant
		for range c.versions {
			a.Publish(c.multiplier, 1)
		}
		a.Publish(c.multiplier, 0) // without the combiner
		mu := math.Sqrt(float64(c.versions)) / c.multiplier
		if rho := mu * mu / 2; math.Abs(a.Rho()-rho) > 1e-9*rho {
			t.Errorf("%+v: rho %v, want %v", c, a.Rho(), rho)
		}
		lo, hi := 0.0, 1e4
		for range 200 {
			e := (lo + hi) / 2
			if phi(mu/2-e/mu)-math.Exp(e)*phi(-mu/2-e/mu) > c.delta {
				lo = e
			} else {
				hi = e
			}
		}
		if math.Abs(lo-c.pld) > 2e-4*lo {
			t.Errorf("%+v: the test has ε %v", c, lo)
		}
		if e := a.Epsilon(c.delta); math.Abs(e-c.rdp) > 2e-5*e {
			t.Errorf("%+v: ε %v", c, e)
		}
		simple := a.Rho() + 2*math.Sqrt(a.Rho()*math.Log(1/c.delta))
		if e := a.Epsilon(c.delta); e < lo || e > simple || e > 1.15*lo+0.02 {
			t.Errorf("%+v: ε %v, exact %v, simple bound %v", c, e, lo, simple)
		}
	}
	var a, b aggregate.Accountant
	if a.Epsilon(1e-5) != 0 {
		t.Error("nothing published, and yet")
	}
	a.Publish(2, 2)
	b.Publish(1, 1)
	if a != b {
		t.Error("two updates of one combiner are twice as sensitive")
	}
	a.Publish(0, 1)
	if !math.IsInf(a.Epsilon(1e-5), 1) {
		t.Error("a model without noise leaves some privacy")
	}
}
