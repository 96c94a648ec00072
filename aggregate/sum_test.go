package aggregate_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// TestMeanOracle compares the mean of random float32, float64 and int64 values of all magnitudes with math/big.
func TestMeanOracle(t *testing.T) {
	t.Parallel()
	const n = 3000
	l := mustLayout(t,
		model.Tensor{Name: "f32", DType: model.F32, Shape: []int64{n}},
		model.Tensor{Name: "f64", DType: model.F64, Shape: []int64{n}},
		model.Tensor{Name: "i64", DType: model.I64, Shape: []int64{n}})
	s := mustSpec(t, l, nil)
	at := func(file []byte, name string, i int) []byte {
		k, _ := l.Lookup(name)
		x := l.Tensors()[k]
		off := int(int64(len(l.Header()))+x.Offset) + i*int(x.DType.Size())
		return file[off : off+int(x.DType.Size())]
	}
	r := rand.New(rand.NewPCG(3, 3))
	for range 8 {
		files := make([][]byte, 1+r.IntN(6))
		terms := make([]aggregate.Term, len(files))
		total, left := int64(0), int64(aggregate.MaxTotalWeight)
		for j := range files {
			files[j] = randomFile(l, r)
			for i := range n { // half of them like a model's: sums that cancel, ties
				if i%2 == 0 {
					copy(at(files[j], "f32", i), le32(float32(r.IntN(9)-4)*0.25))
					copy(at(files[j], "f64", i), le64(r.NormFloat64()*math.Ldexp(1, -r.IntN(20))))
				}
			}
			w := 1 + r.Int64N(1+(left-10)>>r.IntN(30))
			if j > 0 && r.IntN(3) == 0 {
				w = terms[j-1].Weight
			}
			if w >= left {
				w = 1
			}
			left -= w
			total += w
			terms[j] = aggregate.Term{Source: reader(files[j]), Weight: w}
		}
		var out bytes.Buffer
		out.Write(l.Header())
		if _, err := s.Mean(t.Context(), nil, 0, s.Elements(), terms, nil, total, &out); err != nil {
			t.Fatal(err)
		}
		got := out.Bytes()
		for i := range n {
			z32, z64, zi := new(big.Int), new(big.Int), new(big.Int)
			for j, f := range files {
				w := terms[j].Weight
				z32.Add(z32, exact(float64(f32s(at(f, "f32", i))[0]), w, 0))
				z64.Add(z64, exact(f64(at(f, "f64", i)), w, 0))
				zi.Add(zi, new(big.Int).Mul(big.NewInt(i64(at(f, "i64", i))), big.NewInt(w)))
			}
			if want, _ := ratio(z32, total, 0).Float32(); !bytes.Equal(at(got, "f32", i), le32(want+0)) {
				t.Fatalf("float32 %d of %d models: got %v, want %v", i, len(files), f32s(at(got, "f32", i)), want)
			}
			if want, _ := ratio(z64, total, 0).Float64(); !bytes.Equal(at(got, "f64", i), le64(want+0)) {
				t.Fatalf("float64 %d of %d models: got %v, want %v", i, len(files), f64(at(got, "f64", i)), want)
			}
			want, rest := new(big.Int).DivMod(zi, big.NewInt(total), new(big.Int))
			if c := rest.Lsh(rest, 1).Cmp(big.NewInt(total)); c > 0 || c == 0 && want.Bit(0) == 1 {
				want.Add(want, big.NewInt(1))
			}
			if i64(at(got, "i64", i)) != want.Int64() {
				t.Fatalf("int64 %d of %d models: got %v, want %v", i, len(files), i64(at(got, "i64", i)), want)
			}
		}
	}
}

// meanOf returns the canonical file of the mean, computed in one piece.
func meanOf(t interface{ Fatal(...any) }, s *aggregate.Spec, terms []aggregate.Term, total int64) []byte {
	out := bytes.NewBuffer(bytes.Clone(s.Layout().Header()))
	if _, err := s.Mean(context.Background(), nil, 0, s.Elements(), terms, nil, total, out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestMeanAnyRangeOrderGrouping: every dtype; any division into ranges, any order of the terms, any of them replaced by partial
// sums, give the same file.
func TestMeanAnyRangeOrderGrouping(t *testing.T) {
	t.Parallel()
	l := mixed(t)
	s := mustSpec(t, l, nil)
	r := rand.New(rand.NewPCG(4, 4))
	var terms []aggregate.Term
	var total int64
	for j := range 5 {
		w := int64(1 + j*j*j*1_000_003)
		total += w
		terms = append(terms, aggregate.Term{Source: ascending(randomFile(l, r)), Weight: w})
	}
	want := meanOf(t, s, terms, total)
	var ws aggregate.Workspace
	rapid.Check(t, func(t *rapid.T) {
		cuts := append(rapid.SliceOfN(rapid.Int64Range(0, s.Elements()), 0, 3).Draw(t, "cuts"), 0, s.Elements())
		if rapid.Bool().Draw(t, "split") {
			cuts = []int64{0, s.Elements()}
			for _, to := range s.Split(3) {
				cuts = append(cuts, to)
			}
		}
		slices.Sort(cuts)
		out := bytes.NewBuffer(bytes.Clone(l.Header()))
		for i := range len(cuts) - 1 {
			from, to := cuts[i], cuts[i+1]
			order := rapid.Permutation(terms).Draw(t, "order")
			k := rapid.IntRange(0, len(order)).Draw(t, "terms of its own")
			own, rest := order[:k], order[k:]
			var sums []io.Reader
			for len(rest) > 0 {
				g := rapid.IntRange(1, len(rest)).Draw(t, "group")
				var b bytes.Buffer
				if err := s.Partial(context.Background(), &ws, from, to, rest[:g], &b); err != nil {
					t.Fatal(err)
				}
				sums = append(sums, &b)
				rest = rest[g:]
			}
			if off, _ := s.Section(from, to); off != int64(out.Len()) {
				t.Fatalf("range [%d, %d) is at %d, want %d", from, to, off, out.Len())
			}
			if _, err := s.Mean(context.Background(), &ws, from, to, own, sums, total, out); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(out.Bytes(), want) {
			t.Fatal("the file differs")
		}
	})
}

// ascending is a source that fails when it is read backwards within a range.
type ascendingReader struct {
	file []byte
	next int64
}

func ascending(file []byte) io.ReaderAt { return &ascendingReader{file: file} }

func (a *ascendingReader) ReadAt(p []byte, off int64) (int, error) {
	if len(p) > 8*aggregate.Block {
		return 0, errors.New("read more than a block")
	}
	if off < a.next && a.next-off < 100 {
		return 0, errors.New("read backwards")
	}
	a.next = off + int64(len(p))
	n := copy(p, a.file[off:])
	if a.next == int64(len(a.file)) {
		return n, io.EOF // allowed with a full read
	}
	return n, nil
}

func TestSumRefuses(t *testing.T) {
	l := mustLayout(t, model.Tensor{Name: "w", DType: model.F32, Shape: []int64{2}})
	s := mustSpec(t, l, nil)
	file := reader(f32File(l, 1, 2))
	const most = aggregate.MaxTotalWeight
	boom := errors.New("boom")
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	raw := []byte{0, 1, 1, 2} // a header, a byte for each element
	beyond := []byte{124, 1, 2, 1}
	mean := func(ctx context.Context, from, to int64, total int64, sums []byte, terms ...aggregate.Term) error {
		var rs []io.Reader
		if sums != nil {
			rs = append(rs, bytes.NewReader(sums))
		}
		_, err := s.Mean(ctx, nil, from, to, terms, rs, total, io.Discard)
		return err
	}
	partial := func(terms ...aggregate.Term) error {
		return s.Partial(t.Context(), nil, 0, 2, terms, io.Discard)
	}
	ctx := t.Context()
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"fine", mean(ctx, 0, 2, most, raw, aggregate.Term{Source: file, Weight: most}, aggregate.Term{Source: file, Weight: most}, aggregate.Term{Source: file, Weight: -most}), nil},
		{"nothing", mean(ctx, 2, 2, 1, []byte{}, aggregate.Term{}), nil},
		{"weight 0 needs no source", mean(ctx, 0, 2, 1, nil, aggregate.Term{}), nil},
		{"no source", mean(ctx, 0, 2, 1, nil, aggregate.Term{Weight: 1}), aggregate.ErrSource},
		{"before", mean(ctx, -1, 2, 1, nil), aggregate.ErrSpec},
		{"behind", mean(ctx, 0, 3, 1, nil), aggregate.ErrSpec},
		{"backwards", mean(ctx, 2, 1, 1, nil), aggregate.ErrSpec},
		{"total 0", mean(ctx, 0, 2, 0, nil), aggregate.ErrWeight},
		{"total negative", mean(ctx, 0, 2, -1, nil), aggregate.ErrWeight},
		{"total too large", mean(ctx, 0, 2, most+1, nil), aggregate.ErrWeight},
		{"weight too large", mean(ctx, 0, 2, 1, nil, aggregate.Term{Source: file, Weight: most + 1}), aggregate.ErrWeight},
		{"weight too small", mean(ctx, 0, 2, 1, nil, aggregate.Term{Source: file, Weight: math.MinInt64}), aggregate.ErrWeight},
		{"weights too large", mean(ctx, 0, 2, 1, nil, aggregate.Term{Source: file, Weight: most}, aggregate.Term{Source: file, Weight: -most}, aggregate.Term{Source: file, Weight: most}, aggregate.Term{Source: file, Weight: 1}), aggregate.ErrWeight},
		{"partial weights too large", partial(aggregate.Term{Source: file, Weight: most}, aggregate.Term{Source: file, Weight: -1}), aggregate.ErrWeight},
		{"short source", mean(ctx, 0, 2, 1, nil, aggregate.Term{Source: reader(f32File(l, 1)), Weight: 1}), io.ErrUnexpectedEOF},
		{"failing source", mean(ctx, 0, 2, 1, nil, aggregate.Term{Source: failing{boom}, Weight: 1}), boom},
		{"short partial sum", mean(ctx, 0, 2, 1, raw[:3]), io.ErrUnexpectedEOF},
		{"no elements", mean(ctx, 0, 2, 1, raw[:2]), io.ErrUnexpectedEOF},
		{"partial sum without end", mean(ctx, 0, 2, 1, append(bytes.Clone(raw), 99)), nil},
		{"empty partial sum", mean(ctx, 0, 2, 1, []byte{}), io.ErrUnexpectedEOF},
		{"damaged partial sum", mean(ctx, 0, 2, 1, beyond), aggregate.ErrPartial},
		{"canceled", mean(canceled, 0, 2, 1, nil), context.Canceled},
		{"write", s.Partial(ctx, nil, 0, 2, nil, failing{boom}), boom},
		{"short write", s.Partial(ctx, nil, 0, 2, nil, failing{}), io.ErrShortWrite},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, c.err, c.want)
		}
		if c.err != nil && !strings.Contains(c.err.Error(), "aggregate: ") {
			t.Errorf("%s: %v does not say who", c.name, c.err)
		}
	}
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }
func (f failing) Write([]byte) (int, error)         { return 0, f.err }

// TestMeanEvents: results beyond the range become the largest in it, with the place of the first.
func TestMeanEvents(t *testing.T) {
	l := mustLayout(t, model.Tensor{Name: "big", DType: model.F32, Shape: []int64{3}}, model.Tensor{Name: "small", DType: model.F32, Shape: []int64{2}})
	s := mustSpec(t, l, []int8{0, 1})
	top := math.Nextafter32(1<<24, 0)
	up, down := reader(f32File(l, 1, top, -top, 3, top)), reader(f32File(l, 1, -top, top, 3, 0))
	out := bytes.NewBuffer(nil)
	ev, err := s.Mean(t.Context(), nil, 0, 5, []aggregate.Term{{Source: up, Weight: 2}, {Source: down, Weight: -1}}, nil, 1, out)
	if err != nil {
		t.Fatal(err)
	}
	if want := (aggregate.Events{Saturated: 2, Tensor: "big", Index: 1}); ev != want {
		t.Errorf("got %+v, want %+v", ev, want)
	}
	if want := f32File(l, 1, top, -top, 3, 2*top); !bytes.Equal(out.Bytes(), want[len(l.Header()):]) {
		t.Errorf("got %v", f32s(out.Bytes()))
	}
}
