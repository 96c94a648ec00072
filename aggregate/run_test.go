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

// file is a canonical file that is written at places, once each.
type file struct {
	bytes   []byte
	written []byte // 1 for each byte that was
}

func newFile(l *model.Layout) *file {
	f := &file{bytes: make([]byte, l.Size()), written: make([]byte, l.Size())}
	copy(f.bytes, l.Header())
	return f
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	was := f.written[off:][:len(p)]
	if i := bytes.IndexByte(was, 1); i >= 0 {
		return i, errors.New("written twice")
	}
	copy(was, bytes.Repeat([]byte{1}, len(p)))
	return copy(f.bytes[off:], p), nil
}

// run computes a round in ranges that end at the cuts, which ascend, and checks that each byte was written once. The state is nil for
// strategies without.
func run(t testing.TB, s aggregate.Strategy, r aggregate.Round, cuts ...int64) (out, state []byte, events aggregate.Events) {
	t.Helper()
	plan, err := aggregate.PlanRound(t.Context(), s, r)
	if err != nil {
		t.Fatal(err)
	}
	l := r.Spec.Layout()
	files := []*file{newFile(l)}
	layouts := []*model.Layout{l}
	var o aggregate.Output
	if stateful, ok := s.(aggregate.Stateful); ok {
		sl, err := stateful.StateLayout(r.Spec)
		if err != nil {
			t.Fatal(err)
		}
		files, layouts = append(files, newFile(sl)), append(layouts, sl)
		o.State = files[1]
	}
	from := int64(0)
	for _, to := range append(cuts, r.Spec.Elements()) {
		offset, _ := r.Spec.Section(from, to)
		o.Model = io.NewOffsetWriter(files[0], offset)
		e, err := plan.Range(t.Context(), nil, from, to, nil, o)
		if err != nil {
			t.Fatal(err)
		}
		events.Merge(e)
		from = to
	}
	for i, f := range files {
		header := len(layouts[i].Header())
		if at := bytes.IndexByte(f.written[header:], 0); at >= 0 {
			t.Fatalf("file %d: byte %d of %d was not written", i, header+at, len(f.bytes))
		}
	}
	out = files[0].bytes
	if len(files) > 1 {
		state = files[1].bytes
	}
	return out, state, events
}

// values returns the elements of a tensor of float32, float64 or int64.
func values(t testing.TB, l *model.Layout, file []byte, name string) []float64 {
	t.Helper()
	i, ok := l.Lookup(name)
	if !ok {
		t.Fatalf("no tensor %q", name)
	}
	tensor := l.Tensors()[i]
	p := file[int64(len(l.Header()))+tensor.Offset:][:tensor.Bytes()]
	var xs []float64
	for len(p) > 0 {
		switch tensor.DType {
		case model.F64:
			xs = append(xs, f64(p))
		case model.I64:
			xs = append(xs, float64(i64(p)))
		case model.F32:
			xs = append(xs, float64(f32s(p[:4])[0]))
		default:
			t.Fatalf("dtype %s", tensor.DType)
		}
		p = p[tensor.DType.Size():]
	}
	return xs
}

// ulps returns how many float32 values x and y are apart.
func ulps(x, y float64) int64 {
	order := func(x float64) int64 {
		b := int64(math.Float32bits(float32(x)))
		if b&(1<<31) != 0 {
			b = 1<<31 - b
		}
		return b
	}
	d := order(x) - order(y)
	return max(d, -d)
}

// trained is a round of a layout with one float32 tensor "w": updates from a few bases, of any weight.
type trained struct {
	round  aggregate.Round
	prev   []float64
	models [][]float64 // of the updates
	bases  [][]float64
}

func newTrained(t testing.TB, r *rand.Rand, n int, number uint64, prev []byte) trained {
	t.Helper()
	l := mustLayout(t, model.Tensor{Name: "w", DType: model.F32, Shape: []int64{int64(n)}})
	random := func() []byte {
		xs := make([]float32, n)
		for i := range xs {
			xs[i] = float32(r.NormFloat64())
		}
		return f32File(l, xs...)
	}
	if prev == nil {
		prev = random()
	}
	old := [][]byte{prev, random(), random()}
	files := map[model.Digest][]byte{}
	for _, f := range old {
		files[model.Sum(f)] = f
	}
	tr := trained{prev: values(t, l, prev, "w"), round: aggregate.Round{
		Spec: mustSpec(t, l, nil), Number: number, Inputs: model.Sum([]byte{byte(number)}), Prev: stored(prev),
		Base: func(d model.Digest) (io.ReaderAt, error) { return reader(files[d]), nil },
	}}
	for range 1 + r.IntN(6) {
		k := r.IntN(3)
		x := random()
		tr.round.Updates = append(tr.round.Updates, aggregate.Update{
			Weight: 1 + r.Int64N(1000), Base: model.Sum(old[k]), BaseRound: max(number, uint64(k)+1) - uint64(k) - 1, Source: reader(x),
		})
		tr.models = append(tr.models, values(t, l, x, "w"))
		tr.bases = append(tr.bases, values(t, l, old[k], "w"))
	}
	return tr
}

// delta returns the exact mean step of element i, rounded to float64; weight gives the weight of an update.
func (tr *trained) delta(i int, weight func(aggregate.Update) int64) float64 {
	sum, total := new(big.Rat), int64(0)
	for k, u := range tr.round.Updates {
		w := weight(u)
		d := new(big.Rat).SetFloat64(tr.models[k][i])
		d.Sub(d, new(big.Rat).SetFloat64(tr.bases[k][i]))
		sum.Add(sum, d.Mul(d, big.NewRat(w, 1)))
		total += w
	}
	x, _ := sum.Quo(sum, big.NewRat(total, 1)).Float64()
	return x
}
