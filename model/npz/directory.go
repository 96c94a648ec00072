package npz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/fedmesh/fedmesh/model"
)

// ending is what a record at the end says about the central directory.
type ending struct{ count, size, offset uint64 }

// directory reads the central directory, whose first signature was read, and the records behind it,
// and checks that they tell the same as the local headers did.
func (d *decoder) directory(sig uint32) error {
	start := d.pos() - 4
	for i := range d.members {
		if sig != sigCentral {
			return d.errorf("the central directory lists %d of %d arrays", i, len(d.members))
		}
		if err := d.central(&d.members[i]); err != nil {
			return err
		}
		var err error
		if sig, err = d.signature(); err != nil {
			return err
		}
	}
	end := d.pos() - 4
	want := ending{uint64(len(d.members)), uint64(end - start), uint64(start)}
	wide := sig == sigEnd64
	if wide {
		if err := d.end64(want, end); err != nil {
			return err
		}
		var err error
		if sig, err = d.signature(); err != nil {
			return err
		}
	}
	if sig != sigEnd {
		return d.errorf("no end record behind the central directory of %d arrays", len(d.members))
	}
	return d.end(want, wide)
}

// central reads one entry, of the member at the same place.
func (d *decoder) central(m *member) error {
	var b [42]byte
	if err := d.read(b[:], fmt.Sprintf("array %q: central directory", m.array)); err != nil {
		return err
	}
	le := binary.LittleEndian
	c := member{
		flags:  le.Uint16(b[4:]),
		method: le.Uint16(b[6:]),
		crc:    le.Uint32(b[12:]),
		csize:  uint64(le.Uint32(b[16:])),
		usize:  uint64(le.Uint32(b[20:])),
	}
	offset, comment := uint64(le.Uint32(b[38:])), le.Uint16(b[28:])
	name, err := d.name(le.Uint16(b[24:]))
	if err != nil {
		return err
	}
	if name != m.name {
		return d.errorf("the central directory names %q where the archive has %q", name, m.name)
	}
	if err := d.zip64(m.array, le.Uint16(b[26:]), &c.usize, &c.csize, &offset); err != nil {
		return err
	}
	if err := d.skip(comment, fmt.Sprintf("array %q: comment", m.array)); err != nil {
		return err
	}
	switch {
	case c.flags != m.flags, c.method != m.method:
		return d.errorf("array %q: the central directory says method %d and flags %#04x, the local header %d and %#04x", m.array, c.method, c.flags, m.method, m.flags)
	case offset != uint64(m.offset):
		return d.errorf("array %q: the central directory says it is at byte %d, it is at %d", m.array, offset, m.offset)
	}
	return d.compare(m.array, "central directory", &c, m.csize, m.usize, m.crc)
}

// end64 reads the zip64 end record behind its signature, and its locator.
func (d *decoder) end64(want ending, at int64) error {
	var b [52 + 20]byte
	if err := d.read(b[:], "zip64 end record"); err != nil {
		return err
	}
	le := binary.LittleEndian
	got := ending{le.Uint64(b[28:]), le.Uint64(b[36:]), le.Uint64(b[44:])}
	loc := b[52:]
	switch {
	case le.Uint64(b[:]) != 44, le.Uint32(b[12:]) != 0, le.Uint32(b[16:]) != 0, le.Uint64(b[20:]) != got.count:
		return d.errorf("malformed zip64 end record")
	case got != want:
		return d.errorf("the zip64 end record says %d arrays and a directory of %d bytes at %d, they are %d, %d and %d", got.count, got.size, got.offset, want.count, want.size, want.offset)
	case le.Uint32(loc) != sigLocator64, le.Uint32(loc[4:]) != 0, le.Uint64(loc[8:]) != uint64(at), le.Uint32(loc[16:]) > 1:
		return d.errorf("malformed zip64 locator")
	}
	return nil
}

// end reads the end record behind its signature, and the end of the input.
func (d *decoder) end(want ending, wide bool) error {
	var b [18]byte
	if err := d.read(b[:], "end record"); err != nil {
		return err
	}
	le := binary.LittleEndian
	count, size, offset := uint64(le.Uint16(b[4:])), uint64(le.Uint32(b[8:])), uint64(le.Uint32(b[12:]))
	same := func(got, want, limit uint64) bool { return got == want || wide && got == limit }
	switch {
	case le.Uint16(b[0:]) != 0, le.Uint16(b[2:]) != 0, le.Uint16(b[6:]) != uint16(count):
		return d.errorf("an archive in several parts is not supported")
	case !same(count, want.count, max16), !same(size, want.size, max32), !same(offset, want.offset, max32):
		return d.errorf("the end record says %d arrays and a directory of %d bytes at %d, they are %d, %d and %d", count, size, offset, want.count, want.size, want.offset)
	}
	if err := d.skip(le.Uint16(b[16:]), "comment of the archive"); err != nil {
		return err
	}
	switch _, err := d.br.ReadByte(); {
	case err == nil:
		return fmt.Errorf("npz: bytes follow the end of the archive at byte %d: %w", d.pos()-1, model.ErrFormat)
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("npz: end of the input: %w", err)
	}
	return nil
}

// skip passes over a comment, which must be there in full.
func (d *decoder) skip(n uint16, what string) error {
	got, err := d.br.Discard(int(n))
	if err != nil {
		return inputError(err, what, int64(got), int64(n))
	}
	return nil
}
