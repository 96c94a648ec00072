package aggregate_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// Each strategy written down again, on whole models in float64.

func refDistance(a, b []float64) (sum float64) {
	for i := range a {
		sum += (a[i] - b[i]) * (a[i] - b[i])
	}
	return sum
}

func refKrum(models [][]float64, f int) []int {
	n := len(models)
	scores, order := make([]float64, n), make([]int, n)
	for i := range models {
		var ds []float64
		for j := range models {
			if i != j {
				ds = append(ds, refDistance(models[i], models[j]))
			}
		}
		slices.Sort(ds)
		for _, d := range ds[:max(1, n-f-2)] {
			scores[i] += d
		}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		if scores[a] < scores[b] {
			return -1
		}
		return 1
	})
	return order
}

func refMean(models [][]float64, kept []int, weight func(int) float64) []float64 {
	out := make([]float64, len(models[0]))
	var total float64
	for _, k := range kept {
		total += weight(k)
		for i := range out {
			out[i] += weight(k) * models[k][i]
		}
	}
	for i := range out {
		out[i] /= total
	}
	return out
}

func refEach(models [][]float64, f func(sorted []float64) float64) []float64 {
	out := make([]float64, len(models[0]))
	for i := range out {
		var xs []float64
		for _, m := range models {
			xs = append(xs, m[i])
		}
		slices.Sort(xs)
		out[i] = f(xs)
	}
	return out
}

func refMedian(xs []float64) float64 { return (xs[(len(xs)-1)/2] + xs[len(xs)/2]) / 2 }

func mean(xs []float64) float64 {
	var sum float64
	for _, x := range xs {
		sum += x
	}
	return sum / float64(len(xs))
}

func one(int) float64 { return 1 }

func refBulyan(models [][]float64, f int) []float64 {
	models = slices.Clone(models)
	theta := len(models) - 2*f
	var chosen [][]float64
	for range theta {
		best := refKrum(models, f)[0]
		chosen = append(chosen, models[best])
		models = slices.Delete(models, best, best+1)
	}
	return refEach(chosen, func(xs []float64) float64 {
		m := refMedian(xs)
		slices.SortStableFunc(xs, func(a, b float64) int {
			if math.Abs(a-m) < math.Abs(b-m) {
				return -1
			}
			return 1
		})
		return mean(xs[:theta-2*f])
	})
}

func refGeoMedian(models [][]float64, iterations int) []float64 {
	var all []int
	for i := range models {
		all = append(all, i)
	}
	z := refMean(models, all, one)
	for range iterations {
		beta := make([]float64, len(models))
		for i, m := range models {
			beta[i] = 1 / max(1e-6, math.Sqrt(refDistance(m, z)))
		}
		z = refMean(models, all, func(i int) float64 { return beta[i] })
	}
	return z
}

type robust struct {
	name   string
	params []string
	want   func(models [][]float64, weights []int64) []float64
}

func robusts() []robust {
	return []robust{
		{"fedmedian", nil, func(ms [][]float64, _ []int64) []float64 { return refEach(ms, refMedian) }},
		{"fedtrimmedavg", nil, func(ms [][]float64, _ []int64) []float64 {
			k := len(ms) / 5
			return refEach(ms, func(xs []float64) float64 { return mean(xs[k : len(xs)-k]) })
		}},
		{"fedtrimmedavg", []string{"beta", "0.49"}, func(ms [][]float64, _ []int64) []float64 {
			k := 49 * len(ms) / 100
			return refEach(ms, func(xs []float64) float64 { return mean(xs[k : len(xs)-k]) })
		}},
		{"krum", []string{"num_malicious_clients", "2"}, func(ms [][]float64, _ []int64) []float64 { return ms[refKrum(ms, 2)[0]] }},
		{"krum", []string{"num_clients_to_keep", "3", "weighting", "examples"}, func(ms [][]float64, ws []int64) []float64 {
			return refMean(ms, refKrum(ms, 0)[:3], func(i int) float64 { return float64(ws[i]) })
		}},
		{"multikrum", []string{"num_malicious_clients", "2"}, func(ms [][]float64, _ []int64) []float64 {
			return refMean(ms, refKrum(ms, 2)[:len(ms)-4], one)
		}},
		{"bulyan", []string{"num_malicious_clients", "1"}, func(ms [][]float64, _ []int64) []float64 { return refBulyan(ms, 1) }},
		{"geomedian", nil, func(ms [][]float64, _ []int64) []float64 { return refGeoMedian(ms, 8) }},
		{"geomedian", []string{"iterations", "3"}, func(ms [][]float64, _ []int64) []float64 { return refGeoMedian(ms, 3) }},
	}
}

// contest is a round of n updates by as many combiners, some from an older base, and what they stand for.
func contest(t testing.TB, rnd *rand.Rand, n, elements int) (r aggregate.Round, models [][]float64, weights []int64) {
	t.Helper()
	l := mustLayout(t, model.Tensor{Name: "w", DType: model.F32, Shape: []int64{int64(elements)}})
	random := func(scale float64) []byte {
		xs := make([]float32, elements)
		for i := range xs {
			xs[i] = float32(scale * rnd.NormFloat64())
		}
		return f32File(l, xs...)
	}
	prev, old := random(1), random(1)
	r = aggregate.Round{Spec: mustSpec(t, l, nil), Number: 5, Prev: stored(prev), Base: func(model.Digest) (io.ReaderAt, error) { return reader(old), nil }}
	p, o := values(t, l, prev, "w"), values(t, l, old, "w")
	for k := range n {
		x := random(math.Exp(rnd.NormFloat64()))
		u := aggregate.Update{Weight: 1 + rnd.Int64N(100), Base: r.Prev.Digest, BaseRound: 4, Name: fmt.Sprint(k), Source: reader(x)}
		m := values(t, l, x, "w")
		if rnd.IntN(3) == 0 {
			u.Base, u.BaseRound = model.Sum(old), 3
			for i := range m {
				m[i] = float64(float32(p[i] + (m[i] - o[i])))
			}
		}
		r.Updates, models, weights = append(r.Updates, u), append(models, m), append(weights, u.Weight)
	}
	return r, models, weights
}

// TestRobust compares every strategy with its reference: one float32 apart at most, as both add up in float64; the geometric median's weights are
// fixed-point numbers, of 36 bits, and its result may be 2^-34 of the largest value apart. The order of the updates
// and the ranges are nothing to the result, but for ties in Bulyan's choice from the last few.
func TestRobust(t *testing.T) {
	t.Parallel()
	for _, c := range robusts() {
		t.Run(c.name+strings.Join(c.params, " "), func(t *testing.T) {
			s := lookup(t, c.name, c.params...)
			rnd := rand.New(rand.NewPCG(1, 1))
			for _, n := range []int{7, 8, 11, 20} {
				const elements = 2500
				r, models, weights := contest(t, rnd, n, elements)
				out, _, events := run(t, s, r)
				if events != (aggregate.Events{}) {
					t.Errorf("%d updates: events %+v", n, events)
				}
				want := c.want(models, weights)
				for i, x := range values(t, r.Spec.Layout(), out, "w") {
					if ulps(x, want[i]) > 1 && (c.name != "geomedian" || math.Abs(x-want[i]) > 0x1p-30) {
						t.Fatalf("%d updates, element %d: %v, want %v", n, i, x, want[i])
					}
				}
				if c.name != "bulyan" {
					rnd.Shuffle(n, func(i, j int) { r.Updates[i], r.Updates[j] = r.Updates[j], r.Updates[i] })
				}
				a, b := rnd.Int64N(elements), rnd.Int64N(elements)
				if again, _, _ := run(t, s, r, min(a, b), max(a, b)); !bytes.Equal(again, out) {
					t.Fatalf("%d updates: another order, in ranges, gives another model", n)
				}
			}
		})
	}
}

// TestMany: any number of updates, those among them that are too many for a sorting network.
func TestMany(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(6, 4))
	for n := 1; n <= 130; n += 1 + n/20 {
		r, models, weights := contest(t, rnd, n, 150)
		for _, c := range robusts() {
			s := lookup(t, c.name, c.params...)
			slow := c.name == "bulyan" && n > 25 && n/5 != 70/5
			if n < s.Limits().Combiners || slow || c.name != "fedmedian" && c.name != "fedtrimmedavg" && c.name != "bulyan" {
				continue
			}
			out, _, _ := run(t, s, r, 77)
			want := c.want(models, weights)
			for i, x := range values(t, r.Spec.Layout(), out, "w") {
				if ulps(x, want[i]) > 1 {
					t.Fatalf("%s %v, %d updates, element %d: %v, want %v", c.name, c.params, n, i, x, want[i])
				}
			}
		}
	}
}

// TestRobustDTypes: every dtype, and what all candidates agree on is the result.
func TestRobustDTypes(t *testing.T) {
	t.Parallel()
	l := mixed(t)
	s := mustSpec(t, l, nil)
	rnd := rand.New(rand.NewPCG(5, 6))
	prev := stored(randomFile(l, rnd))
	same := randomFile(l, rnd)
	r := aggregate.Round{Spec: s, Number: 1, Prev: prev}
	for k := range 7 {
		f := same
		if k >= 5 {
			f = randomFile(l, rnd)
		}
		r.Updates = append(r.Updates, aggregate.Update{Weight: 1, Base: prev.Digest, Name: fmt.Sprint(k), Source: reader(f)})
	}
	positive(l, same)
	summed, _, _ := run(t, fedAvg(t), aggregate.Round{Spec: s, Prev: prev, Updates: r.Updates[:1]}) // tiny values are truncated
	for _, c := range robusts() {
		out, _, _ := run(t, lookup(t, c.name, c.params...), r, 32768, 33333)
		for i, tensor := range l.Tensors() {
			at := int64(len(l.Header())) + tensor.Offset
			got, want := out[at:][:tensor.Bytes()], same[at:][:tensor.Bytes()]
			if c.name == "krum" {
				want = summed[at:][:tensor.Bytes()]
			}
			if err := s.Check(i, 0, got); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			exact := c.name != "geomedian" && (c.name != "krum" || len(c.params) == 2) && (c.name != "fedtrimmedavg" || c.params != nil) && c.name != "multikrum"
			// The float64 mean of equal values may be off in the last bit.
			if exact && tensor.DType != model.F64 && !bytes.Equal(got, want) {
				t.Errorf("%s: %s differs from what five of seven say", c.name, tensor.Name)
			}
		}
	}
}

// positive clears the sign of zeros in float tensors.
func positive(l *model.Layout, file []byte) {
	for _, t := range l.Tensors() {
		p := file[int64(len(l.Header()))+t.Offset:][:t.Bytes()]
		for n := t.DType.Size(); t.DType.Float() && len(p) > 0; p = p[n:] {
			if p[n-1] == 0x80 && bytes.Count(p[:n-1], []byte{0}) == int(n-1) {
				p[n-1] = 0
			}
		}
	}
}

// TestIntegerOrder: means of integers at the ends of their range.
func TestIntegerOrder(t *testing.T) {
	l := mustLayout(t, model.Tensor{Name: "i", DType: model.I8, Shape: []int64{4}}, model.Tensor{Name: "u", DType: model.U64, Shape: []int64{2}})
	f := func(u0, u1 uint64, i ...int8) io.ReaderAt {
		b := bytes.Clone(l.Header())
		for _, x := range []uint64{u0, u1} {
			for k := range 8 {
				b = append(b, byte(x>>(8*k)))
			}
		}
		for _, x := range i {
			b = append(b, byte(x))
		}
		return reader(b)
	}
	const most = math.MaxUint64
	r := aggregate.Round{Spec: mustSpec(t, l, nil), Updates: []aggregate.Update{
		{Weight: 1, Name: "a", Source: f(most, most, -128, -1, 3, -3)},
		{Weight: 1, Name: "b", Source: f(most-1, 0, 127, 0, 2, -2)},
	}}
	out, _, _ := run(t, lookup(t, "fedmedian"), r)
	want, _ := io.ReadAll(io.NewSectionReader(f(most-1, 1<<63, 0, 0, 2, -2), 0, l.Size()))
	if !bytes.Equal(out, want) {
		t.Errorf("got  %x\nwant %x", out[len(l.Header()):], want[len(l.Header()):])
	}
}

// TestOneVoice: a combiner's further updates do not outvote the others.
func TestOneVoice(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 8))
	r, _, _ := contest(t, rnd, 5, 100)
	for i := range r.Updates {
		r.Updates[i].Base, r.Updates[i].BaseRound = r.Prev.Digest, 4
	}
	s := lookup(t, "fedmedian")
	want, _, _ := run(t, s, r)
	old := r.Updates[4]
	old.BaseRound, old.Source = 3, r.Updates[0].Source
	r.Updates = append(r.Updates, old, old, old, old, old)
	if got, _, _ := run(t, s, r); !bytes.Equal(got, want) {
		t.Error("older updates of one combiner count")
	}
	r.Updates[9].BaseRound = 4 // the last of the latest
	r.Updates[9].Source = r.Updates[4].Source
	r.Updates[4].Source = r.Updates[0].Source
	if got, _, _ := run(t, s, r); !bytes.Equal(got, want) {
		t.Error("not the last of the updates from the latest base counts")
	}
}

// TestTooFew: a session is refused, and a round keeps the model, where f malicious updates could decide.
func TestTooFew(t *testing.T) {
	rnd := rand.New(rand.NewPCG(8, 9))
	for _, c := range []struct {
		name   string
		params []string
		needs  int
	}{
		{"krum", []string{"num_malicious_clients", "2"}, 7},
		{"krum", nil, 3},
		{"krum", []string{"num_clients_to_keep", "12"}, 12},
		{"krum", []string{"num_malicious_clients", "2", "num_clients_to_keep", "12"}, 14}, // 13 would keep one of the two
		{"multikrum", []string{"num_malicious_clients", "1", "num_clients_to_keep", "2"}, 5},
		{"bulyan", []string{"num_malicious_clients", "1"}, 7},
		{"bulyan", []string{"num_malicious_clients", "3"}, 15},
		{"fedmedian", nil, 1},
		{"fedtrimmedavg", nil, 1},
		{"geomedian", nil, 1},
		{"fedavg", nil, 1},
	} {
		s := lookup(t, c.name, c.params...)
		if n := s.Limits().Combiners; n != c.needs {
			t.Errorf("%s %v: needs %d combiners, want %d", c.name, c.params, n, c.needs)
		}
		for target, want := range map[int]error{0: nil, c.needs: nil, c.needs - 1: aggregate.ErrSession} {
			if target == 0 {
				want = nil
			}
			if err := aggregate.Require(s, aggregate.Session{TargetCombiners: target}); !errors.Is(err, want) {
				t.Errorf("%s %v, target %d: %v", c.name, c.params, target, err)
			}
		}
		r, _, _ := contest(t, rnd, c.needs, 50)
		if out, _, e := run(t, s, r); e.Kept != "" || model.Sum(out) == r.Prev.Digest {
			t.Errorf("%s %v: %d updates: %+v", c.name, c.params, c.needs, e)
		}
		r.Updates = r.Updates[1:]
		out, _, e := run(t, s, r, 20)
		if e.Kept == "" || model.Sum(out) != r.Prev.Digest {
			t.Errorf("%s %v: %d updates: %+v", c.name, c.params, c.needs-1, e)
		}
		if c.needs > 1 && !strings.Contains(e.Kept, fmt.Sprintf("%d combiners, the strategy needs %d", c.needs-1, c.needs)) {
			t.Errorf("%s %v: %s", c.name, c.params, e.Kept)
		}
	}
}
