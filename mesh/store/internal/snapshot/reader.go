package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/fedmesh/fedmesh/mesh/store/internal/segment"
)

// Reader reads the payload of a snapshot. It gives out no byte before the checksum
// of its chunk has been found right, and io.EOF only behind an end that is.
type Reader struct {
	h      Header
	src    io.ReaderAt
	chunks *segment.Reader
	chunk  []byte // what is left of the last one
	err    error
}

// NewReader returns a Reader of the size bytes of src. The error is a *Damage if
// they do not start with the header of a snapshot of that size.
func NewReader(src io.ReaderAt, size int64) (*Reader, error) {
	b := make([]byte, max(0, min(size, segment.HeaderSize)))
	if _, err := src.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	h, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	if h.Size != size || size < Overhead {
		return nil, &Damage{Reason: fmt.Sprintf("it has %d bytes, but %d by its header", size, h.Size)}
	}
	return &Reader{h: h, src: src, chunks: segment.NewReader(src, size-segment.RecordOverhead, h.chunks())}, nil
}

// Pos returns the number of the last record that the snapshot stands for.
func (r *Reader) Pos() uint64 { return r.h.Pos }

// Read implements io.Reader. One call returns bytes of one chunk. Its error is a *Damage for what
// is no chunk of this snapshot, which every later call returns again.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(r.chunk) == 0 && r.err == nil {
		r.next()
	}
	if len(r.chunk) == 0 {
		return 0, r.err
	}
	n := copy(p, r.chunk)
	r.chunk = r.chunk[n:]
	return n, nil
}

// Err returns the error that reading has met so far, nil if there was none but the end.
func (r *Reader) Err() error {
	if errors.Is(r.err, io.EOF) {
		return nil
	}
	return r.err
}

// Check reads what is left and returns nil if all of it is sound.
func (r *Reader) Check() error {
	for r.err == nil {
		r.next()
	}
	return r.Err()
}

// next sets chunk to the next one, or err.
func (r *Reader) next() {
	at := r.chunks.Offset()
	var damage *segment.Damage
	chunk, err := r.chunks.Next()
	switch {
	case errors.Is(err, io.EOF):
		err = r.end(at)
	case errors.As(err, &damage):
		err = &Damage{Offset: damage.Offset, Reason: damage.Reason}
	case err == nil && len(chunk) > MaxChunk:
		err = &Damage{Offset: at, Reason: fmt.Sprintf("a chunk of %d bytes is longer than any is", len(chunk))}
	}
	if err != nil {
		chunk = nil
	}
	r.chunk, r.err = chunk, err
}

// end returns io.EOF if the end marker is at offset at.
func (r *Reader) end(at int64) error {
	var got [segment.RecordOverhead]byte
	if n, err := r.src.ReadAt(got[:], at); n < len(got) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	if !bytes.Equal(got[:], r.h.chunks().AppendRecord(nil, at, nil)) {
		return &Damage{Offset: at, Reason: "its end marker does not match"}
	}
	return io.EOF
}
