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

// The parts alone: what Ingest can at best be as fast as.
func BenchmarkParts(b *testing.B) {
	l := benchLayout(b)
	file := modeltest.File(l)
	b.Run("hash", func(b *testing.B) {
		b.SetBytes(l.Size())
		for b.Loop() {
			model.Sum(file)
		}
	})
	b.Run("copy", func(b *testing.B) {
		dst := make([]byte, len(file))
		b.SetBytes(l.Size())
		for b.Loop() {
			copy(dst, file)
		}
	})
	b.Run("hash+copy", func(b *testing.B) {
		dst := make([]byte, len(file))
		b.SetBytes(l.Size())
		for b.Loop() {
			h := model.NewHash()
			for at := 0; at < len(file); at += 256 << 10 {
				p := dst[at:min(at+256<<10, len(file))]
				copy(p, file[at:])
				_, _ = h.Write(p)
			}
		}
	})
}

func benchLayout(b *testing.B) *model.Layout {
	b.Helper()
	return mustLayout(b, x("0", model.F32, 1<<20), x("1", model.F32, 4<<20), x("10", model.F32, 100), x("2", model.F32, 10<<20))
}

func BenchmarkIngest(b *testing.B) {
	l := benchLayout(b)
	file := modeltest.File(l)
	var npz bytes.Buffer
	if err := codec.Emit(&npz, codec.NPZ, l, bytes.NewReader(file)); err != nil {
		b.Fatal(err)
	}
	var order []member // as numpy users name them: 0, 1, 2, 10
	for _, i := range []int{0, 1, 3, 2} {
		t := l.Tensors()[i]
		order = append(order, member{t, file[int64(len(l.Header()))+t.Offset:][:t.Bytes()]})
	}
	disk, err := os.Create(filepath.Join(b.TempDir(), "model"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	memory := &modeltest.Mem{B: make([]byte, len(file))}
	for name, c := range map[string]struct {
		in []byte
		to codec.File
		o  codec.Options
	}{
		"safetensors":        {file, memory, codec.Options{Layout: l}},
		"safetensors/file":   {file, disk, codec.Options{Layout: l}},
		"npz":                {npz.Bytes(), memory, codec.Options{Layout: l}},
		"npz/file":           {npz.Bytes(), disk, codec.Options{Layout: l}},
		"npz/file/unordered": {npzFile(b, order), disk, codec.Options{Layout: l}},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(l.Size())
			for b.Loop() {
				if _, _, err := codec.Ingest(bytes.NewReader(c.in), c.to, c.o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Many small tensors: the cost of each.
func BenchmarkIngestSmall(b *testing.B) {
	var ts []model.Tensor
	for i := range 2000 {
		ts = append(ts, x("layer."+string(rune('a'+i%26))+string(rune(0x4e00+i)), model.F32, 64))
	}
	l := mustLayout(b, ts...)
	file := modeltest.File(l)
	disk, err := os.Create(filepath.Join(b.TempDir(), "model"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = disk.Close() }()
	for _, f := range []codec.Format{codec.Safetensors, codec.NPZ} {
		var in bytes.Buffer
		if err := codec.Emit(&in, f, l, bytes.NewReader(file)); err != nil {
			b.Fatal(err)
		}
		b.Run(f.String(), func(b *testing.B) {
			b.SetBytes(l.Size())
			for b.Loop() {
				if _, _, err := codec.Ingest(bytes.NewReader(in.Bytes()), disk, codec.Options{Layout: l}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
