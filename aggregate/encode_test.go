package aggregate_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// TestEncoding pins the format, by hand.
func TestEncoding(t *testing.T) {
	l := mustLayout(t, model.Tensor{Name: "w", DType: model.I64, Shape: []int64{3}})
	s := mustSpec(t, l, nil)
	for _, c := range []struct {
		x    []int64
		w    int64
		want []byte
	}{
		{[]int64{0, 0, 0}, 1, []byte{0, 0}},
		{[]int64{1, 2, -128}, 1, []byte{0, 1, 1, 2, 0x80}},
		{[]int64{1, 2, 128}, 1, []byte{0, 2, 1, 0, 2, 0, 128, 0}},
		{[]int64{1, 2, -129}, 1, []byte{0, 2, 1, 0, 2, 0, 0x7f, 0xff}},
		{[]int64{4, 0, -512}, 3, []byte{2, 2, 3, 0, 0, 0, 0x80, 0xfe}},
		{[]int64{-1 << 40, 0, 0}, 1, []byte{40, 1, 0xff, 0, 0}},
		{[]int64{math.MinInt64, 0, math.MaxInt64}, 2, []byte{
			1, 8,
			0, 0, 0, 0, 0, 0, 0, 0x80,
			0, 0, 0, 0, 0, 0, 0, 0,
			0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
		}},
		{[]int64{math.MaxInt64, 0, 1}, 3, []byte{
			0, 9,
			0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1,
			0, 0, 0, 0, 0, 0, 0, 0, 0,
			3, 0, 0, 0, 0, 0, 0, 0, 0,
		}},
	} {
		var p []byte
		for _, x := range c.x {
			p = append(p, le64u(uint64(x))...)
		}
		var a aggregate.Acc
		a.Reset(3)
		a.AddWeighted(s, 0, p, c.w)
		if got := a.Append([]byte{7})[1:]; !bytes.Equal(got, c.want) {
			t.Errorf("%d × %v: got % x, want % x", c.w, c.x, got, c.want)
		}
		a.Reset(3)
		if err := a.MergeEncoded(c.want); err != nil || !bytes.Equal(a.Append(nil), c.want) {
			t.Errorf("% x: read as % x, %v", c.want, a.Append(nil), err)
		}
	}
}

func le64u(x uint64) (p []byte) {
	for ; len(p) < 8; x >>= 8 {
		p = append(p, byte(x))
	}
	return p
}

func TestMergeEncodedRefuses(t *testing.T) {
	for _, p := range [][]byte{
		nil,
		{0},
		{0, 1},
		{0, 1, 1},
		{0, 1, 1, 2, 3},          // bytes after it
		{0, 0, 0},                // the same for zeros
		{0, 1, 0, 0},             // zeros have no bytes
		{3, 0},                   // and no shift
		{0, 1, 2, 4},             // could be shifted
		{0, 2, 1, 0, 2, 0},       // could be shorter
		{0, 2, 1, 0, 0x7f, 0},    // just
		{0, 2, 1, 0, 0x80, 0xff}, // a negative one
		{124, 1, 2, 1},           // 2^125
		{124, 1, 0xfd, 1},        // less than -2^125
		{125, 1, 1, 1},
		append([]byte{0, 17}, bytes.Repeat([]byte{1}, 34)...),
		append([]byte{0, 16, 1}, append(make([]byte, 30), 0x20)...), // 2^125
		append([]byte{0, 255}, make([]byte, 510)...),
	} {
		var a aggregate.Acc
		a.Reset(2)
		if err := a.MergeEncoded(p); !errors.Is(err, aggregate.ErrPartial) {
			t.Errorf("% x: %v", p, err)
		}
	}
	var a aggregate.Acc
	a.Reset(2)
	for _, p := range [][]byte{{124, 1, 1, 0xfe}, {0, 2, 1, 0, 0x80, 0}, {0, 2, 1, 0, 0x7f, 0xff}} {
		if err := a.MergeEncoded(p); err != nil {
			t.Errorf("% x: %v", p, err)
		}
	}
}

// FuzzMergeEncoded: whatever arrives is refused, or is what would have been sent.
func FuzzMergeEncoded(f *testing.F) {
	f.Add([]byte{}, uint16(0))
	f.Add([]byte{0, 0}, uint16(2))
	f.Add([]byte{0, 1, 1, 2, 0x80}, uint16(3))
	f.Add([]byte{124, 1, 1, 0xfe}, uint16(2))
	f.Add([]byte{60, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9}, uint16(1))
	f.Add(append([]byte{0, 0, 3, 2}, 0xff, 0x7f), uint16(1025))
	f.Fuzz(func(t *testing.T, p []byte, n uint16) {
		var a aggregate.Acc
		a.Reset(int(n))
		if err := a.MergeEncoded(p); err != nil {
			if !errors.Is(err, aggregate.ErrPartial) {
				t.Fatal(err)
			}
			return
		}
		if got := a.Append(nil); !bytes.Equal(got, p) {
			t.Fatalf("% x came out as % x", p, got)
		}
		// Four times the largest sum there can be is the largest that 128 bits hold.
		b := new(aggregate.Acc)
		b.Reset(int(n))
		for range 3 {
			b.Merge(&a)
		}
		for range 3 {
			b.Sub(&a)
		}
		if !bytes.Equal(b.Append(nil), new(aggregate.Acc).Append(nil)) && n > 0 && slices.Max(b.Append(nil)) != 0 {
			t.Fatal("adding and subtracting left something")
		}
	})
}

// TestCutPartial: a part of a sum over all elements is the sum over the part.
func TestCutPartial(t *testing.T) {
	l := mustLayout(t,
		model.Tensor{Name: "w", DType: model.F32, Shape: []int64{2*aggregate.Block + 5000}},
		model.Tensor{Name: "h", DType: model.F16, Shape: []int64{70_001}},
		model.Tensor{Name: "z", DType: model.I64, Shape: []int64{3, 5}})
	s := mustSpec(t, l, nil)
	r := rand.New(rand.NewPCG(31, 31))
	terms := []aggregate.Term{{Source: reader(randomFile(l, r)), Weight: 77}, {Source: reader(randomFile(l, r)), Weight: 1 << 37}}
	partial := func(from, to int64) []byte {
		var b bytes.Buffer
		if err := s.Partial(t.Context(), nil, from, to, terms, &b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	whole := partial(0, s.Elements())
	var ws aggregate.Workspace
	if err := s.CheckPartial(&ws, whole); err != nil {
		t.Fatal(err)
	}
	borders := []int64{s.Elements()}
	for b := int64(0); b < s.Elements(); b += aggregate.Block {
		borders = append(borders, b)
	}
	for _, from := range borders {
		for _, to := range borders {
			got, err := s.CutPartial(whole, from, to)
			if from > to {
				if !errors.Is(err, aggregate.ErrSpec) {
					t.Errorf("[%d, %d): %v", from, to, err)
				}
				continue
			}
			if err != nil || !bytes.Equal(got, partial(from, to)) {
				t.Errorf("[%d, %d): not the sum over it, %v", from, to, err)
			}
		}
	}
	for _, r := range [][2]int64{{-1, 0}, {1, 2 * aggregate.Block}, {0, 1}, {0, s.Elements() + 1}} {
		if _, err := s.CutPartial(whole, r[0], r[1]); !errors.Is(err, aggregate.ErrSpec) {
			t.Errorf("%v: %v", r, err)
		}
	}
	// Cut anywhere, or with a byte more, it is damaged.
	for _, n := range []int{0, 1, 63, 64, 65, len(whole) / 2, len(whole) - 1} {
		if err := s.CheckPartial(nil, whole[:n]); !errors.Is(err, aggregate.ErrPartial) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		if _, err := s.CutPartial(whole[:n], 0, s.Elements()); !errors.Is(err, aggregate.ErrPartial) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	if err := s.CheckPartial(nil, append(bytes.Clone(whole), 0)); !errors.Is(err, aggregate.ErrPartial) {
		t.Errorf("a byte more: %v", err)
	}
	if err := s.CheckPartial(nil, bytes.Repeat([]byte{0xff}, len(whole))); !errors.Is(err, aggregate.ErrPartial) {
		t.Errorf("noise: %v", err)
	}
}

// TestEncodedSize: sums of models as people train them take about as many bytes as is estimated, and never more than 16 an element.
func TestEncodedSize(t *testing.T) {
	const n = 3 * aggregate.Block
	for _, c := range []struct {
		name  string
		dtype model.DType
		total int64
		value func(r *rand.Rand) float64
	}{
		{"normal, weights as of MNIST", model.F32, 60_000, func(r *rand.Rand) float64 { return r.NormFloat64() * 0.05 }},
		{"normal, small weights", model.F32, 8, func(r *rand.Rand) float64 { return r.NormFloat64() * 0.05 }},
		{"uniform, as layers are initialised", model.F32, 60_000, func(r *rand.Rand) float64 { return (r.Float64() - 0.5) / 14 }},
		{"half of them zero", model.F32, 60_000, func(r *rand.Rand) float64 { return max(0, r.NormFloat64()) }},
		{"bfloat16", model.BF16, 60_000, func(r *rand.Rand) float64 { return r.NormFloat64() * 0.05 }},
		{"large weights", model.F32, aggregate.MaxTotalWeight, func(r *rand.Rand) float64 { return r.NormFloat64() * 0.05 }},
	} {
		l := mustLayout(t, model.Tensor{Name: "w", DType: c.dtype, Shape: []int64{n}})
		s := mustSpec(t, l, nil)
		r := rand.New(rand.NewPCG(32, 32))
		var terms []aggregate.Term
		for j := range 4 {
			file := bytes.Clone(l.Header())
			for range n {
				b := math.Float32bits(float32(c.value(r)))
				if c.dtype == model.BF16 {
					file = append(file, byte(b>>16), byte(b>>24))
				} else {
					file = append(file, byte(b), byte(b>>8), byte(b>>16), byte(b>>24))
				}
			}
			terms = append(terms, aggregate.Term{Source: reader(file), Weight: c.total/4 - int64(j&^1)})
		}
		var b bytes.Buffer
		if err := s.Partial(t.Context(), nil, 0, n, terms, &b); err != nil {
			t.Fatal(err)
		}
		size, guess := float64(b.Len())/n, float64(s.EstimatePartial(0, n, c.total))/n
		t.Logf("%s, total weight %d: %.2f bytes an element, estimate %.2f", c.name, c.total, size, guess)
		if math.Abs(size-guess) > 1.1 {
			t.Errorf("%s: %.2f bytes an element, the estimate is %.2f", c.name, size, guess)
		}
	}
}

// TestEstimatePartial: parts add up, and no element takes more than 16 bytes.
func TestEstimatePartial(t *testing.T) {
	l := mixed(t)
	s := mustSpec(t, l, nil)
	rapid.Check(t, func(t *rapid.T) {
		total := rapid.Int64Range(1, aggregate.MaxTotalWeight).Draw(t, "total")
		from := aggregate.Block * rapid.Int64Range(0, s.Elements()/aggregate.Block).Draw(t, "from")
		whole := s.EstimatePartial(0, s.Elements(), total)
		if sum := s.EstimatePartial(0, from, total) + s.EstimatePartial(from, s.Elements(), total); sum != whole {
			t.Fatalf("parts take %d, the whole %d", sum, whole)
		}
		if whole > 16*s.Elements()+s.Elements()/512+2 {
			t.Fatalf("%d bytes for %d elements", whole, s.Elements())
		}
	})
}

// TestPartialReadsNothingBeyond: what follows an encoded sum stays in its reader.
func TestPartialReadsNothingBeyond(t *testing.T) {
	l := mustLayout(t, model.Tensor{Name: "w", DType: model.F32, Shape: []int64{aggregate.Block + 3000}})
	s := mustSpec(t, l, nil)
	var b bytes.Buffer
	if err := s.Partial(t.Context(), nil, 0, s.Elements(), []aggregate.Term{{Source: reader(randomFile(l, rand.New(rand.NewPCG(33, 33)))), Weight: 3}}, &b); err != nil {
		t.Fatal(err)
	}
	b.WriteString("after")
	if _, err := s.Mean(t.Context(), nil, 0, s.Elements(), nil, []io.Reader{&b}, 3, io.Discard); err != nil {
		t.Fatal(err)
	}
	if b.String() != "after" {
		t.Errorf("%d bytes are left", b.Len())
	}
}
