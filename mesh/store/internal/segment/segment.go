package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	// HeaderSize is the length of a segment's header in bytes.
	HeaderSize = 32
	// RecordOverhead is what a record takes beyond its payload, in bytes.
	RecordOverhead = 12
	// MaxRecord is the largest payload in bytes.
	MaxRecord = 16 << 20

	magic = "fmlog\x00\x00\x01"
)

// ErrHeader is returned by ParseHeader for bytes that are no segment header.
var ErrHeader = errors.New("segment: not a segment header")

// Header stands at the start of a segment.
type Header struct {
	Number uint64 // of this segment
	First  uint64 // number of the first record in it
	Salt   uint32 // goes into the checksum of each record
}

// Encode returns the HeaderSize bytes of h.
func (h Header) Encode() []byte {
	b := make([]byte, 0, HeaderSize)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, h.Number)
	b = binary.LittleEndian.AppendUint64(b, h.First)
	b = binary.LittleEndian.AppendUint32(b, h.Salt)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
}

// ParseHeader reads a header from the first HeaderSize bytes of b. Its errors
// wrap ErrHeader.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("%w: %d bytes instead of %d", ErrHeader, len(b), HeaderSize)
	}
	b = b[:HeaderSize]
	if string(b[:len(magic)]) != magic {
		return Header{}, fmt.Errorf("%w: it starts with %q", ErrHeader, b[:len(magic)])
	}
	if binary.LittleEndian.Uint32(b[28:]) != crc32.Checksum(b[:28], castagnoli()) {
		return Header{}, fmt.Errorf("%w: checksum does not match", ErrHeader)
	}
	return Header{
		Number: binary.LittleEndian.Uint64(b[8:]),
		First:  binary.LittleEndian.Uint64(b[16:]),
		Salt:   binary.LittleEndian.Uint32(b[24:]),
	}, nil
}

// AppendRecord appends to dst the record that holds payload (1 to MaxRecord
// bytes) and is to stand at offset off of the segment.
func (h Header) AppendRecord(dst []byte, off int64, payload []byte) []byte {
	n := uint32(len(payload))
	head := h.headSum(off, n)
	dst = binary.LittleEndian.AppendUint32(dst, n)
	dst = binary.LittleEndian.AppendUint32(dst, head)
	dst = binary.LittleEndian.AppendUint32(dst, crc32.Update(head, castagnoli(), payload))
	return append(dst, payload...)
}

// headSum is the checksum of a record's length in its place.
func (h Header) headSum(off int64, n uint32) uint32 {
	var b [16]byte
	binary.LittleEndian.PutUint32(b[0:], h.Salt)
	binary.LittleEndian.PutUint64(b[4:], uint64(off))
	binary.LittleEndian.PutUint32(b[12:], n)
	return crc32.Checksum(b[:], castagnoli())
}

// castagnoli returns the one table that crc32 keeps and has an instruction for.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }
