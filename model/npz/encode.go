package npz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"

	"github.com/fedmesh/fedmesh/model"
)

// Python's zipfile, and so numpy, switches to 64-bit fields from here on.
const zip64Limit = 1<<31 - 1

// Fixed fields as numpy.savez has them: version 4.5, made on Unix, 1 January 1980, mode 0600.
const (
	version  = 45
	madeBy   = 3<<8 | version
	dosDate  = 0x0021
	fileMode = 0o600 << 16
)

// Size returns the bytes that [Encode] writes for a layout.
func Size(l *model.Layout) int64 {
	var w counting
	e := encoder{w: &w}
	for _, t := range l.Tensors() {
		e.begin(t, 0)
		w.n += t.Bytes()
	}
	e.end()
	return w.n
}

// Encode writes an archive of a layout's tensors, stored, in canonical order. data is the data section of
// the canonical file. It is read twice, since a checksum stands before each array.
func Encode(w io.Writer, l *model.Layout, data io.ReaderAt) error {
	out := &counting{w: w}
	e := encoder{w: out}
	buf := make([]byte, min(chunk, l.DataSize()))
	for _, t := range l.Tensors() {
		crc := crc32.ChecksumIEEE(npyPrefix(t))
		err := readTensor(data, t, buf, func(p []byte) error {
			crc = crc32.Update(crc, crc32.IEEETable, p)
			return nil
		})
		if err != nil {
			return err
		}
		e.begin(t, crc)
		err = readTensor(data, t, buf, func(p []byte) error {
			_, err := out.Write(p)
			return err
		})
		if err != nil {
			return err
		}
	}
	e.end()
	if out.err != nil {
		return fmt.Errorf("npz: writing: %w", out.err)
	}
	return nil
}

func readTensor(data io.ReaderAt, t model.Tensor, buf []byte, f func([]byte) error) error {
	for at, end := t.Offset, t.Offset+t.Bytes(); at < end; {
		p := buf[:min(int64(len(buf)), end-at)]
		if n, err := data.ReadAt(p, at); n < len(p) {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("npz: array %q: reading the data at byte %d: %w", t.Name, at+int64(n), err)
		}
		if err := f(p); err != nil {
			return fmt.Errorf("npz: array %q: writing: %w", t.Name, err)
		}
		at += int64(len(p))
	}
	return nil
}

// counting counts what is written and keeps the first error. Without a writer it only counts.
type counting struct {
	w   io.Writer
	n   int64
	err error
}

func (c *counting) Write(p []byte) (int, error) {
	if c.err == nil && c.w != nil {
		_, c.err = c.w.Write(p)
	}
	c.n += int64(len(p))
	return len(p), c.err
}

// encoder writes the frame around the data and collects the central directory.
type encoder struct {
	w       *counting
	count   int
	central []byte
}

// begin writes the local header of a tensor and its npy header.
func (e *encoder) begin(t model.Tensor, crc uint32) {
	var (
		le     = binary.LittleEndian
		prefix = npyPrefix(t)
		name   = t.Name + npySuffix
		size   = uint64(len(prefix)) + uint64(t.Bytes())
		offset = uint64(e.w.n)
		flags  uint16
	)
	if strings.ContainsFunc(name, func(r rune) bool { return r > 0x7f }) {
		flags = flagUTF8
	}
	common := le.AppendUint16(nil, version)
	common = le.AppendUint16(common, flags)
	common = le.AppendUint16(common, methodStore)
	common = le.AppendUint16(common, 0) // time
	common = le.AppendUint16(common, dosDate)
	common = le.AppendUint32(common, crc)

	b := le.AppendUint32(nil, sigLocal)
	b = append(b, common...)
	b = le.AppendUint32(b, max32)
	b = le.AppendUint32(b, max32)
	b = le.AppendUint16(b, uint16(len(name)))
	b = le.AppendUint16(b, 20)
	b = append(b, name...)
	b = le.AppendUint16(b, extraZip64)
	b = le.AppendUint16(b, 16)
	b = le.AppendUint64(b, size)
	b = le.AppendUint64(b, size)
	b = append(b, prefix...)
	_, _ = e.w.Write(b) // the error is kept there

	var wide []uint64
	size32, offset32 := uint32(size), uint32(offset)
	if size > zip64Limit {
		wide, size32 = append(wide, size, size), max32
	}
	if offset > zip64Limit {
		wide, offset32 = append(wide, offset), max32
	}
	var extra []byte
	if len(wide) > 0 {
		extra = le.AppendUint16(extra, extraZip64)
		extra = le.AppendUint16(extra, uint16(8*len(wide)))
		for _, v := range wide {
			extra = le.AppendUint64(extra, v)
		}
	}
	c := le.AppendUint32(e.central, sigCentral)
	c = le.AppendUint16(c, madeBy)
	c = append(c, common...)
	c = le.AppendUint32(c, size32)
	c = le.AppendUint32(c, size32)
	c = le.AppendUint16(c, uint16(len(name)))
	c = le.AppendUint16(c, uint16(len(extra)))
	c = append(c, 0, 0, 0, 0, 0, 0) // comment, disk, internal attributes
	c = le.AppendUint32(c, fileMode)
	c = le.AppendUint32(c, offset32)
	c = append(c, name...)
	e.central = append(c, extra...)
	e.count++
}

// end writes the central directory.
func (e *encoder) end() {
	var (
		le     = binary.LittleEndian
		offset = uint64(e.w.n)
		size   = uint64(len(e.central))
		count  = uint64(e.count)
		b      = e.central
	)
	if count > max16 || offset > zip64Limit {
		b = le.AppendUint32(b, sigEnd64)
		b = le.AppendUint64(b, 44)
		b = le.AppendUint16(b, version)
		b = le.AppendUint16(b, version)
		b = le.AppendUint64(b, 0) // disks
		b = le.AppendUint64(b, count)
		b = le.AppendUint64(b, count)
		b = le.AppendUint64(b, size)
		b = le.AppendUint64(b, offset)
		b = le.AppendUint32(b, sigLocator64)
		b = le.AppendUint32(b, 0)
		b = le.AppendUint64(b, offset+size)
		b = le.AppendUint32(b, 1)
	}
	b = le.AppendUint32(b, sigEnd)
	b = le.AppendUint32(b, 0) // disks
	b = le.AppendUint16(b, uint16(min(count, max16)))
	b = le.AppendUint16(b, uint16(min(count, max16)))
	b = le.AppendUint32(b, uint32(min(size, max32)))
	b = le.AppendUint32(b, uint32(min(offset, max32)))
	b = le.AppendUint16(b, 0)
	_, _ = e.w.Write(b) // the error is kept there
}

// npyPrefix returns what stands before the data of an npy file, as numpy writes it: with spare room for the
// first dimension to grow to 21 digits in place, padded to a multiple of 64.
func npyPrefix(t model.Tensor) []byte {
	var s strings.Builder
	fmt.Fprintf(&s, "{'descr': '%s', 'fortran_order': False, 'shape': (", descr(t.DType))
	for i, d := range t.Shape {
		if i > 0 {
			s.WriteString(", ")
		}
		fmt.Fprint(&s, d)
	}
	if len(t.Shape) == 1 {
		s.WriteByte(',')
	}
	s.WriteString("), }")
	if len(t.Shape) > 0 {
		s.WriteString(strings.Repeat(" ", 21-len(fmt.Sprint(t.Shape[0]))))
	}
	s.WriteString(strings.Repeat(" ", 64-(10+s.Len()+1)%64))
	s.WriteByte('\n')
	b := append([]byte(npyMagic), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(s.Len()))
	return append(b, s.String()...)
}
