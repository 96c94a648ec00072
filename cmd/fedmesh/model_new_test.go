package main

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/fedmesh/fedmesh/model"
)

func TestModelNew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.safetensors")
	shell{}.ok(t, "model", "new", path, "w=3:-1.5", "a.b=2x2:7", "s=:0.25", "none=0:1")
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	word := map[string][]byte{"w": f32bytes(-1.5), "a.b": f32bytes(7), "s": f32bytes(0.25), "none": nil}
	layout, err := model.NewLayout([]model.Tensor{
		{Name: "w", DType: model.F32, Shape: []int64{3}},
		{Name: "a.b", DType: model.F32, Shape: []int64{2, 2}},
		{Name: "s", DType: model.F32},
		{Name: "none", DType: model.F32, Shape: []int64{0}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var data []byte
	for _, tensor := range layout.Tensors() {
		data = append(data, bytes.Repeat(word[tensor.Name], int(tensor.Elements()))...)
	}
	if want := append(bytes.Clone(layout.Header()), data...); !bytes.Equal(got, want) {
		t.Errorf("wrote\n%q, want\n%q", got, want)
	}
	// The same in the other format.
	npz := filepath.Join(dir, "m.npz")
	shell{}.ok(t, "model", "new", npz, "none=0:1", "s=:0.25", "w=3:-1.5", "a.b=2x2:7")
	shell{}.ok(t, "model", "diff", path, npz)

	for _, bad := range []string{"w", "=3:1", "w=3", "w=3:x", "w=ax2:1", "w=-1:1", "w=3:NaN1", "w=9999999999x9999999999:1"} {
		checkError(t, shell{}.run(t, "model", "new", path, bad), exitUsage, bad[:1])
	}
	checkError(t, shell{}.run(t, "model", "new", path, "w=1:1", "w=1:1"), exitUsage, "w")
	checkError(t, shell{}.run(t, "model", "new", filepath.Join(dir, "m.bin"), "w=1:1"), exitUsage, ".npz")
}

func f32bytes(v float32) []byte { return binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)) }
