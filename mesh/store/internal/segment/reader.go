package segment

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Damage is the error for bytes that are not the record that should be there.
// Errors of the underlying reader are returned as they are.
type Damage struct {
	Offset int64 // where the record starts, in bytes from the start of the segment
	Reason string
}

func (d *Damage) Error() string {
	return fmt.Sprintf("segment: damaged record at offset %d: %s", d.Offset, d.Reason)
}

// Reader reads the records of one segment in order. It keeps one record in
// memory at a time.
type Reader struct {
	h    Header
	src  io.ReaderAt
	size int64
	buf  *bufio.Reader
	off  int64 // of the next record
	rec  []byte
}

// NewReader returns a Reader of the size bytes of src, whose header was h.
func NewReader(src io.ReaderAt, size int64, h Header) *Reader {
	body := io.NewSectionReader(src, HeaderSize, max(size-HeaderSize, 0))
	return &Reader{h: h, src: src, size: size, buf: bufio.NewReaderSize(body, 64<<10), off: HeaderSize}
}

// Offset returns where the next record starts, or would.
func (r *Reader) Offset() int64 { return r.off }

// Next returns the next record, valid until the call after; io.EOF when the
// segment ends behind a whole record; a *Damage when what follows is not one.
func (r *Reader) Next() ([]byte, error) {
	left := r.size - r.off
	if left <= 0 {
		return nil, io.EOF
	}
	if left < RecordOverhead {
		return nil, r.damage(fmt.Sprintf("%d bytes are too few for a record", left))
	}
	var head [RecordOverhead]byte
	if _, err := io.ReadFull(r.buf, head[:]); err != nil {
		return nil, noEOF(err)
	}
	n, ok := r.h.length(head[:], r.off)
	if !ok {
		return nil, r.damage("the checksum of its length does not match")
	}
	if n > left-RecordOverhead {
		return nil, r.damage(fmt.Sprintf("it has %d bytes but the file ends after %d", n, left-RecordOverhead))
	}
	if int64(cap(r.rec)) < n {
		r.rec = make([]byte, n)
	}
	r.rec = r.rec[:n]
	if _, err := io.ReadFull(r.buf, r.rec); err != nil {
		return nil, noEOF(err)
	}
	if crc32.Update(storedHead(head[:]), castagnoli(), r.rec) != storedFull(head[:]) {
		return nil, r.damage("the checksum of its payload does not match")
	}
	r.off += RecordOverhead + n
	return r.rec, nil
}

// Find looks at every offset from from on for a whole valid record and returns
// where the first one starts.
func (r *Reader) Find(from int64) (off int64, found bool, err error) {
	window := make([]byte, 64<<10)
	for base := max(from, HeaderSize); base+RecordOverhead < r.size; {
		w := window[:min(int64(len(window)), r.size-base)]
		if _, err := r.src.ReadAt(w, base); err != nil && !errors.Is(err, io.EOF) {
			return 0, false, err
		}
		for i := 0; i+RecordOverhead <= len(w); i++ {
			head, at := w[i:i+RecordOverhead], base+int64(i)
			n, ok := r.h.length(head, at)
			if !ok || n > r.size-at-RecordOverhead {
				continue
			}
			whole, err := r.whole(head, at, n)
			if err != nil || whole {
				return at, whole, err
			}
		}
		base += int64(len(w)) - RecordOverhead + 1
	}
	return 0, false, nil
}

// whole reports whether the payload behind the valid head at offset at is intact.
func (r *Reader) whole(head []byte, at, n int64) (bool, error) {
	sum := storedHead(head)
	buf := make([]byte, min(n, 64<<10))
	for done := int64(0); done < n; {
		p := buf[:min(int64(len(buf)), n-done)]
		if _, err := r.src.ReadAt(p, at+RecordOverhead+done); err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		sum = crc32.Update(sum, castagnoli(), p)
		done += int64(len(p))
	}
	return sum == storedFull(head), nil
}

// length returns the payload length in a record's head if it is allowed and its
// checksum right.
func (h Header) length(head []byte, off int64) (int64, bool) {
	n := binary.LittleEndian.Uint32(head)
	if n == 0 || n > MaxRecord {
		return 0, false
	}
	return int64(n), storedHead(head) == h.headSum(off, n)
}

func storedHead(head []byte) uint32 { return binary.LittleEndian.Uint32(head[4:]) }

func storedFull(head []byte) uint32 { return binary.LittleEndian.Uint32(head[8:]) }

func (r *Reader) damage(reason string) error { return &Damage{Offset: r.off, Reason: reason} }

// noEOF: the file is shorter than it was said to be, which is no clean end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
