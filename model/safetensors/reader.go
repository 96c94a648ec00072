package safetensors

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

// chunk is the size of the buffer between input and sink. It fits into a core's second-level
// cache, so what the sink does to the bytes (check, hash, write) finds them there.
const chunk = 256 << 10

// minRead is how much is collected, where there is so much, before it is passed on.
const minRead = 64 << 10

// Reader reads one file: the header when it is made, the data in [Reader.Copy].
type Reader struct {
	r    io.Reader
	ts   []model.Tensor
	size int64
}

// NewReader reads and checks the header. Errors wrap [model.ErrFormat] or
// [model.ErrTooLarge], or are the input's own.
func NewReader(r io.Reader, lim model.Limits) (*Reader, error) {
	lim = lim.WithDefaults()
	var head [8]byte
	if n, err := io.ReadFull(r, head[:]); err != nil {
		return nil, inputError(err, "header length", int64(n), 8)
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > uint64(lim.Header) {
		return nil, fmt.Errorf("safetensors: the header is declared to be %d bytes long, at most %d are allowed: %w", n, lim.Header, model.ErrTooLarge)
	}
	var buf bytes.Buffer // grows with what arrives, not with what is declared
	if got, err := io.CopyN(&buf, r, int64(n)); err != nil {
		return nil, inputError(err, "header", got, int64(n))
	}
	p := parser{b: buf.Bytes(), maxTensors: lim.Tensors}
	entries, err := p.header()
	if err != nil {
		return nil, err
	}
	rd := &Reader{r: r}
	if err := rd.place(entries, lim); err != nil {
		return nil, err
	}
	return rd, nil
}

// place puts the tensors in the order of the file and checks that their ranges fill it.
func (r *Reader) place(entries []entry, lim model.Limits) error {
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.begin, b.begin), cmp.Compare(a.end, b.end), cmp.Compare(a.Name, b.Name))
	})
	var at int64
	for i, e := range entries {
		switch size := e.Bytes(); {
		case e.end < e.begin:
			return fmt.Errorf("safetensors: tensor %q: data_offsets [%d,%d] end before they begin: %w", e.Name, e.begin, e.end, model.ErrFormat)
		case e.end-e.begin != size:
			return fmt.Errorf("safetensors: tensor %q: data_offsets [%d,%d] hold %d bytes, but %s needs %d: %w", e.Name, e.begin, e.end, e.end-e.begin, e.Type(), size, model.ErrFormat)
		case e.begin < at:
			return fmt.Errorf("safetensors: tensor %q: data_offsets [%d,%d] overlap tensor %q: %w", e.Name, e.begin, e.end, entries[i-1].Name, model.ErrFormat)
		case e.begin > at:
			return fmt.Errorf("safetensors: tensor %q: data_offsets [%d,%d] leave a hole of %d bytes before it: %w", e.Name, e.begin, e.end, e.begin-at, model.ErrFormat)
		case e.end > lim.Bytes:
			return fmt.Errorf("safetensors: tensor %q ends at byte %d, at most %d are allowed: %w", e.Name, e.end, lim.Bytes, model.ErrTooLarge)
		}
		at = e.end
		e.Offset = e.begin
		r.ts = append(r.ts, e.Tensor)
	}
	r.size = at
	return nil
}

// Tensors returns the tensors in the order of the file, with their offsets in its data section.
// The slice is shared: do not change it.
func (r *Reader) Tensors() []model.Tensor { return r.ts }

// Copy reads the data and passes it to the sink, then checks that the input ends. It can be
// called once.
func (r *Reader) Copy(sink model.Sink) error {
	return r.CopyBuffer(sink, make([]byte, min(chunk, r.size+1)))
}

// CopyBuffer is Copy through the given buffer, which must not be empty.
func (r *Reader) CopyBuffer(sink model.Sink, buf []byte) error {
	var (
		have []byte // read and not yet passed on
		left = r.size
	)
	for _, t := range r.ts {
		w, err := sink.Tensor(t.Name, t.DType, t.Shape)
		if err != nil {
			return err
		}
		for todo := t.Bytes(); todo > 0; {
			if len(have) == 0 {
				most := min(int64(len(buf)), left)
				n, err := io.ReadAtLeast(r.r, buf[:most], int(min(most, minRead)))
				if err != nil {
					return r.cut(err, r.size-left+int64(n))
				}
				have = buf[:n]
				left -= int64(n)
			}
			p := have[:min(int64(len(have)), todo)]
			if _, err := w.Write(p); err != nil {
				return err
			}
			have = have[len(p):]
			todo -= int64(len(p))
		}
	}
	switch n, err := io.ReadFull(r.r, buf[:1]); {
	case n > 0:
		return fmt.Errorf("safetensors: bytes follow the last tensor, which ends at byte %d of the data: %w", r.size, model.ErrFormat)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("safetensors: end of the input: %w", err)
	}
	return nil
}

// cut says in which tensor the input ended; what is read at once may span several.
func (r *Reader) cut(err error, at int64) error {
	for _, t := range r.ts {
		if end := t.Offset + t.Bytes(); at < end {
			return inputError(err, fmt.Sprintf("tensor %q", t.Name), at-t.Offset, t.Bytes())
		}
	}
	return inputError(err, "data", at, r.size)
}

// Decode reads a whole file from r into the sink, tensor by tensor in the order of the file. Errors
// wrap [model.ErrFormat] or [model.ErrTooLarge], or are the input's or the sink's own.
func Decode(r io.Reader, lim model.Limits, sink model.Sink) error {
	rd, err := NewReader(r, lim)
	if err != nil {
		return err
	}
	return rd.Copy(sink)
}

// inputError says where reading stopped. An end that comes too early is a fault of the format.
func inputError(err error, where string, got, want int64) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("safetensors: %s: truncated after %d of %d bytes: %w", where, got, want, model.ErrFormat)
	}
	return fmt.Errorf("safetensors: %s: reading the input: %w", where, err)
}
