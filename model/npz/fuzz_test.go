package npz_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/internal/modeltest"
	"github.com/fedmesh/fedmesh/model/npz"
)

// FuzzDecode: whatever decodes has a canonical file, from which an archive can be made that decodes
// to the same.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("../testdata/*.npz")
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
		sink := modeltest.Collect{BF16: true}
		if npz.Decode(bytes.NewReader(in), lim, &sink) != nil {
			return
		}
		l, file, err := sink.Canonical()
		if err != nil {
			t.Fatalf("what was decoded has no canonical file: %v", err)
		}
		var out bytes.Buffer
		data := io.NewSectionReader(bytes.NewReader(file), int64(len(l.Header())), l.DataSize())
		if err := npz.Encode(&out, l, data); err != nil || npz.Size(l) != int64(out.Len()) {
			t.Fatalf("%d bytes written, size %d: %v", out.Len(), npz.Size(l), err)
		}
		again := modeltest.Collect{BF16: true}
		if err := npz.Decode(bytes.NewReader(out.Bytes()), model.Limits{}, &again); err != nil {
			t.Fatalf("the archive made of it does not decode: %v", err)
		}
		if _, second, err := again.Canonical(); err != nil || !bytes.Equal(file, second) {
			t.Fatalf("not stable: %v", err)
		}
	})
}
