package safetensors_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/internal/modeltest"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

// FuzzDecode: whatever decodes has a canonical file, which decodes to itself.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("../testdata/*.safetensors")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		lim := model.Limits{Bytes: 1 << 20, Tensors: 1000}
		var sink modeltest.Collect
		if safetensors.Decode(bytes.NewReader(in), lim, &sink) != nil {
			return
		}
		l, file, err := sink.Canonical()
		if err != nil {
			t.Fatalf("what was decoded has no canonical file: %v", err)
		}
		var again modeltest.Collect
		if err := safetensors.Decode(bytes.NewReader(file), model.Limits{}, &again); err != nil {
			t.Fatalf("the canonical file does not decode: %v", err)
		}
		if _, second, err := again.Canonical(); err != nil || !bytes.Equal(file, second) {
			t.Fatalf("not stable: %v", err)
		}
		if back, err := safetensors.ReadLayout(bytes.NewReader(file), int64(len(file))); err != nil || l.Diff(back) != nil {
			t.Fatalf("layout of the canonical file: %v", err)
		}
	})
}
