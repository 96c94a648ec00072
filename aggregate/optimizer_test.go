package aggregate_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// reference is an optimizer written as in the papers, in plain float64.
type reference struct {
	name    string
	params  []string
	initial float64
	step    func(t float64, x, d, m, v float64) (float64, float64, float64)
}

func references() []reference {
	adam := func(eta, b1, b2, tau float64, correct bool) func(t, x, d, m, v float64) (float64, float64, float64) {
		return func(t, x, d, m, v float64) (float64, float64, float64) {
			m, v = b1*m+(1-b1)*d, b2*v+(1-b2)*d*d
			if correct {
				return x + eta*math.Sqrt(1-math.Pow(b2, t+1))/(1-math.Pow(b1, t+1))*m/(math.Sqrt(v)+tau), m, v
			}
			return x + eta*m/(math.Sqrt(v)+tau), m, v
		}
	}
	return []reference{
		{"fedavgm", []string{"server_learning_rate", "0.7", "server_momentum", "0.9"}, 0, func(_, x, d, m, _ float64) (float64, float64, float64) {
			m = 0.9*m + d
			return x + 0.7*m, m, 0
		}},
		{"fedavgm", []string{"server_learning_rate", "0.5"}, 0, func(_, x, d, _, _ float64) (float64, float64, float64) {
			return x + 0.5*d, d, 0
		}},
		{"fedadam", nil, 0, adam(0.1, 0.9, 0.99, 1e-3, true)},
		{
			"fedadam",
			[]string{"eta", "0.02", "beta_1", "0.8", "beta_2", "0.999", "tau", "1e-4", "initial_v", "1e-8", "bias_correction", "false"},
			1e-8,
			adam(0.02, 0.8, 0.999, 1e-4, false),
		},
		{"fedyogi", nil, 0, func(_, x, d, m, v float64) (float64, float64, float64) {
			m = 0.9*m + 0.1*d
			if s := v - d*d; s > 0 {
				v -= (1 - 0.99) * d * d
			} else if s < 0 {
				v += (1 - 0.99) * d * d
			}
			return x + 0.01*m/(math.Sqrt(v)+1e-3), m, v
		}},
		{"fedadagrad", []string{"beta_1", "0.5"}, 0, func(_, x, d, m, v float64) (float64, float64, float64) {
			m, v = 0.5*m+0.5*d, v+d*d
			return x + 0.1*m/(math.Sqrt(v)+1e-3), m, v
		}},
	}
}

// TestOptimizers runs rounds with updates from several bases, cut into ranges anywhere, and compares model and state with the
// reference. The model may be one float32 off: the reference keeps moments in float64 but reads them back rounded as ours.
func TestOptimizers(t *testing.T) {
	t.Parallel()
	const n = 3000
	for _, ref := range references() {
		t.Run(ref.name+strings.Join(ref.params, " "), func(t *testing.T) {
			s := lookup(t, ref.name, ref.params...)
			rnd := rand.New(rand.NewPCG(3, 3))
			var prev, state []byte
			for number := uint64(1); number <= 5; number++ {
				tr := newTrained(t, rnd, n, number, prev)
				if state != nil {
					tr.round.State = stored(state)
				}
				a, b := rnd.Int64N(n), rnd.Int64N(n)
				out, next, events := run(t, s, tr.round, min(a, b), max(a, b))
				if again, same, _ := run(t, s, tr.round); !bytes.Equal(out, again) || !bytes.Equal(next, same) {
					t.Fatal("ranges differ from the whole")
				}
				if events != (aggregate.Events{}) {
					t.Errorf("events: %+v", events)
				}
				sl := stateLayout(t, s, tr.round.Spec)
				moments := func(name string, file []byte, none []float64) []float64 {
					if _, ok := sl.Lookup(name); !ok || file == nil {
						return none
					}
					return values(t, sl, file, name)
				}
				zero := make([]float64, n)
				first := slices.Repeat([]float64{ref.initial}, n)
				m0, v0 := moments("m/w", state, zero), moments("v/w", state, first)
				m1, v1 := moments("m/w", next, nil), moments("v/w", next, nil)
				if steps := values(t, sl, next, "step")[0]; steps != float64(number) {
					t.Errorf("step %v, want %d", steps, number)
				}
				got := values(t, tr.round.Spec.Layout(), out, "w")
				for i := 0; i < n; i += 7 {
					d := tr.delta(i, func(u aggregate.Update) int64 { return u.Weight })
					x, m, v := ref.step(float64(number), tr.prev[i], d, m0[i], v0[i])
					if ulps(got[i], x) > 1 || ulps(m1[i], m) > 1 || v1 != nil && ulps(v1[i], v) > 1 {
						t.Fatalf("round %d, element %d: %v, want %v; moments %v and %v", number, i, got[i], x, m, v)
					}
				}
				prev, state = out, next
			}
		})
	}
}

func stateLayout(t testing.TB, s aggregate.Strategy, spec *aggregate.Spec) *model.Layout {
	t.Helper()
	stateful, ok := s.(aggregate.Stateful)
	if !ok {
		t.Fatalf("%s has no state", s.Info().Name)
	}
	l, err := stateful.StateLayout(spec)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestFedAvgMPlain: without momentum and at rate 1 it is fedavg, to the bit and without state.
func TestFedAvgMPlain(t *testing.T) {
	tr := newTrained(t, rand.New(rand.NewPCG(1, 2)), 500, 3, nil)
	s := lookup(t, "fedavgm")
	if _, ok := s.(aggregate.Stateful); ok {
		t.Error("has state")
	}
	a, _, _ := run(t, s, tr.round)
	b, _, _ := run(t, fedAvg(t), tr.round)
	if !bytes.Equal(a, b) {
		t.Error("differs from fedavg")
	}
}

// TestOptimizerDTypes: every dtype, integers take the mean, results out of range are the nearest within and told of.
func TestOptimizerDTypes(t *testing.T) {
	t.Parallel()
	l := mixed(t)
	s := mustSpec(t, l, nil)
	rnd := rand.New(rand.NewPCG(9, 9))
	prev := randomFile(l, rnd)
	r := aggregate.Round{Spec: s, Number: 1, Prev: stored(prev)}
	for range 3 {
		r.Updates = append(r.Updates, aggregate.Update{Weight: 1 + rnd.Int64N(50), Base: r.Prev.Digest, Source: reader(randomFile(l, rnd))})
	}
	mean, _, _ := run(t, fedAvg(t), r)
	for _, name := range []string{"fedavgm", "fedadam", "fedyogi", "fedadagrad"} {
		params := []string{"eta", "1000000"}
		if name == "fedavgm" {
			params = []string{"server_learning_rate", "3"}
		}
		opt := lookup(t, name, params...)
		out, state, events := run(t, opt, r, 5, 32768, 40000)
		if events.Saturated == 0 || events.Tensor == "" {
			t.Errorf("%s: events %+v", name, events)
		}
		at := int64(len(l.Header()))
		for i, tensor := range l.Tensors() {
			p := out[at+tensor.Offset:][:tensor.Bytes()]
			if err := s.Check(i, 0, p); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if !tensor.DType.Float() && !bytes.Equal(p, mean[at+tensor.Offset:][:tensor.Bytes()]) {
				t.Errorf("%s: %s is not the mean", name, tensor.Name)
			}
		}
		sl := stateLayout(t, opt, s)
		for _, tensor := range sl.Tensors() {
			if tensor.DType != model.F32 && tensor.DType != model.F64 {
				continue
			}
			for i, x := range values(t, sl, state, tensor.Name) {
				if math.IsNaN(x) || math.IsInf(x, 0) {
					t.Fatalf("%s: %s[%d] is %v", name, tensor.Name, i, x)
				}
			}
		}
	}
}

// TestOptimizerScale: squares of what tensors with a large scale hold are beyond float32; their second moments are not cut to it.
func TestOptimizerScale(t *testing.T) {
	l := mustLayout(t, model.Tensor{Name: "w", DType: model.F32, Shape: []int64{1}})
	s := lookup(t, "fedadagrad", "eta", "1000000")
	const far = 0x1p80
	var state []byte
	x, want := float32(0), 0.0
	for round := range 3 {
		r := aggregate.Round{Spec: mustSpec(t, l, []int8{70}), Number: uint64(round) + 1, Prev: stored(f32File(l, x))}
		if state != nil {
			r.State = stored(state)
		}
		r.Updates = []aggregate.Update{{Weight: 1, Base: r.Prev.Digest, Source: reader(f32File(l, far))}}
		var out []byte
		out, state, _ = run(t, s, r)
		x = f32s(out[len(l.Header()):])[0]
		if want += 1e6 / math.Sqrt(float64(round)+1); math.Abs(float64(x)-want) > 1 {
			t.Errorf("round %d: %v, want %v", round+1, x, want)
		}
	}
}

// TestKept: a round that no model can be made of keeps model and state, and the count of steps.
func TestKept(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	first := newTrained(t, rnd, 100, 1, nil)
	s := lookup(t, "fedyogi")
	if _, err := s.Plan(t.Context(), aggregate.Round{Spec: first.round.Spec, Prev: first.round.Prev}); !errors.Is(err, aggregate.ErrRound) {
		t.Errorf("no updates: %v", err)
	}

	none := first.round
	none.Updates = nil
	out, state, events := run(t, s, none, 10, 10, 20)
	if !strings.Contains(events.Kept, "no updates") {
		t.Errorf("events %+v", events)
	}
	if model.Sum(out) != first.round.Prev.Digest {
		t.Error("the model is another")
	}
	// What was kept is as nothing: zeros.
	a, as, _ := run(t, s, first.round)
	first.round.State = stored(state)
	b, bs, _ := run(t, s, first.round)
	if !bytes.Equal(a, b) || !bytes.Equal(as, bs) {
		t.Error("a state that was kept before the first round counts")
	}

	next := newTrained(t, rnd, 100, 2, a)
	next.round.State, next.round.Updates = stored(as), nil
	if out, state, _ := run(t, s, next.round, 50); !bytes.Equal(out, a) || !bytes.Equal(state, as) {
		t.Error("model or state was not kept")
	}
}
