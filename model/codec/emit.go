package codec

import (
	"fmt"
	"io"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/npz"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

// Emit writes a model in a format. src is its canonical file. npz is written stored, its arrays in canonical
// order; bfloat16 becomes raw bytes there ("<V2"), as numpy has no name for it.
func Emit(w io.Writer, f Format, l *model.Layout, src io.ReaderAt) error {
	data := io.NewSectionReader(src, int64(len(l.Header())), l.DataSize())
	switch f {
	case Safetensors:
		return safetensors.Encode(w, l, data)
	case NPZ:
		return npz.Encode(w, l, data)
	}
	return fmt.Errorf("codec: cannot write %s", f)
}

// Size returns the bytes that [Emit] writes.
func Size(f Format, l *model.Layout) int64 {
	if f == NPZ {
		return npz.Size(l)
	}
	return l.Size()
}
