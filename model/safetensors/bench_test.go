package safetensors_test

import (
	"bytes"
	"io"
	"testing"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/internal/modeltest"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

type discard struct{}

func (discard) Tensor(string, model.DType, []int64) (io.Writer, error) { return io.Discard, nil }

func BenchmarkDecode(b *testing.B) {
	l, err := model.NewLayout([]model.Tensor{{Name: "w", DType: model.F32, Shape: []int64{16 << 20}}})
	if err != nil {
		b.Fatal(err)
	}
	file := modeltest.File(l)
	b.SetBytes(l.Size())
	for b.Loop() {
		if err := safetensors.Decode(bytes.NewReader(file), model.Limits{}, discard{}); err != nil {
			b.Fatal(err)
		}
	}
}
