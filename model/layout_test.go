package model_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/model"
)

func TestLayoutIsWhatTheReferenceWrites(t *testing.T) {
	files, err := filepath.Glob("testdata/*.safetensors")
	if err != nil || len(files) < 5 {
		t.Fatalf("golden files: %v, %v", files, err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, "metadata.safetensors") {
			continue
		}
		want, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var header map[string]struct {
			DType string
			Shape []int64
		}
		n := int(want[0]) + int(want[1])<<8
		if err := json.Unmarshal(want[8:8+n], &header); err != nil {
			t.Fatal(err)
		}
		var ts []model.Tensor
		for name, h := range header { // in any order
			dt, err := model.ParseDType(h.DType)
			if err != nil {
				t.Fatal(err)
			}
			ts = append(ts, model.Tensor{Name: name, DType: dt, Shape: h.Shape})
		}
		l, err := model.NewLayout(ts)
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Header(); string(got) != string(want[:8+n]) {
			t.Errorf("%s:\n got %s\nwant %s", f, got[8:], want[8:8+n])
		}
		if l.Size() != int64(len(want)) {
			t.Errorf("%s: size %d, the file has %d", f, l.Size(), len(want))
		}
	}
}

func genTensors(rt *rapid.T) []model.Tensor {
	name := rapid.StringMatching(`[a-z"é/]{1,8}`).Filter(func(s string) bool { return model.CheckName(s) == nil })
	names := rapid.SliceOfNDistinct(name, 0, 12, rapid.ID[string]).Draw(rt, "names")
	ts := make([]model.Tensor, len(names))
	for i, n := range names {
		ts[i] = model.Tensor{
			Name:  n,
			DType: model.DType(rapid.IntRange(int(model.Bool), int(model.U64)).Draw(rt, "dtype")),
			Shape: rapid.SliceOfN(rapid.Int64Range(0, 5), 0, 4).Draw(rt, "shape"),
		}
	}
	return ts
}

func TestLayoutDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		ts := genTensors(rt)
		a, err := model.NewLayout(ts)
		if err != nil {
			rt.Fatal(err)
		}
		b, err := model.NewLayout(rapid.Permutation(ts).Draw(rt, "order"))
		if err != nil {
			rt.Fatal(err)
		}
		if string(a.Header()) != string(b.Header()) || a.Diff(b) != nil {
			rt.Fatalf("%s\n%s", a.Header(), b.Header())
		}
		if len(a.Header())%8 != 0 || a.Size() != int64(len(a.Header()))+a.DataSize() {
			rt.Fatalf("header of %d bytes, size %d", len(a.Header()), a.Size())
		}
		var at, elements int64
		for i, x := range a.Tensors() {
			if k, ok := a.Lookup(x.Name); !ok || k != i || x.Offset != at {
				rt.Fatalf("tensor %d: %+v, lookup %d", i, x, k)
			}
			at += x.Bytes()
			elements += x.Elements()
		}
		if at != a.DataSize() || elements != a.Elements() {
			rt.Fatalf("%d bytes, %d elements; layout has %d, %d", at, elements, a.DataSize(), a.Elements())
		}
	})
}

func TestLayoutKeepsNoReference(t *testing.T) {
	ts := []model.Tensor{{Name: "a", DType: model.F32, Shape: []int64{2}}}
	l, err := model.NewLayout(ts)
	if err != nil {
		t.Fatal(err)
	}
	ts[0].Shape[0], ts[0].Name = 9, "b"
	if got := l.Tensors()[0]; got.Name != "a" || got.Shape[0] != 2 {
		t.Fatalf("changed from outside: %+v", got)
	}
}

func TestDiffNamesTheFirstDifference(t *testing.T) {
	layout := func(ts ...model.Tensor) *model.Layout {
		l, err := model.NewLayout(ts)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	x := func(name string, dt model.DType, shape ...int64) model.Tensor {
		return model.Tensor{Name: name, DType: dt, Shape: shape}
	}
	base := layout(x("b", model.F32, 2, 3), x("c", model.F64))
	for _, c := range []struct {
		other *model.Layout
		want  string
	}{
		{layout(x("b", model.F32, 2, 3), x("c", model.F64)), ""},
		{layout(x("b", model.F32, 3, 2), x("c", model.F32)), `"b" is F32 [3,2], expected F32 [2,3]`},
		{layout(x("b", model.F32, 2, 3), x("c", model.F32)), `"c" is F32 [], expected F64 []`},
		{layout(x("c", model.F64)), `"b" is missing`},
		{layout(x("a", model.U8), x("b", model.F32, 2, 3), x("c", model.F64)), `"a" is not expected`},
	} {
		err := base.Diff(c.other)
		if c.want == "" {
			if err != nil {
				t.Errorf("equal layouts: %v", err)
			}
			continue
		}
		if !errors.Is(err, model.ErrLayout) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestNewLayoutRefuses(t *testing.T) {
	for _, c := range []struct {
		ts   []model.Tensor
		is   error
		want string
	}{
		{[]model.Tensor{{Name: "a", DType: model.F32}, {Name: "a", DType: model.F32}}, model.ErrFormat, `two tensors are named "a"`},
		{[]model.Tensor{{Name: "a", DType: model.F32}, {Name: "a", DType: model.F64}}, model.ErrFormat, `two tensors are named "a"`},
		{[]model.Tensor{{Name: "a"}}, model.ErrFormat, "invalid dtype"},
		{[]model.Tensor{{Name: "a", DType: 99}}, model.ErrFormat, "invalid dtype"},
		{[]model.Tensor{{Name: "a", DType: model.F32, Shape: []int64{1, -1}}}, model.ErrFormat, "dimension 1 is negative"},
		{[]model.Tensor{{Name: "a", DType: model.F32, Shape: make([]int64, 33)}}, model.ErrFormat, "33 dimensions"},
		{[]model.Tensor{{Name: "a", DType: model.U8, Shape: []int64{1 << 32, 1 << 32}}}, model.ErrTooLarge, "overflows"},
		{[]model.Tensor{{Name: "a", DType: model.F64, Shape: []int64{math.MaxInt64}}}, model.ErrTooLarge, "overflows"},
		{[]model.Tensor{{Name: "a", DType: model.U8, Shape: []int64{0, 1 << 62, 1 << 62}}}, model.ErrTooLarge, "overflows"},
		{[]model.Tensor{{Name: "a", DType: model.U8, Shape: []int64{1 << 60}}, {Name: "b", DType: model.U8, Shape: []int64{1}}}, model.ErrTooLarge, `"b"`},
		{make([]model.Tensor, model.MaxTensors+1), model.ErrTooLarge, "at most 65536"},
		{manyLongNames(), model.ErrTooLarge, "header of"},
	} {
		l, err := model.NewLayout(c.ts)
		if l != nil || !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %v with %q", err, c.is, c.want)
		}
	}
}

func manyLongNames() []model.Tensor {
	ts := make([]model.Tensor, 40000)
	for i := range ts {
		ts[i] = model.Tensor{Name: fmt.Sprintf("%0*d", model.MaxNameBytes, i), DType: model.F32}
	}
	return ts
}

func TestCheckName(t *testing.T) {
	for _, ok := range []string{"0", "a.b/c", "..a", "a..b", "é 😀", `q"`, "a\u2028", strings.Repeat("x", model.MaxNameBytes)} {
		if err := model.CheckName(ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for bad, want := range map[string]string{
		"": "empty", "/etc/passwd": "absolute", "..": `".."`, "../x": `".."`, "a/../b": `".."`, "a/..": `".."`,
		`a\b`: `'\\'`, "a\x00": `'\x00'`, "a\nb": `'\n'`, "\x7f": `'\x7f'`, "a\xff": "UTF-8", "__metadata__": "reserved",
		strings.Repeat("x", model.MaxNameBytes+1): "513 bytes",
	} {
		err := model.CheckName(bad)
		if !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %q", bad, err, want)
		}
	}
}
