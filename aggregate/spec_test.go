package aggregate_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

func TestNewSpecScales(t *testing.T) {
	for _, c := range []struct {
		dtype model.DType
		scale int8
		ok    bool
	}{
		{model.F32, 0, true},
		{model.F32, 104, true},
		{model.F32, 105, false},
		{model.F32, -1, false},
		{model.BF16, 104, true},
		{model.BF16, 105, false},
		{model.F64, 127, true},
		{model.F16, 0, true},
		{model.F16, 1, false},
		{model.I64, 1, false},
		{model.Bool, 0, true},
	} {
		_, err := aggregate.NewSpec(mustLayout(t, model.Tensor{Name: "w", DType: c.dtype}), []int8{c.scale})
		if c.ok && err != nil || !c.ok && !errors.Is(err, aggregate.ErrSpec) {
			t.Errorf("%s, scale %d: %v", c.dtype, c.scale, err)
		}
		if err != nil && !strings.Contains(err.Error(), `"w"`) {
			t.Errorf("%v does not name the tensor", err)
		}
	}
	if _, err := aggregate.NewSpec(mixed(t), []int8{0}); !errors.Is(err, aggregate.ErrSpec) {
		t.Errorf("one scale for many tensors: %v", err)
	}
}

// TestBlocks: the spans of any range are its elements, once and in order, within tensors and blocks.
func TestBlocks(t *testing.T) {
	l := mixed(t)
	s := mustSpec(t, l, nil)
	n := l.Elements()
	if n != s.Elements() {
		t.Fatalf("%d elements, want %d", s.Elements(), n)
	}
	first := make([]int64, len(l.Tensors())+1)
	for i, x := range l.Tensors() {
		first[i+1] = first[i] + x.Elements()
	}
	for _, r := range [][2]int64{{0, n}, {0, 0}, {n, n}, {1, 2}, {32767, 32769}, {100, n - 100}, {32768, 65536}, {-5, n + 5}} {
		at := max(r[0], 0)
		off, _ := s.Section(at, at)
		for span := range s.Blocks(r[0], r[1]) {
			x := l.Tensors()[span.Tensor]
			if span.Count < 1 || first[span.Tensor]+span.First != at || span.First+span.Count > x.Elements() {
				t.Fatalf("range %v: %+v at element %d", r, span, at)
			}
			if at/aggregate.Block != (at+span.Count-1)/aggregate.Block {
				t.Fatalf("range %v: %+v is in two blocks", r, span)
			}
			if want := int64(len(l.Header())) + x.Offset + span.First*x.DType.Size(); span.Offset != want || span.Offset != off {
				t.Fatalf("range %v: %+v begins at %d, the one before ended at %d", r, span, want, off)
			}
			at += span.Count
			off += span.Count * x.DType.Size()
		}
		if at != min(r[1], n) && r[0] < r[1] {
			t.Fatalf("range %v ends at %d", r, at)
		}
	}
	for span := range s.Blocks(0, n) { // stopping early is allowed
		if span.First != 0 {
			t.Fatal("the first span is not the first")
		}
		break
	}
	if off, size := s.Section(0, n); off != int64(len(l.Header())) || size != l.DataSize() {
		t.Fatalf("all elements are at %d, %d bytes", off, size)
	}
}

func TestSplit(t *testing.T) {
	for _, elements := range []int64{0, 1, 32768, 32769, 1_000_000} {
		s := mustSpec(t, mustLayout(t, model.Tensor{Name: "w", DType: model.F32, Shape: []int64{elements}}), nil)
		for n := -1; n < 40; n++ {
			var at, smallest, largest, count int64
			smallest = elements
			for from, to := range s.Split(n) {
				if from != at || to < from {
					t.Fatalf("%d elements in %d: range [%d, %d) after %d", elements, n, from, to, at)
				}
				if from%aggregate.Block != 0 {
					t.Fatalf("%d elements in %d: %d is within a block", elements, n, from)
				}
				at = to
				count++
				smallest, largest = min(smallest, to-from), max(largest, to-from)
			}
			if at != elements || count < 1 || count > int64(max(n, 1)) || largest-smallest > 2*aggregate.Block {
				t.Fatalf("%d elements in %d: %d ranges of %d to %d, up to %d", elements, n, count, smallest, largest, at)
			}
		}
	}
}
