package snapshot

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/fedmesh/fedmesh/mesh/store/internal/segment"
)

const (
	// MaxChunk is the largest payload of a chunk in bytes.
	MaxChunk = 1 << 20
	// Overhead is what the shortest snapshot, that of nothing, takes in bytes.
	Overhead = segment.HeaderSize + segment.RecordOverhead

	magic = "fmsnap\x00\x01"
)

// Damage is the error for bytes that no Writer has written there. Errors of the
// underlying reader are returned as they are.
type Damage struct {
	Offset int64 // in bytes from the start of the snapshot
	Reason string
}

func (d *Damage) Error() string {
	return fmt.Sprintf("snapshot: damaged at offset %d: %s", d.Offset, d.Reason)
}

// Header stands at the start of a snapshot and has the size of a segment's.
type Header struct {
	Pos  uint64 // number of the last record that the snapshot stands for
	Size int64  // of the whole snapshot in bytes, this header included
	Salt uint32 // goes into the checksum of each chunk
}

// Encode returns the segment.HeaderSize bytes of h.
func (h Header) Encode() []byte {
	b := make([]byte, 0, segment.HeaderSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, h.Pos)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Size))
	b = binary.LittleEndian.AppendUint32(b, h.Salt)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func parseHeader(b []byte) (Header, error) {
	switch {
	case len(b) < segment.HeaderSize:
		return Header{}, &Damage{Reason: fmt.Sprintf("%d bytes are too few for a header", len(b))}
	case string(b[:len(magic)]) != magic:
		return Header{}, &Damage{Reason: fmt.Sprintf("it starts with %q, which no snapshot does", b[:len(magic)])}
	case binary.LittleEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], crc32.MakeTable(crc32.Castagnoli)):
		return Header{}, &Damage{Reason: "the checksum of its header does not match"}
	}
	return Header{
		Pos:  binary.LittleEndian.Uint64(b[8:]),
		Size: int64(binary.LittleEndian.Uint64(b[16:])),
		Salt: binary.LittleEndian.Uint32(b[24:]),
	}, nil
}

// chunks is what a chunk's checksums are made with: a chunk is encoded as a record is.
func (h Header) chunks() segment.Header { return segment.Header{Salt: h.Salt} }

// Writer writes a snapshot. The header comes last, so that what was not finished
// is no snapshot.
type Writer struct {
	dst   io.WriterAt
	h     Header
	chunk int
	fill  []byte // payload of the chunk to come
	buf   []byte // that chunk as it is written
	err   error
}

// NewWriter returns a Writer to dst, from offset 0, of the snapshot for the records up to
// number pos. All chunks but the last have chunk bytes of payload, 1 to MaxChunk.
func NewWriter(dst io.WriterAt, pos uint64, salt uint32, chunk int) *Writer {
	return &Writer{dst: dst, h: Header{Pos: pos, Size: segment.HeaderSize, Salt: salt}, chunk: chunk}
}

// Write implements io.Writer. After an error it only returns that again.
func (w *Writer) Write(p []byte) (n int, err error) {
	for len(p) > 0 && w.err == nil {
		k := min(len(p), w.chunk-len(w.fill))
		w.fill = append(w.fill, p[:k]...)
		n, p = n+k, p[k:]
		if len(w.fill) == w.chunk {
			w.flush()
		}
	}
	return n, w.err
}

// flush writes what is in fill, which for nothing is the end marker.
func (w *Writer) flush() {
	w.buf = w.h.chunks().AppendRecord(w.buf[:0], w.h.Size, w.fill)
	if _, w.err = w.dst.WriteAt(w.buf, w.h.Size); w.err == nil {
		w.h.Size += int64(len(w.buf))
		w.fill = w.fill[:0]
	}
}

// Finish writes what is left and returns the size of the snapshot in bytes. The Writer is then of
// no more use.
func (w *Writer) Finish() (int64, error) {
	if len(w.fill) > 0 && w.err == nil {
		w.flush()
	}
	if w.err == nil {
		w.flush()
	}
	if w.err == nil {
		_, w.err = w.dst.WriteAt(w.h.Encode(), 0)
	}
	return w.h.Size, w.err
}
