package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/model"
)

func TestModelInspectAndConvert(t *testing.T) {
	dir := t.TempDir()
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	a := filepath.Join(dir, "a.safetensors")
	b, c := filepath.Join(dir, "b.npz"), filepath.Join(dir, "c.safetensors")
	bytesA := canonical(t, make([]byte, 24+6),
		model.Tensor{Name: "layer.w", DType: model.F32, Shape: []int64{2, 3}}, model.Tensor{Name: "mask", DType: model.Bool, Shape: []int64{6}})
	write(t, a, bytesA)

	v := fromJSON[[]inspected](t, shell{}.ok(t, "model", "inspect", a, "--json"))[0]
	if v.Format != "safetensors" || !v.Canonical || v.Digest.String() != digestOf(bytesA) || v.Elements != 12 || len(v.Tensors) != 2 || v.Tensors[0].DType != "F32" {
		t.Errorf("%+v", v)
	}
	out := shell{}.ok(t, "model", "inspect", a)
	for _, want := range []string{digestOf(bytesA), "layer.w  F32    [2,3]  6         24", "mask     BOOL   [6]    6         6"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	shell{}.ok(t, "model", "convert", a, b)
	shell{}.ok(t, "model", "convert", b, c)
	if got, err := os.ReadFile(c); err != nil || !bytes.Equal(got, bytesA) {
		t.Errorf("there and back: %v", err)
	}
	v = fromJSON[[]inspected](t, shell{}.ok(t, "model", "inspect", b, "--json"))[0]
	if v.Format != "npz" || v.Canonical || v.Digest.String() != digestOf(bytesA) {
		t.Errorf("%+v", v)
	}
	// Onto itself, as one does to make a file canonical.
	shell{}.ok(t, "model", "convert", c, c)
	if got, _ := os.ReadFile(c); !bytes.Equal(got, bytesA) {
		t.Error("onto itself")
	}
	if out := (shell{}).ok(t, "model", "diff", a, b); !strings.HasPrefix(out, "equal") {
		t.Errorf("%q", out)
	}

	bad := filepath.Join(dir, "bad.npz")
	write(t, bad, []byte("not a model at all"))
	for _, args := range [][]string{{"inspect", bad}, {"convert", bad, filepath.Join(dir, "d.npz")}, {"diff", a, bad}} {
		checkError(t, shell{}.run(t, append([]string{"model"}, args...)...), exitFailure, "bad.npz", "savez")
	}
	write(t, bad, bytesA[:len(bytesA)-1])
	checkError(t, shell{}.run(t, "model", "inspect", bad), exitFailure, "bad.npz")
	write(t, bad, nil)
	checkError(t, shell{}.run(t, "model", "inspect", bad), exitFailure, "bad.npz")
	checkFolder(t, dir, "a.safetensors", "b.npz", "bad.npz", "c.safetensors")
	checkFolder(t, tmp)
}

func TestModelDiff(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a.safetensors"), filepath.Join(dir, "b.safetensors")
	write(t, a, canonical(t, append(floats(1, 2, 3), 1, 2),
		model.Tensor{Name: "w", DType: model.F32, Shape: []int64{3}}, model.Tensor{Name: "only", DType: model.U8, Shape: []int64{1}}, model.Tensor{Name: "kind", DType: model.U8, Shape: []int64{1}}))
	write(t, b, canonical(t, append(floats(1, 2.5, 2.75), 1, 2),
		model.Tensor{Name: "w", DType: model.F32, Shape: []int64{3}}, model.Tensor{Name: "other", DType: model.U8, Shape: []int64{1}}, model.Tensor{Name: "kind", DType: model.I8, Shape: []int64{1}}))
	r := shell{}.run(t, "model", "diff", a, b)
	want := `TENSOR  DIFFERS             FIRST  MAX DIFFERENCE
kind    U8 [1] and I8 [1]
only    only in the first
other   only in the second
w       2 of 3              1      0.5
`
	if r.code != exitFailure || r.err != "" || r.out != want {
		t.Errorf("%+v, want\n%s", r, want)
	}
	r = shell{}.run(t, "model", "diff", a, b, "--json")
	d := fromJSON[compared](t, r.out)
	if r.code != exitFailure || d.Equal || len(d.Tensors) != 4 || d.Tensors[3].MaxDiff != "0.5" || d.Tensors[3].First != 1 {
		t.Errorf("%d %+v", r.code, d)
	}
}

func floats(values ...float32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// TestMeasure compares pairs of elements of each dtype at its edges.
func TestMeasure(t *testing.T) {
	le := func(n int, v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v)[:n] }
	for _, c := range []struct {
		dtype model.DType
		a, b  uint64
		want  string
	}{
		{model.Bool, 0, 1, "1"},
		{model.U8, 255, 0, "255"},
		{model.I8, 0x80, 0x7f, "255"},
		{model.I16, 0xffff, 1, "2"},
		{model.U16, 0xffff, 1, "65534"},
		{model.I32, 0x80000000, 0, "2147483648"},
		{model.I64, 1 << 63, 1<<63 - 1, "18446744073709551615"},
		{model.I64, math.MaxUint64, 0, "1"},
		{model.U64, math.MaxUint64, 0, "18446744073709551615"},
		{model.F16, 0x3c00, 0xbc00, "2"},
		{model.F16, 0x0001, 0, "5.960464477539063e-08"},
		{model.F16, 0x7bff, 0, "65504"},
		{model.F16, 0x7c00, 0, "+Inf"},
		{model.F16, 0x7e00, 0, "NaN"},
		{model.BF16, 0x3f80, 0x4000, "1"},
		{model.F32, uint64(math.Float32bits(1.5)), uint64(math.Float32bits(-1)), "2.5"},
		{model.F64, math.Float64bits(1e300), math.Float64bits(0), "1e+300"},
		{model.F64, math.Float64bits(math.Inf(1)), math.Float64bits(math.Inf(-1)), "+Inf"},
	} {
		m := newMeasure(c.dtype)
		n := int(c.dtype.Size())
		m.add(le(n, c.a), le(n, c.b))
		if got := m.max(); got != c.want {
			t.Errorf("%v %#x %#x: %s, want %s", c.dtype, c.a, c.b, got, c.want)
		}
	}
}
