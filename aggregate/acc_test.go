package aggregate_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// piece is a tensor's bytes with a weight.
type piece struct {
	p []byte
	w int64
}

// drawPieces draws a tensor of any dtype with up to 50 elements, and up to 12 weighted values of it whose weights
// stay in range.
func drawPieces(t *rapid.T) (*aggregate.Spec, []piece, int) {
	dtype := rapid.SampledFrom([]model.DType{
		model.F32, model.F32, model.F64, model.F16, model.BF16, model.I64, model.U64, model.I32,
		model.U32, model.I16, model.U16, model.I8, model.U8, model.Bool,
	}).Draw(t, "dtype")
	n := rapid.IntRange(0, 50).Draw(t, "elements")
	l, err := model.NewLayout([]model.Tensor{{Name: "w", DType: dtype, Shape: []int64{int64(n)}}})
	if err != nil {
		t.Fatal(err)
	}
	spec, err := aggregate.NewSpec(l, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	pieces := make([]piece, rapid.IntRange(1, 12).Draw(t, "pieces"))
	left := int64(aggregate.MaxTotalWeight)
	for i := range pieces {
		w := rapid.Int64Range(0, left).Draw(t, "weight")
		left -= w
		pieces[i] = piece{randomFile(l, r)[len(l.Header()):], w}
	}
	return spec, pieces, n
}

func sumOf(s *aggregate.Spec, n int, pieces []piece) *aggregate.Acc {
	a := new(aggregate.Acc)
	a.Reset(n)
	for _, x := range pieces {
		a.AddWeighted(s, 0, x.p, x.w)
	}
	return a
}

// TestAccAnyOrderAnyGrouping: a sum has one value.
func TestAccAnyOrderAnyGrouping(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, pieces, n := drawPieces(t)
		want := sumOf(s, n, pieces).Append(nil)
		shuffled := rapid.Permutation(pieces).Draw(t, "order")
		total := new(aggregate.Acc)
		total.Reset(n)
		for len(shuffled) > 0 {
			k := rapid.IntRange(1, len(shuffled)).Draw(t, "group")
			group := sumOf(s, n, shuffled[:k])
			shuffled = shuffled[k:]
			if rapid.Bool().Draw(t, "encoded") {
				if err := total.MergeEncoded(group.Append(nil)); err != nil {
					t.Fatal(err)
				}
			} else {
				total.Merge(group)
			}
		}
		if !bytes.Equal(total.Append(nil), want) {
			t.Fatal("another order or grouping gave another sum")
		}
	})
}

// TestAccUndo: what was added can be taken out, by subtracting and by the opposite weight.
func TestAccUndo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, pieces, n := drawPieces(t)
		k := rapid.IntRange(0, len(pieces)).Draw(t, "kept")
		want := sumOf(s, n, pieces[:k]).Append(nil)
		a := sumOf(s, n, pieces)
		a.Sub(sumOf(s, n, pieces[k:]))
		if !bytes.Equal(a.Append(nil), want) {
			t.Fatal("subtracting does not undo adding")
		}
		a = sumOf(s, n, pieces)
		for _, x := range pieces[k:] {
			a.AddWeighted(s, 0, x.p, -x.w)
		}
		if !bytes.Equal(a.Append(nil), want) {
			t.Fatal("the opposite weight does not undo a weight: truncation is not symmetric")
		}
	})
}

// TestAccOneModel: the mean of one model, whatever its weight and however often it is counted, is the model, if
// nothing of it is truncated.
func TestAccOneModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, pieces, n := drawPieces(t)
		dtype := s.Layout().Tensors()[0].DType
		if dtype == model.F32 || dtype == model.F64 || dtype == model.BF16 {
			t.Skip("may be truncated")
		}
		var total int64
		for i := range pieces {
			pieces[i].p = pieces[0].p
			total += pieces[i].w
		}
		if total == 0 {
			t.Skip("no weight")
		}
		want := slices.Clone(pieces[0].p)
		if dtype == model.F16 {
			for i := 1; i < len(want); i += 2 {
				if want[i] == 0x80 && want[i-1] == 0 {
					want[i] = 0 // -0 becomes +0
				}
			}
		}
		dst := make([]byte, len(want))
		if ev := sumOf(s, n, pieces).Finalise(s, 0, 0, total, dst); ev != (aggregate.Events{}) {
			t.Fatalf("%+v", ev)
		}
		if !bytes.Equal(dst, want) {
			t.Fatalf("%s: got % x, want % x", dtype, dst, want)
		}
	})
}

func TestAccReset(t *testing.T) {
	s := mustSpec(t, mustLayout(t, model.Tensor{Name: "w", DType: model.U8, Shape: []int64{4}}), nil)
	var a aggregate.Acc
	a.Reset(4)
	a.AddWeighted(s, 0, []byte{1, 2, 3, 4}, 5)
	for _, n := range []int{3, 4, 2, 9, 0} {
		a.Reset(n)
		if a.Len() != n || !bytes.Equal(a.Append(nil), make([]byte, min(n, 1)*2)) {
			t.Fatalf("after Reset(%d): %d elements, % x", n, a.Len(), a.Append(nil))
		}
	}
}

func TestAccSaturates(t *testing.T) {
	s := mustSpec(t, mustLayout(t, model.Tensor{Name: "count", DType: model.I8, Shape: []int64{9}}), nil)
	var a aggregate.Acc
	a.Reset(3)
	a.AddWeighted(s, 0, []byte{5, 100, 0x80}, 2)
	dst := make([]byte, 3)
	got := a.Finalise(s, 0, 6, 1, dst)
	if want := (aggregate.Events{Saturated: 2, Tensor: "count", Index: 7}); got != want || !bytes.Equal(dst, []byte{10, 127, 0x80}) {
		t.Errorf("got %+v, %v", got, dst)
	}
	first := aggregate.Events{}
	first.Merge(got)
	first.Merge(aggregate.Events{Saturated: 3, Tensor: "later", Index: 1})
	if want := (aggregate.Events{Saturated: 5, Tensor: "count", Index: 7}); first != want {
		t.Errorf("merged: %+v", first)
	}
}
