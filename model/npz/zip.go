package npz

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/fedmesh/fedmesh/model"
)

// Signatures and constants of the zip format (PKWARE APPNOTE 6.3.10, section 4.3).
const (
	sigLocal      = 0x04034b50
	sigDescriptor = 0x08074b50
	sigCentral    = 0x02014b50
	sigEnd64      = 0x06064b50
	sigLocator64  = 0x07064b50
	sigEnd        = 0x06054b50

	methodStore   = 0
	methodDeflate = 8

	flagLevel      = 0x0006 // how hard the compressor tried
	flagDescriptor = 0x0008
	flagUTF8       = 0x0800

	extraZip64 = 0x0001

	max16 = 1<<16 - 1
	max32 = 1<<32 - 1
)

// member is what is kept of each member until the central directory was seen.
type member struct {
	name         string // with ".npy"
	array        string // without
	flags        uint16
	method       uint16
	known        bool // sizes and checksum stand in the local header
	crc          uint32
	csize, usize uint64
	offset       int64
}

func (d *decoder) signature() (uint32, error) {
	at := d.pos()
	var b [4]byte
	if err := d.read(b[:], fmt.Sprintf("zip record at byte %d", at)); err != nil {
		return 0, err
	}
	switch sig := binary.LittleEndian.Uint32(b[:]); sig {
	case sigLocal, sigCentral, sigEnd64, sigEnd:
		return sig, nil
	}
	return 0, fmt.Errorf("npz: byte %d: no zip record where one is expected (found %q): %w", at, b[:], model.ErrFormat)
}

// local reads a local header behind its signature and checks the member's name.
func (d *decoder) local() (member, error) {
	m := member{offset: d.pos() - 4}
	if len(d.members) == d.lim.Tensors {
		return m, fmt.Errorf("npz: more than %d arrays: %w", d.lim.Tensors, model.ErrTooLarge)
	}
	var b [26]byte
	if err := d.read(b[:], fmt.Sprintf("local header at byte %d", m.offset)); err != nil {
		return m, err
	}
	le := binary.LittleEndian
	m.flags, m.method = le.Uint16(b[2:]), le.Uint16(b[4:])
	m.crc, m.csize, m.usize = le.Uint32(b[10:]), uint64(le.Uint32(b[14:])), uint64(le.Uint32(b[18:]))
	var err error
	if m.name, err = d.name(le.Uint16(b[22:])); err != nil {
		return m, err
	}
	if m.array, err = d.arrayName(m.name, m.flags); err != nil {
		return m, err
	}
	if err := d.zip64(m.array, le.Uint16(b[24:]), &m.usize, &m.csize); err != nil {
		return m, err
	}
	m.known = m.flags&flagDescriptor == 0
	switch {
	case m.flags&^(flagLevel|flagDescriptor|flagUTF8) != 0:
		return m, d.errorf("array %q: encrypted or otherwise unsupported (flags %#04x)", m.array, m.flags)
	case m.method != methodStore && m.method != methodDeflate:
		return m, d.errorf("array %q: compression method %d; only stored and deflated are supported", m.array, m.method)
	case m.known && m.method == methodStore && m.csize != m.usize:
		return m, d.errorf("array %q: stored, but of %d bytes compressed and %d not", m.array, m.csize, m.usize)
	}
	return m, nil
}

func (d *decoder) name(n uint16) (string, error) {
	if int(n) > model.MaxNameBytes+len(npySuffix) {
		return "", d.errorf("name of %d bytes, at most %d are allowed", n, model.MaxNameBytes+len(npySuffix))
	}
	b := make([]byte, n)
	if err := d.read(b, "name of a member"); err != nil {
		return "", err
	}
	return string(b), nil
}

const npySuffix = ".npy"

// arrayName checks a member's name and returns that of its array.
func (d *decoder) arrayName(name string, flags uint16) (string, error) {
	array, ok := strings.CutSuffix(name, npySuffix)
	if !ok {
		return "", d.errorf("member %q is no array (its name does not end in .npy); write the model with numpy.savez or as safetensors", name)
	}
	if err := model.CheckName(array); err != nil {
		return "", fmt.Errorf("npz: %w", err)
	}
	if flags&flagUTF8 == 0 && strings.ContainsFunc(array, func(r rune) bool { return r > 0x7f }) {
		return "", d.errorf("name %q is not ASCII and not marked as UTF-8", array)
	}
	if d.names[array] {
		return "", d.errorf("two arrays are named %q", array)
	}
	d.names[array] = true
	return array, nil
}

// zip64 reads an extra field of n bytes and replaces those sizes that say "look there".
func (d *decoder) zip64(array string, n uint16, sizes ...*uint64) error {
	extra := make([]byte, n)
	if err := d.read(extra, fmt.Sprintf("array %q: extra field", array)); err != nil {
		return err
	}
	var wide []byte
	for found := false; len(extra) > 0; {
		if len(extra) < 4 || len(extra)-4 < int(binary.LittleEndian.Uint16(extra[2:])) {
			return d.errorf("array %q: malformed extra field", array)
		}
		id, end := binary.LittleEndian.Uint16(extra), 4+int(binary.LittleEndian.Uint16(extra[2:]))
		if id == extraZip64 {
			if found {
				return d.errorf("array %q: two zip64 extra fields", array)
			}
			wide, found = extra[4:end], true
		}
		extra = extra[end:]
	}
	for _, s := range sizes {
		if *s != max32 {
			continue
		}
		if len(wide) < 8 {
			return d.errorf("array %q: a zip64 size is missing", array)
		}
		*s, wide = binary.LittleEndian.Uint64(wide), wide[8:]
	}
	return nil
}

// finish compares what came with what the local header and the data descriptor say, and keeps it for
// the central directory.
func (d *decoder) finish(m *member, csize, usize uint64, crc uint32) error {
	if m.known || m.csize|m.usize != 0 || m.crc != 0 {
		if err := d.compare(m.array, "local header", m, csize, usize, crc); err != nil {
			return err
		}
	}
	known := m.known
	m.csize, m.usize, m.crc = csize, usize, crc
	d.members = append(d.members, *m)
	if known {
		return nil
	}
	return d.descriptor(m)
}

func (d *decoder) compare(array, where string, m *member, csize, usize uint64, crc uint32) error {
	switch {
	case m.csize != csize:
		return d.errorf("array %q: the %s says %d bytes in the archive, they are %d", array, where, m.csize, csize)
	case m.usize != usize:
		return d.errorf("array %q: the %s says %d bytes, they are %d", array, where, m.usize, usize)
	case m.crc != crc:
		return d.errorf("array %q: the checksum in the %s is %08x, the data's %08x: it was damaged", array, where, m.crc, crc)
	}
	return nil
}

// descriptor reads a data descriptor. It may come with or without signature and with sizes of 32
// or 64 bits, which only its content tells apart, so it must be one of the four that are right.
func (d *decoder) descriptor(m *member) error {
	le := binary.LittleEndian
	full := le.AppendUint32(nil, sigDescriptor)
	full = le.AppendUint32(full, m.crc)
	wide := le.AppendUint64(le.AppendUint64(bytes.Clone(full), m.csize), m.usize)
	forms := [][]byte{wide, wide[4:]}
	if m.csize <= max32 && m.usize <= max32 {
		narrow := le.AppendUint32(le.AppendUint32(full, uint32(m.csize)), uint32(m.usize))
		forms = append(forms, narrow, narrow[4:])
	}
	have, err := d.br.Peek(len(wide))
	if err != nil && !errors.Is(err, io.EOF) {
		return inputError(err, fmt.Sprintf("array %q: data descriptor", m.array), 0, int64(len(wide)))
	}
	for _, f := range forms {
		if bytes.HasPrefix(have, f) {
			_, _ = d.br.Discard(len(f)) // buffered
			return nil
		}
	}
	if len(have) < len(wide) {
		return inputError(io.ErrUnexpectedEOF, fmt.Sprintf("array %q: data descriptor", m.array), int64(len(have)), int64(len(wide)))
	}
	return d.errorf("array %q: the data descriptor disagrees with the data (checksum %08x, %d bytes in the archive, %d inflated)", m.array, m.crc, m.csize, m.usize)
}
