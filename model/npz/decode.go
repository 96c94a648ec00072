package npz

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"github.com/klauspost/compress/flate"

	"github.com/fedmesh/fedmesh/model"
)

const (
	// chunk is the size of the buffer between input and sink; it fits a second-level cache.
	// It is a multiple of every element size, so that big-endian elements can be swapped in it.
	chunk = 256 << 10
	// minRead is how much is collected, where there is so much, before it is passed on.
	minRead = 64 << 10
	// maxRatio is how many times its length in the archive data may come out as, beyond Limits.Inflated. Trained weights hardly
	// shrink at all; deflate reaches 1032.
	maxRatio = 100
)

// BF16Sink is a sink that can tell which arrays of two raw bytes per element are bfloat16.
type BF16Sink interface {
	model.Sink
	// IsBF16 reports whether the named tensor is known to be bfloat16.
	IsBF16(name string) bool
}

// Decode reads a whole archive from r into the sink, array by array in the order of the archive. Errors
// wrap [model.ErrFormat] or [model.ErrTooLarge], or are the input's or the sink's own.
//
// Central directory and checksums come after the data: when Decode fails, what the sink got is void.
func Decode(r io.Reader, lim model.Limits, sink model.Sink) error {
	in := &counter{r: r}
	d := &decoder{
		in:    in,
		br:    bufio.NewReaderSize(in, minRead),
		lim:   lim.WithDefaults(),
		sink:  sink,
		names: make(map[string]bool),
	}
	d.left = d.lim.Bytes
	for {
		sig, err := d.signature()
		if err != nil {
			return err
		}
		if sig != sigLocal {
			return d.directory(sig)
		}
		if err := d.member(); err != nil {
			return err
		}
	}
}

// decoder reads one archive.
type decoder struct {
	in      *counter
	br      *bufio.Reader
	lim     model.Limits
	left    int64 // bytes of data still allowed
	sink    model.Sink
	names   map[string]bool
	members []member
	inflate io.Reader
	out     int64 // bytes of data inflated so far
	buf     []byte
}

// counter counts what was read from the input.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// pos returns the position in the archive of the next byte.
func (d *decoder) pos() int64 { return d.in.n - int64(d.br.Buffered()) }

// errorf reports a fault of the archive outside of an array.
func (d *decoder) errorf(format string, args ...any) error {
	return fmt.Errorf("npz: before byte %d: %s: %w", d.pos(), fmt.Sprintf(format, args...), model.ErrFormat)
}

// read fills p from the archive.
func (d *decoder) read(p []byte, what string) error {
	if n, err := io.ReadFull(d.br, p); err != nil {
		return inputError(err, what, int64(n), int64(len(p)))
	}
	return nil
}

// inputError says where reading stopped. An end that comes too early and damaged compression are
// faults of the format.
func inputError(err error, where string, got, want int64) error {
	var (
		corrupt  flate.CorruptInputError
		internal flate.InternalError
	)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("npz: %s: truncated after %d of %d bytes: %w", where, got, want, model.ErrFormat)
	case errors.As(err, &corrupt), errors.As(err, &internal):
		return fmt.Errorf("npz: %s: damaged deflate data after %d of %d bytes: %w", where, got, want, model.ErrFormat)
	}
	return fmt.Errorf("npz: %s: reading the input: %w", where, err)
}

// member reads one member: local header, npy header, data and, where there is one, data descriptor.
func (d *decoder) member() error {
	m, err := d.local()
	if err != nil {
		return err
	}
	var (
		where = fmt.Sprintf("array %q", m.array)
		start = d.pos()
		src   = d.source(m)
	)
	h, prefix, err := readHeader(src, m.array, d.isBF16)
	if err != nil {
		return err
	}
	t := model.Tensor{Name: m.array, DType: h.dtype, Shape: h.shape}
	if err := t.Check(); err != nil {
		return fmt.Errorf("npz: %w", err)
	}
	size := t.Bytes()
	if size > d.left {
		return fmt.Errorf("npz: %s: %s needs %d bytes, of %d allowed %d are left: %w", where, t.Type(), size, d.lim.Bytes, d.left, model.ErrTooLarge)
	}
	d.left -= size
	total := uint64(len(prefix)) + uint64(size)
	switch {
	case m.known && m.usize != total:
		return fmt.Errorf("npz: %s: the archive says %d bytes, but a header of %d and %s make %d: %w", where, m.usize, len(prefix), t.Type(), total, model.ErrFormat)
	case h.fortran && !linear(h.shape):
		return fmt.Errorf("npz: %s: %s is in column-major (fortran) order; save numpy.ascontiguousarray of it: %w", where, t.Type(), model.ErrFormat)
	}
	w, err := d.sink.Tensor(t.Name, t.DType, t.Shape)
	if err != nil {
		return err
	}
	crc := crc32.ChecksumIEEE(prefix)
	if m.method == methodDeflate {
		w = &expansion{Writer: w, d: d, array: m.array}
	}
	if crc, err = d.copy(w, src, t, h.big, crc); err != nil {
		return err
	}
	if m.method == methodDeflate {
		n, err := io.ReadFull(src, make([]byte, 1))
		if n > 0 {
			return fmt.Errorf("npz: %s: inflates to more than the %d bytes that its npy header and %s make: %w", where, total, t.Type(), model.ErrTooLarge)
		}
		if !errors.Is(err, io.EOF) {
			return inputError(err, where, int64(total), int64(total))
		}
	}
	return d.finish(&m, uint64(d.pos()-start), total, crc)
}

// isBF16 asks the sink, if it can tell.
func (d *decoder) isBF16(name string) bool {
	s, ok := d.sink.(BF16Sink)
	return ok && s.IsBF16(name)
}

// source returns the reader of a member's content. Inflating reads single bytes from the buffered
// input, so that it stops right behind the last byte of the compressed data.
func (d *decoder) source(m member) io.Reader {
	if m.method == methodStore {
		if m.known {
			return io.LimitReader(d.br, int64(min(m.usize, math.MaxInt64)))
		}
		return d.br // up to what the npy header says
	}
	if r, ok := d.inflate.(flate.Resetter); ok {
		_ = r.Reset(d.br, nil) // returns nil always
	} else {
		d.inflate = flate.NewReader(d.br)
	}
	return d.inflate
}

// copy passes a tensor's bytes on and returns the checksum continued over them.
func (d *decoder) copy(w io.Writer, src io.Reader, t model.Tensor, swap bool, crc uint32) (uint32, error) {
	size := t.Bytes()
	if n := min(size, chunk); int64(len(d.buf)) < n {
		d.buf = make([]byte, n)
	}
	for todo := size; todo > 0; {
		most := min(todo, int64(len(d.buf)))
		least := min(most, minRead)
		if swap {
			least = most // whole elements
		}
		n, err := io.ReadAtLeast(src, d.buf[:most], int(least))
		if err != nil {
			return 0, inputError(err, fmt.Sprintf("array %q", t.Name), size-todo+int64(n), size)
		}
		p := d.buf[:n]
		crc = crc32.Update(crc, crc32.IEEETable, p)
		if swap {
			swapBytes(p, t.DType.Size())
		}
		if _, err := w.Write(p); err != nil {
			return 0, err
		}
		todo -= int64(n)
	}
	return crc, nil
}

// expansion refuses data that comes out far longer than it went in.
type expansion struct {
	io.Writer
	d     *decoder
	array string
}

func (e *expansion) Write(p []byte) (int, error) {
	d := e.d
	d.out += int64(len(p))
	if in := d.pos(); d.lim.Inflated > 0 && d.out > d.lim.Inflated && d.out/maxRatio > in {
		return 0, fmt.Errorf("npz: array %q: %d bytes of the archive inflate to more than %d, as no trained weights do; if these are right, save them with numpy.savez, not savez_compressed: %w", e.array, in, d.out, model.ErrTooLarge)
	}
	return e.Writer.Write(p)
}

// linear reports whether row-major and column-major order are the same.
func linear(shape []int64) bool {
	long := 0
	for _, d := range shape {
		if d == 0 {
			return true
		}
		if d > 1 {
			long++
		}
	}
	return long <= 1
}

// swapBytes turns big-endian elements into little-endian ones.
func swapBytes(p []byte, size int64) {
	switch size {
	case 2:
		for i := 0; i+2 <= len(p); i += 2 {
			binary.LittleEndian.PutUint16(p[i:], binary.BigEndian.Uint16(p[i:]))
		}
	case 4:
		for i := 0; i+4 <= len(p); i += 4 {
			binary.LittleEndian.PutUint32(p[i:], binary.BigEndian.Uint32(p[i:]))
		}
	case 8:
		for i := 0; i+8 <= len(p); i += 8 {
			binary.LittleEndian.PutUint64(p[i:], binary.BigEndian.Uint64(p[i:]))
		}
	}
}
