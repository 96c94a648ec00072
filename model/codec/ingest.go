package codec

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/npz"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

// File is where models are put: an *os.File, or anything that can be written and read at an offset.
type File interface {
	io.ReaderAt
	io.WriterAt
}

// Options of [Ingest].
type Options struct {
	// Layout the model must have. Nil: it is taken from the input, which must then not be an archive of more than
	// 64 MiB that was deflated to less than a hundredth.
	Layout *model.Layout
	// MaxBytes of all tensors together. 0: those of the Layout, or 4 GiB without one.
	MaxBytes int64
	// Check, if there is one, sees all elements as they arrive, in pieces, the tensors in any order. tensor is
	// the position in the layout, elem the index in the tensor of the first element in p, and p whole elements,
	// valid during the call. Its error ends Ingest, which returns it as it is.
	Check func(tensor int, t model.Tensor, elem int64, p []byte) error
	// Buffer is what safetensors are read through, of some KiB at least. Nil: one of 256 KiB is made.
	Buffer []byte
	// Scratch is needed for npz without a Layout, and written from offset 0.
	Scratch File
}

// Ingest reads one model from r, in either format, and writes its canonical file to dst from offset
// 0, which is to be empty. It returns the layout, which is o.Layout if that was given, and the digest.
//
// It refuses, besides what the decoders refuse, a model without tensors, and with a layout missing and unexpected
// tensors and other dtypes or shapes: nothing is ever converted. Errors of r, dst and Scratch are
// wrapped.
func Ingest(r io.Reader, dst File, o Options) (*model.Layout, model.Digest, error) {
	l, d, err := ingest(r, dst, o)
	if err != nil {
		return nil, model.Digest{}, err
	}
	return l, d, nil
}

func ingest(r io.Reader, dst File, o Options) (*model.Layout, model.Digest, error) {
	prefix := make([]byte, DetectBytes)
	n, err := io.ReadFull(r, prefix)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, model.Digest{}, fmt.Errorf("codec: reading the input: %w", err)
	}
	f, err := Detect(prefix[:n])
	if err != nil {
		return nil, model.Digest{}, err
	}
	r = io.MultiReader(bytes.NewReader(prefix[:n]), r)
	lim := model.Limits{Bytes: o.MaxBytes}
	if o.Layout != nil {
		// The layout bounds everything; a larger model is refused for its first wrong tensor.
		lim.Bytes = cmp.Or(o.MaxBytes, model.MaxDataBytes)
		if o.Layout.DataSize() > lim.Bytes {
			return nil, model.Digest{}, fmt.Errorf("codec: the layout needs %d bytes, %d are allowed: %w", o.Layout.DataSize(), lim.Bytes, model.ErrTooLarge)
		}
	}
	switch {
	case f == Safetensors:
		return fromSafetensors(r, dst, lim, o)
	case o.Layout != nil:
		return fromNPZ(r, dst, lim, o)
	default:
		return fromUnknownNPZ(r, dst, lim, o)
	}
}

// fromSafetensors knows the layout before the first byte of data.
func fromSafetensors(r io.Reader, dst File, lim model.Limits, o Options) (*model.Layout, model.Digest, error) {
	in, err := safetensors.NewReader(r, lim)
	if err != nil {
		return nil, model.Digest{}, err
	}
	l, err := model.NewLayout(in.Tensors())
	if err != nil {
		return nil, model.Digest{}, err
	}
	if o.Layout != nil {
		if err := o.Layout.Diff(l); err != nil {
			return nil, model.Digest{}, err
		}
		l = o.Layout
	}
	p, err := newPlacer(l, dst, o.Check)
	if err != nil {
		return nil, model.Digest{}, err
	}
	if o.Buffer == nil {
		err = in.Copy(p)
	} else {
		err = in.CopyBuffer(p, o.Buffer)
	}
	if err != nil {
		return nil, model.Digest{}, err
	}
	return p.finish()
}

func fromNPZ(r io.Reader, dst File, lim model.Limits, o Options) (*model.Layout, model.Digest, error) {
	p, err := newPlacer(o.Layout, dst, o.Check)
	if err != nil {
		return nil, model.Digest{}, err
	}
	if err := npz.Decode(r, lim, p); err != nil {
		return nil, model.Digest{}, err
	}
	return p.finish()
}

// freelyInflated is how long a deflated model of unknown layout may be whatever it is deflated from: models that begin with zeros are
// common, and bombs are larger.
const freelyInflated = 64 << 20

// fromUnknownNPZ learns the layout only with the last array: it spools them all and then puts each in its
// place.
func fromUnknownNPZ(r io.Reader, dst File, lim model.Limits, o Options) (*model.Layout, model.Digest, error) {
	if o.Scratch == nil {
		return nil, model.Digest{}, errors.New("codec: Scratch is needed for npz without a layout")
	}
	s := &spool{to: o.Scratch}
	lim.Inflated = freelyInflated
	if err := npz.Decode(r, lim, s); err != nil {
		return nil, model.Digest{}, err
	}
	l, err := model.NewLayout(s.tensors)
	if err != nil {
		return nil, model.Digest{}, err
	}
	p, err := newPlacer(l, dst, o.Check)
	if err != nil {
		return nil, model.Digest{}, err
	}
	at := make(map[string]int64, len(s.tensors))
	for _, t := range s.tensors {
		at[t.Name] = t.Offset
	}
	buf := make([]byte, min(copyBuffer, l.DataSize()))
	for _, t := range l.Tensors() {
		w, err := p.Tensor(t.Name, t.DType, t.Shape)
		if err != nil {
			return nil, model.Digest{}, err
		}
		if err := copyAt(w, o.Scratch, at[t.Name], t.Bytes(), buf, "scratch"); err != nil {
			return nil, model.Digest{}, err
		}
	}
	return p.finish()
}

// spool is a sink that puts tensors one after another and remembers where.
type spool struct {
	to      io.WriterAt
	tensors []model.Tensor // Offset in the spool
	size    int64
}

func (s *spool) Tensor(name string, dt model.DType, shape []int64) (io.Writer, error) {
	t := model.Tensor{Name: name, DType: dt, Shape: shape, Offset: s.size}
	s.tensors = append(s.tensors, t)
	return s, nil
}

func (s *spool) Write(p []byte) (int, error) {
	n, err := s.to.WriteAt(p, s.size)
	s.size += int64(n)
	if err != nil {
		return n, fmt.Errorf("codec: writing scratch at byte %d: %w", s.size, err)
	}
	return n, nil
}

// copyBuffer is the size of the buffer for what is read back from a file.
const copyBuffer = 1 << 20

// copyAt copies n bytes at offset at of what is called what.
func copyAt(w io.Writer, r io.ReaderAt, at, n int64, buf []byte, what string) error {
	for n > 0 {
		p := buf[:min(int64(len(buf)), n)]
		if got, err := r.ReadAt(p, at); got < len(p) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("codec: reading %s at byte %d: %w", what, at+int64(got), err)
		}
		if _, err := w.Write(p); err != nil {
			return err
		}
		at += int64(len(p))
		n -= int64(len(p))
	}
	return nil
}
