package codec_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/codec"
	"github.com/fedmesh/fedmesh/model/internal/modeltest"
)

// FuzzIngest: what is ingested without a layout is ingested with the one found, to the same file, and so is what
// is emitted from it, in both formats.
func FuzzIngest(f *testing.F) {
	files, err := filepath.Glob("../testdata/*.[sn]*")
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
		l, file, err := ingest(t, bytes.NewReader(in), codec.Options{MaxBytes: 1 << 20})
		if err != nil {
			return
		}
		elements := int64(0)
		count := func(_ int, x model.Tensor, _ int64, p []byte) error {
			elements += int64(len(p)) / x.DType.Size()
			return nil
		}
		_, again, err := ingest(t, bytes.NewReader(in), codec.Options{Layout: l, Check: count})
		if err != nil || !bytes.Equal(file, again) || elements != l.Elements() {
			t.Fatalf("with a layout: %v, equal %v, %d of %d elements", err, bytes.Equal(file, again), elements, l.Elements())
		}
		for _, f := range []codec.Format{codec.Safetensors, codec.NPZ} {
			var out bytes.Buffer
			if err := codec.Emit(&out, f, l, &modeltest.Mem{B: file}); err != nil {
				t.Fatal(err)
			}
			if _, again, err = ingest(t, &out, codec.Options{Layout: l}); err != nil || !bytes.Equal(file, again) {
				t.Fatalf("%s: %v, equal %v", f, err, bytes.Equal(file, again))
			}
		}
	})
}
