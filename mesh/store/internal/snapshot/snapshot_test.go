package snapshot_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/mesh/store/internal/segment"
	"github.com/fedmesh/fedmesh/mesh/store/internal/snapshot"
)

// image is a file in memory.
type image struct {
	b    []byte
	left int // writes until one fails; negative is never
}

var errFull = errors.New("full")

func (f *image) WriteAt(p []byte, off int64) (int, error) {
	if f.left == 0 {
		return 0, errFull
	}
	f.left--
	if end := int(off) + len(p); end > len(f.b) {
		f.b = append(f.b, make([]byte, end-len(f.b))...)
	}
	return copy(f.b[off:], p), nil
}

func encode(t interface{ Fatal(...any) }, pos uint64, salt uint32, chunk int, parts ...[]byte) []byte {
	f := &image{left: -1}
	w := snapshot.NewWriter(f, pos, salt, chunk)
	for _, p := range parts {
		if n, err := w.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	if n, err := w.Finish(); n != int64(len(f.b)) || err != nil {
		t.Fatal(n, len(f.b), err)
	}
	return f.b
}

func decode(file []byte) (pos uint64, payload []byte, err error) {
	r, err := snapshot.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return 0, nil, err
	}
	payload, err = io.ReadAll(r)
	return r.Pos(), payload, err
}

// damaged reports whether err is for damage that lies in the first n bytes.
func damaged(err error, n int) bool {
	var d *snapshot.Damage
	return errors.As(err, &d) && d.Offset >= 0 && d.Offset <= int64(n)
}

// The bytes come from a few lines of Python that follow package store's description.
func TestFormat(t *testing.T) {
	got := encode(t, 0x0102, 0xa1b2c3d4, 2, []byte("abc"))
	want := []byte(wantFormat)
	if !bytes.Equal(got, want) {
		t.Fatalf("the format has changed:\n%q\n%q", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 50)).Draw(t, "parts")
		pos, salt := rapid.Uint64().Draw(t, "pos"), rapid.Uint32().Draw(t, "salt")
		file := encode(t, pos, salt, rapid.IntRange(1, 60).Draw(t, "chunk"), parts...)
		want := slices.Concat(parts...)
		gotPos, got, err := decode(file)
		if err != nil || gotPos != pos || !bytes.Equal(got, want) {
			t.Fatal(gotPos, got, err)
		}
		r, err := snapshot.NewReader(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		some := rapid.IntRange(0, len(want)).Draw(t, "some")
		got = make([]byte, some)
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want[:some]) {
			t.Fatal(got, err)
		}
		if err := errors.Join(r.Check(), r.Err()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestReaderIsAReader(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), 20)
	file := encode(t, 1, 2, 7, want)
	r, err := snapshot.NewReader(bytes.NewReader(file), int64(len(file)))
	if err == nil {
		err = iotest.TestReader(r, want)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// No damage goes unseen, and no byte that was not written is given out before it is seen.
func TestDamage(t *testing.T) {
	want := []byte("a snapshot of some chunks")
	whole := encode(t, 9, 0x5eed, 8, want)
	check := func(what string, n int, file []byte) {
		t.Helper()
		_, got, err := decode(file)
		if !damaged(err, n) || !bytes.HasPrefix(want, got) {
			t.Errorf("%s: read %q, %v", what, got, err)
		}
		r, err := snapshot.NewReader(bytes.NewReader(file), int64(len(file)))
		if err == nil {
			err = r.Check()
		}
		if !damaged(err, n) {
			t.Errorf("%s: checked: %v", what, err)
		}
	}
	for bit := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		check("flipped bit", bit/8, b)
	}
	for n := range whole {
		check("cut", n, whole[:n])
		check("cut and filled with zeros", n, append(bytes.Clone(whole[:n]), make([]byte, len(whole)-n)...))
	}
	check("longer", 0, append(bytes.Clone(whole), 0))
	const chunk = segment.RecordOverhead + 8
	first, second := whole[segment.HeaderSize:][:chunk], whole[segment.HeaderSize+chunk:][:chunk]
	check("swapped chunks", segment.HeaderSize, slices.Concat(whole[:segment.HeaderSize], second, first, whole[segment.HeaderSize+2*chunk:]))
	other := encode(t, 9, 0x5eed+1, 8, want)
	check("chunk of another snapshot", segment.HeaderSize,
		slices.Concat(whole[:segment.HeaderSize], other[segment.HeaderSize:][:chunk], whole[segment.HeaderSize+chunk:]))
}

// A header may say what it likes, its checksum being right.
func TestSizesThatCannotBe(t *testing.T) {
	for _, size := range []int64{0, -1, 1 << 62, segment.HeaderSize, snapshot.Overhead - 1} {
		h := snapshot.Header{Pos: 1, Size: size, Salt: 1}
		for _, have := range []int64{size, segment.HeaderSize, 100} {
			b := append(h.Encode(), make([]byte, 68)...)
			r, err := snapshot.NewReader(bytes.NewReader(b), have)
			if err == nil {
				err = r.Check()
			}
			if err == nil {
				t.Errorf("size %d of %d is accepted", size, have)
			}
		}
	}
}

func TestChunkTooLong(t *testing.T) {
	h := snapshot.Header{Pos: 1, Salt: 3}
	file := make([]byte, segment.HeaderSize)
	file = segment.Header{Salt: h.Salt}.AppendRecord(file, int64(len(file)), make([]byte, snapshot.MaxChunk+1))
	file = segment.Header{Salt: h.Salt}.AppendRecord(file, int64(len(file)), nil)
	h.Size = int64(len(file))
	copy(file, h.Encode())
	if _, got, err := decode(file); !damaged(err, segment.HeaderSize) || len(got) > 0 {
		t.Fatal(len(got), err)
	}
}

func TestWriteErrorsStay(t *testing.T) {
	for left := range 5 {
		f := &image{left: left}
		w := snapshot.NewWriter(f, 1, 1, 4)
		_, err := w.Write([]byte("ten bytes!"))
		if (err != nil) != (left < 2) {
			t.Fatal(left, err)
		}
		if err != nil {
			f.left = -1 // that the disk has room again must not leave a hole
		}
		if n, again := w.Write([]byte("x")); err != nil && (n != 0 || !errors.Is(again, errFull)) {
			t.Fatal(n, again)
		}
		if _, err := w.Finish(); !errors.Is(err, errFull) {
			t.Fatal(left, err)
		}
		if _, _, err := decode(f.b); err == nil {
			t.Fatal("an unfinished snapshot is one")
		}
	}
}

type failingReader struct {
	io.ReaderAt
	from int64
	err  error
}

func (f failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

func TestReadErrorsAreNotDamage(t *testing.T) {
	file := encode(t, 1, 1, 4, []byte("ten bytes!"))
	size := int64(len(file))
	for from := range size {
		for got, want := range map[error]error{io.ErrClosedPipe: io.ErrClosedPipe, io.EOF: io.ErrUnexpectedEOF} {
			r, err := snapshot.NewReader(failingReader{bytes.NewReader(file), from, got}, size)
			if from < segment.HeaderSize && errors.Is(got, io.EOF) {
				continue // cut, which is damage
			}
			if err == nil {
				_, err = io.Copy(io.Discard, r)
			}
			if !errors.Is(err, want) {
				t.Fatal(from, err)
			}
		}
	}
}

func FuzzReader(f *testing.F) {
	whole := encode(f, 7, 0x5eed, 5, []byte("some chunks"))
	f.Add(whole)
	f.Add(encode(f, 1, 0, 1, nil))
	f.Add(whole[:len(whole)-1])
	f.Fuzz(func(t *testing.T, file []byte) {
		r, err := snapshot.NewReader(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			if !damaged(err, len(file)) {
				t.Fatal(err)
			}
			return
		}
		// What is read is exactly what the file says, chunk by chunk, up to where reading stopped.
		again := bytes.Clone(file[:segment.HeaderSize])
		salt := segment.Header{Salt: uint32(file[24]) | uint32(file[25])<<8 | uint32(file[26])<<16 | uint32(file[27])<<24}
		buf := make([]byte, len(file))
		for {
			n, err := r.Read(buf)
			if err != nil {
				if errors.Is(err, io.EOF) {
					again = salt.AppendRecord(again, int64(len(again)), nil)
					if !bytes.Equal(again, file) {
						t.Fatalf("%x reads as %x", file, again)
					}
				} else if !damaged(err, len(file)) || !bytes.HasPrefix(file, again) {
					t.Fatal(err)
				}
				return
			}
			again = salt.AppendRecord(again, int64(len(again)), buf[:n])
		}
	})
}

const wantFormat = "\x66\x6d\x73\x6e\x61\x70\x00\x01\x02\x01\x00\x00\x00\x00\x00\x00" +
	"\x47\x00\x00\x00\x00\x00\x00\x00\xd4\xc3\xb2\xa1\x74\x3e\x8c\x26" +
	"\x02\x00\x00\x00\x56\x47\x04\x09\xd2\x3f\x0e\xde\x61\x62" +
	"\x01\x00\x00\x00\xbe\xe1\x60\x42\xc8\x9e\xc4\x3e\x63" +
	"\x00\x00\x00\x00\xe5\x17\xba\x72\xe5\x17\xba\x72"
