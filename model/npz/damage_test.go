package npz_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fedmesh/fedmesh/model"
)

var kinds = []string{"shapes.npz", "shapes.deflated.npz", "shapes.streamed.npz", "shapes.streamed.deflated.npz"}

func TestTruncationAnywhere(t *testing.T) {
	for _, kind := range kinds {
		whole := golden(t, kind)
		for n := range whole {
			if _, err := decode(bytes.NewReader(whole[:n])); !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), "truncated") {
				t.Fatalf("%s cut at %d: %v", kind, n, err)
			}
		}
	}
}

func TestTrailingBytes(t *testing.T) {
	for _, kind := range kinds {
		for _, more := range []string{"x", "\x00", "PK\x03\x04", string(golden(t, kind))} {
			if _, err := decode(strings.NewReader(string(golden(t, kind)) + more)); !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), "bytes follow") {
				t.Errorf("%s and %.4q: %v", kind, more, err)
			}
		}
	}
}

// Every byte of an archive is covered by some check, or does not matter to what is read.
func TestEveryDamagedByteIsNoticed(t *testing.T) {
	for _, kind := range kinds {
		whole := golden(t, kind)
		want, err := decode(bytes.NewReader(whole))
		if err != nil {
			t.Fatal(err)
		}
		missed := 0
		for i := range whole {
			b := bytes.Clone(whole)
			b[i] ^= 1 << (i % 8)
			got, err := decode(bytes.NewReader(b))
			if err == nil && !bytes.Equal(got, want) {
				t.Errorf("%s: bit %d of byte %d of %d: read as something else", kind, i%8, i, len(b))
			}
			if err == nil {
				missed++
			}
		}
		// Versions, times and attributes, about 24 bytes per array.
		if most := 30 * bytes.Count(whole, []byte("PK\x01\x02")); missed > most {
			t.Errorf("%s: %d damages were not noticed, expected at most %d", kind, missed, most)
		}
	}
}

func TestErrorsOfTheInputPass(t *testing.T) {
	fault := errors.New("connection reset")
	for _, kind := range kinds {
		whole := golden(t, kind)
		for n := range whole {
			_, err := decode(io.MultiReader(bytes.NewReader(whole[:n]), iotest.ErrReader(fault)))
			if !errors.Is(err, fault) || errors.Is(err, model.ErrFormat) {
				t.Fatalf("%s fault at %d: %v", kind, n, err)
			}
		}
	}
}

func TestRecordsThatDisagree(t *testing.T) {
	le := binary.LittleEndian
	stored := func() []byte {
		return archive(t, zip.Store, entry{"a.npy", f4("(1,)", "1234")}, entry{"b.npy", f4("(1,)", "5678")})
	}
	deflated := func() []byte { return archive(t, zip.Deflate, entry{"a.npy", f4("(1,)", "1234")}) }
	central := func(b []byte) []byte { return b[bytes.Index(b, []byte("PK\x01\x02")):] }
	end := func(b []byte) []byte { return b[bytes.Index(b, []byte("PK\x05\x06")):] }
	for name, c := range map[string]struct {
		b    []byte
		f    func(b []byte)
		want string
	}{
		"encrypted":              {stored(), func(b []byte) { b[6] |= 1 }, `array "a": encrypted`},
		"method":                 {stored(), func(b []byte) { b[8] = 12 }, `array "a": compression method 12`},
		"stored sizes":           {stored(), func(b []byte) { b[18]++ }, `array "a": stored, but of`},
		"data":                   {stored(), func(b []byte) { b[bytes.Index(b, []byte("1234"))]++ }, `array "a": the checksum in the local header`},
		"deflated data":          {deflated(), func(b []byte) { b[40] ^= 0x40 }, `array "a"`},
		"descriptor":             {deflated(), func(b []byte) { b[bytes.Index(b, []byte("PK\x07\x08"))+4]++ }, `array "a": the data descriptor disagrees`},
		"central name":           {stored(), func(b []byte) { central(b)[46] = 'x' }, `names "x.npy" where the archive has "a.npy"`},
		"central checksum":       {stored(), func(b []byte) { central(b)[16]++ }, `array "a": the checksum in the central directory`},
		"central size":           {stored(), func(b []byte) { central(b)[24]++ }, `array "a": the central directory says`},
		"central packed size":    {stored(), func(b []byte) { central(b)[20]++ }, `array "a": the central directory says`},
		"central offset":         {stored(), func(b []byte) { central(b)[42]++ }, `array "a": the central directory says it is at byte 1, it is at 0`},
		"central method":         {stored(), func(b []byte) { central(b)[10] = 8 }, `array "a": the central directory says method 8`},
		"central entry lacks":    {stored(), func(b []byte) { copy(central(b), "PK\x05\x06") }, "lists 0 of 2 arrays"},
		"central entry too many": {stored(), func(b []byte) { copy(end(b), "PK\x01\x02") }, "no end record"},
		"end count":              {stored(), func(b []byte) { end(b)[8]++; end(b)[10]++ }, "the end record says 3 arrays"},
		"end parts":              {stored(), func(b []byte) { end(b)[8]++ }, "several parts"},
		"end size":               {stored(), func(b []byte) { end(b)[12]++ }, "the end record says 2 arrays"},
		"end offset":             {stored(), func(b []byte) { end(b)[16]++ }, "the end record says 2 arrays"},
		"end comment":            {stored(), func(b []byte) { end(b)[20]++ }, "comment of the archive: truncated"},
		"end saturated":          {stored(), func(b []byte) { le.PutUint32(end(b)[16:], 1<<32-1) }, "the end record says 2 arrays"},
		"between":                {stored(), func(b []byte) { b[bytes.LastIndex(b, []byte("PK\x03\x04"))] = 'x' }, "no zip record"},
	} {
		c.f(c.b)
		if _, err := decode(bytes.NewReader(c.b)); !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestExtraFields(t *testing.T) {
	plain := archive(t, zip.Store, entry{"a.npy", f4("(1,)", "1234")})
	with := func(extra string) []byte { // in the local header
		b := bytes.Clone(plain)
		binary.LittleEndian.PutUint16(b[28:], uint16(len(extra)))
		b = bytes.Join([][]byte{b[:35], []byte(extra), b[35:]}, nil)
		end := b[bytes.Index(b, []byte("PK\x05\x06")):]
		binary.LittleEndian.PutUint32(end[16:], binary.LittleEndian.Uint32(end[16:])+uint32(len(extra)))
		return b
	}
	want, err := decode(bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	for extra, ok := range map[string]bool{
		"UT\x02\x00xx":                     true,
		"\x01\x00\x00\x00":                 true,
		"\x01\x00\x00\x00\x01\x00\x00\x00": false,
		"UT\x03\x00xx":                     false,
		"UT\x01":                           false,
	} {
		got, err := decode(bytes.NewReader(with(extra)))
		if ok && (err != nil || !bytes.Equal(got, want)) || !ok && !errors.Is(err, model.ErrFormat) {
			t.Errorf("%q: %v", extra, err)
		}
	}
	b := with("\x01\x00\x04\x00xxxx")
	binary.LittleEndian.PutUint32(b[22:], 1<<32-1)
	if _, err := decode(bytes.NewReader(b)); !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), "zip64 size is missing") {
		t.Errorf("short zip64: %v", err)
	}
}

func TestComment(t *testing.T) {
	b := golden(t, "shapes.npz")
	b[len(b)-2] = 5
	if _, err := decode(strings.NewReader(string(b) + "hello")); err != nil {
		t.Errorf("with a comment: %v", err)
	}
}
