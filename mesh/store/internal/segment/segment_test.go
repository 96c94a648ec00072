package segment_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/mesh/store/internal/segment"
)

// encode returns a segment of recs and where each record starts, the end included.
func encode(h segment.Header, recs ...[]byte) (file []byte, starts []int64) {
	file = h.Encode()
	for _, rec := range recs {
		starts = append(starts, int64(len(file)))
		file = h.AppendRecord(file, int64(len(file)), rec)
	}
	return file, append(starts, int64(len(file)))
}

// readAll returns the records up to the first error and the Reader.
func readAll(file []byte, h segment.Header) ([][]byte, *segment.Reader, error) {
	r := segment.NewReader(bytes.NewReader(file), int64(len(file)), h)
	var recs [][]byte
	for {
		rec, err := r.Next()
		if err != nil {
			return recs, r, err
		}
		recs = append(recs, bytes.Clone(rec))
	}
}

// The bytes come from a few lines of Python that follow package store's description.
func TestFormat(t *testing.T) {
	h := segment.Header{Number: 2, First: 0x0102, Salt: 0xa1b2c3d4}
	got, _ := encode(h, []byte("abc"))
	want := []byte("fmlog\x00\x00\x01" +
		"\x02\x00\x00\x00\x00\x00\x00\x00" +
		"\x02\x01\x00\x00\x00\x00\x00\x00" +
		"\xd4\xc3\xb2\xa1" + "\xa6\x67\x5d\x86" +
		"\x03\x00\x00\x00" + "\xee\xed\x41\xd4" + "\x6c\x80\xde\x7a" + "abc")
	if !bytes.Equal(got, want) {
		t.Fatalf("the format has changed:\n%x\n%x", got, want)
	}
}

func TestParseHeader(t *testing.T) {
	h := segment.Header{Number: 7, First: 1 << 40, Salt: 3}
	b := h.Encode()
	if got, err := segment.ParseHeader(append(b, 1, 2, 3)); err != nil || got != h {
		t.Fatal(got, err)
	}
	for n := range b {
		if _, err := segment.ParseHeader(b[:n]); !errors.Is(err, segment.ErrHeader) {
			t.Fatal(n, err)
		}
		bad := bytes.Clone(b)
		bad[n] ^= 0x10
		if _, err := segment.ParseHeader(bad); !errors.Is(err, segment.ErrHeader) {
			t.Fatal(n, err)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := segment.Header{Salt: rapid.Uint32().Draw(t, "salt")}
		recs := rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 1, 100)).Draw(t, "recs")
		file, _ := encode(h, recs...)
		got, r, err := readAll(file, h)
		if !errors.Is(err, io.EOF) || r.Offset() != int64(len(file)) || !slices.EqualFunc(got, recs, bytes.Equal) {
			t.Fatal(got, r.Offset(), err)
		}
	})
}

// After any damage to one record the ones before are read, and Find leads to the next.
func TestDamage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := segment.Header{Salt: rapid.Uint32().Draw(t, "salt")}
		recs := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 50), 1, 6).Draw(t, "recs")
		file, starts := encode(h, recs...)
		at := rapid.IntRange(0, len(recs)-1).Draw(t, "record")
		bad := file[starts[at]:starts[at+1]]
		bad[rapid.IntRange(0, len(bad)-1).Draw(t, "byte")] ^= byte(rapid.IntRange(1, 255).Draw(t, "mask"))

		got, r, err := readAll(file, h)
		var damage *segment.Damage
		if !errors.As(err, &damage) || damage.Offset != starts[at] || r.Offset() != starts[at] {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, recs[:at], bytes.Equal) {
			t.Fatal(got)
		}
		next, found, err := r.Find(damage.Offset + 1)
		if err != nil || found != (at < len(recs)-1) || found && next != starts[at+1] {
			t.Fatal(next, found, err)
		}
	})
}

// Find crosses the bounds of its window and of large payloads.
func TestFindFarAway(t *testing.T) {
	h := segment.Header{Salt: 1}
	for n := 65500; n < 65540; n++ { // the next record's head lies across the bound for some
		file, starts := encode(h, make([]byte, n), bytes.Repeat([]byte{1}, 100_000), []byte("x"))
		file[segment.HeaderSize] ^= 1
		_, r, err := readAll(file, h)
		if err == nil {
			t.Fatal("no damage")
		}
		if at, found, err := r.Find(segment.HeaderSize + 1); err != nil || !found || at != starts[1] {
			t.Fatal(n, at, found, err)
		}
		file[starts[2]-1] ^= 1 // now the second is damaged as well
		if at, found, err := r.Find(segment.HeaderSize + 1); err != nil || !found || at != starts[2] {
			t.Fatal(n, at, found, err)
		}
		file[len(file)-1] ^= 1
		if at, found, err := r.Find(segment.HeaderSize + 1); err != nil || found {
			t.Fatal(n, at, found, err)
		}
	}
}

func TestRecordIsValidInOnePlaceOnly(t *testing.T) {
	h := segment.Header{Salt: 1}
	file, starts := encode(h, []byte("aaa"), []byte("bbb"))
	swapped := slices.Concat(file[:starts[0]], file[starts[1]:], file[starts[0]:starts[1]])
	other := h
	other.Salt = 2
	for _, c := range []struct {
		file []byte
		h    segment.Header
	}{{swapped, h}, {file, other}} {
		var damage *segment.Damage
		if recs, _, err := readAll(c.file, c.h); !errors.As(err, &damage) || len(recs) != 0 {
			t.Fatal(recs, err)
		}
	}
}

type failingReader struct{ err error }

func (f failingReader) ReadAt([]byte, int64) (int, error) { return 0, f.err }

func TestReadErrorsAreNotDamage(t *testing.T) {
	for _, want := range []error{io.ErrClosedPipe, io.ErrUnexpectedEOF} {
		src := failingReader{want}
		if errors.Is(want, io.ErrUnexpectedEOF) {
			src.err = io.EOF // a file that is shorter than it was said to be
		}
		r := segment.NewReader(src, 1000, segment.Header{})
		if _, err := r.Next(); !errors.Is(err, want) {
			t.Fatal(err)
		}
	}
	r := segment.NewReader(failingReader{io.ErrClosedPipe}, 1000, segment.Header{})
	if _, _, err := r.Find(0); !errors.Is(err, io.ErrClosedPipe) {
		t.Fatal(err)
	}
}

func FuzzReader(f *testing.F) {
	h := segment.Header{Number: 1, First: 1, Salt: 0x5eed}
	whole, starts := encode(h, []byte("a"), []byte("record"), bytes.Repeat([]byte{0xff}, 40))
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add(append(whole[:starts[1]:starts[1]], make([]byte, 64)...))
	f.Add(append(bytes.Clone(whole), 0xff, 0xff, 0xff, 0x00))
	f.Fuzz(func(t *testing.T, file []byte) {
		h, err := segment.ParseHeader(file)
		if err != nil {
			return
		}
		recs, r, err := readAll(file, h)
		// What is read is exactly what the file says, up to where reading stopped.
		again, _ := encode(h, recs...)
		if !bytes.Equal(again, file[:r.Offset()]) {
			t.Fatalf("%x reads as %x", file, again)
		}
		var damage *segment.Damage
		switch {
		case errors.Is(err, io.EOF):
			if r.Offset() != int64(len(file)) {
				t.Fatalf("end at %d of %d", r.Offset(), len(file))
			}
		case errors.As(err, &damage):
			at, found, err := r.Find(damage.Offset + 1)
			if err != nil || found && (at <= damage.Offset || at >= int64(len(file))) {
				t.Fatal(at, found, err)
			}
		default:
			t.Fatal(err)
		}
	})
}
