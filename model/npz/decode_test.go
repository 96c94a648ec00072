package npz_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/internal/modeltest"
	"github.com/fedmesh/fedmesh/model/npz"
)

func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decode(r io.Reader) ([]byte, error) {
	sink := modeltest.Collect{BF16: true}
	if err := npz.Decode(r, model.Limits{}, &sink); err != nil {
		return nil, err
	}
	_, file, err := sink.Canonical()
	return file, err
}

func TestGoldenFilesHoldWhatSafetensorsHolds(t *testing.T) {
	for _, name := range []string{"dtypes", "shapes", "padding", "many", "unicode", "bigendian"} {
		want := golden(t, name+".safetensors")
		for _, kind := range []string{".npz", ".deflated.npz", ".streamed.npz", ".streamed.deflated.npz"} {
			if kind != ".npz" && name == "bigendian" {
				continue
			}
			b := golden(t, name+kind)
			for how, r := range map[string]io.Reader{
				"at once":  bytes.NewReader(b),
				"in bytes": iotest.OneByteReader(bytes.NewReader(b)),
				"with EOF": iotest.DataErrReader(bytes.NewReader(b)),
			} {
				if got, err := decode(r); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s%s %s: %v, equal %v", name, kind, how, err, bytes.Equal(got, want))
				}
			}
		}
	}
}

func TestGoldenFilesRefused(t *testing.T) {
	for name, want := range map[string]string{
		"object.npz":     `array "bad": npy header: dtype "|O": arrays of Python objects are refused`,
		"structured.npz": `array "bad": npy header: structured arrays`,
		"complex.npz":    `array "bad": npy header: dtype "<c8": complex`,
		"text.npz":       `array "bad": npy header: dtype "<U2": text`,
		"longdouble.npz": `array "bad": npy header: dtype "<f16": not supported`,
		"fortran.npz":    `array "a": F32 [2,3] is in column-major (fortran) order; save numpy.ascontiguousarray`,
		"names.npz":      `"../evil" contains ".."`,
		"torch.npz":      `member "archive/data.pkl" is no array`,
	} {
		if _, err := decode(bytes.NewReader(golden(t, name))); !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	err := npz.Decode(bytes.NewReader(golden(t, "dtypes.npz")), model.Limits{}, new(modeltest.Collect))
	if !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), "bfloat16") {
		t.Errorf("bfloat16 without a hint: %v", err)
	}
}

// npy makes an npy file from a header's dictionary and data.
func npy(dict, data string) string {
	b := binary.LittleEndian.AppendUint16([]byte("\x93NUMPY\x01\x00"), uint16(len(dict)+1))
	return string(b) + dict + "\n" + data
}

func f4(shape, data string) string {
	return npy("{'descr': '<f4', 'fortran_order': False, 'shape': "+shape+", }", data)
}

type entry struct{ name, content string }

// archive makes a zip file; Go's writer uses data descriptors for deflated members.
func archive(t testing.TB, method uint16, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: method}
		var f io.Writer
		var err error
		if method == zip.Store {
			h.CRC32 = crc32.ChecksumIEEE([]byte(e.content))
			h.CompressedSize64, h.UncompressedSize64 = uint64(len(e.content)), uint64(len(e.content))
			f, err = w.CreateRaw(h)
		} else {
			f, err = w.CreateHeader(h)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestArchivesOfOthers(t *testing.T) {
	var want []byte
	for _, method := range []uint16{zip.Store, zip.Deflate} {
		b := archive(t, method, entry{"a.npy", f4("(1,)", "1234")}, entry{"b.npy.npy", f4("()", "5678")})
		got, err := decode(bytes.NewReader(b))
		if err != nil || !bytes.Contains(got, []byte(`"b.npy"`)) || !bytes.HasSuffix(got, []byte("12345678")) {
			t.Errorf("method %d: %v, %q", method, err, got)
		}
		if want != nil && !bytes.Equal(got, want) {
			t.Errorf("method %d differs", method)
		}
		want = got
	}
}

func TestNpyHeaders(t *testing.T) {
	good := f4("(1,)", "1234")
	for name, c := range map[string]struct {
		npy  string
		is   error
		want string
	}{
		"plain":           {good, nil, ""},
		"other order":     {npy(`{"shape":(1,),'fortran_order':False,'descr':'<f4'}`, "1234"), nil, ""},
		"version 2":       {"\x93NUMPY\x02\x00" + strings.Replace(good[8:], "\x00", "\x00\x00\x00", 1), nil, ""},
		"version 3":       {"\x93NUMPY\x03\x00" + strings.Replace(good[8:], "\x00", "\x00\x00\x00", 1), nil, ""},
		"fortran 1-D":     {npy("{'descr': '<f4', 'fortran_order': True, 'shape': (1,)}", "1234"), nil, ""},
		"version 4":       {"\x93NUMPY\x04\x00" + good[8:], model.ErrFormat, "npy version 4.0"},
		"version 1.1":     {"\x93NUMPY\x01\x01" + good[8:], model.ErrFormat, "npy version 1.1"},
		"huge header":     {"\x93NUMPY\x02\x00\x00\x00\x00\x40" + good[10:], model.ErrTooLarge, "npy header of 1073741824 bytes"},
		"long header":     {"\x93NUMPY\x01\x00\xff\xff" + good[10:], model.ErrFormat, "npy header: truncated"},
		"no magic":        {strings.Repeat("x", 100), model.ErrFormat, "not an npy file"},
		"nothing":         {"", model.ErrFormat, "truncated after 0 of 10"},
		"empty dict":      {npy("{}", ""), model.ErrFormat, `"descr" is missing`},
		"no dict":         {npy("[]", ""), model.ErrFormat, "no dictionary"},
		"not closed":      {npy("{'descr': '<f4'", ""), model.ErrFormat, "no comma or brace"},
		"no shape":        {npy("{'descr': '<f4', 'fortran_order': False}", ""), model.ErrFormat, "\"shape\" is missing"},
		"twice":           {npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}", "1234"), model.ErrFormat, "twice"},
		"unknown key":     {npy("{'descr': '<f4', 'x': False, 'shape': ()}", "1234"), model.ErrFormat, `unknown key "x"`},
		"no colon":        {npy("{'descr' '<f4'}", ""), model.ErrFormat, "no colon"},
		"text behind":     {npy("{'descr': '<f4', 'fortran_order': False, 'shape': ()} x", "1234"), model.ErrFormat, "behind the dictionary"},
		"escape":          {npy(`{'descr': '\x3cf4', 'fortran_order': False, 'shape': ()}`, "1234"), model.ErrFormat, "quotes"},
		"not a bool":      {npy("{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", "1234"), model.ErrFormat, "True or False"},
		"call":            {npy("{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os')}", ""), model.ErrFormat, "must be a tuple"},
		"list":            {f4("[1]", "1234"), model.ErrFormat, "must be a tuple"},
		"number":          {f4("(1)", "1234"), model.ErrFormat, "comma"},
		"empty dimension": {f4("(,)", "1234"), model.ErrFormat, "expected a dimension"},
		"long":            {f4("(1L,)", "1234"), model.ErrFormat, "comma"},
		"fraction":        {f4("(1.0,)", "1234"), model.ErrFormat, "comma"},
		"leading zero":    {f4("(01,)", "1234"), model.ErrFormat, "expected a dimension"},
		"negative":        {f4("(-1,)", "1234"), model.ErrFormat, "negative dimension"},
		"33 dimensions":   {f4("("+strings.Repeat("1,", 33)+")", "1234"), model.ErrFormat, "more than 32"},
		"beyond 64 bits":  {f4("(99999999999999999999,)", "1234"), model.ErrTooLarge, "beyond 64 bits"},
		"overflow":        {f4("(4294967296, 4294967296)", ""), model.ErrTooLarge, "overflows"},
		"overflow to 4":   {f4("(4611686018427387905, 4)", "1234"), model.ErrTooLarge, "overflows"},
		"beyond limit":    {f4("(1000000000, 3)", "1234"), model.ErrTooLarge, "needs 12000000000 bytes"},
		"too little data": {f4("(2,)", "1234"), model.ErrFormat, "the archive says"},
		"too much data":   {f4("(1,)", "12345"), model.ErrFormat, "the archive says"},
		"native order":    {npy("{'descr': '=f4', 'fortran_order': False, 'shape': (1,)}", "1234"), model.ErrFormat, "unclear byte order"},
		"no order":        {npy("{'descr': '|f4', 'fortran_order': False, 'shape': (1,)}", "1234"), model.ErrFormat, "unclear byte order"},
		"f3":              {npy("{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}", "123"), model.ErrFormat, "not supported"},
		"f04":             {npy("{'descr': '<f04', 'fortran_order': False, 'shape': (1,)}", "1234"), model.ErrFormat, "not supported"},
		"short":           {npy("{'descr': '<', 'fortran_order': False, 'shape': (1,)}", "1234"), model.ErrFormat, "not understood"},
		"object":          {npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", "1234"), model.ErrFormat, "objects"},
		"void 4":          {npy("{'descr': '|V4', 'fortran_order': False, 'shape': (1,)}", "1234"), model.ErrFormat, "raw bytes"},
		"date":            {npy("{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (1,)}", "12345678"), model.ErrFormat, "dates"},
		"subarray":        {npy("{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (1,)}", "12345678"), model.ErrFormat, "structured"},
	} {
		want, err := decode(bytes.NewReader(archive(t, zip.Store, entry{"w.npy", good})))
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(bytes.NewReader(archive(t, zip.Store, entry{"w.npy", c.npy})))
		switch {
		case c.is == nil && (err != nil || !bytes.Equal(got, want)):
			t.Errorf("%s: %v, %q", name, err, got)
		case c.is != nil && (!errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `"w"`)):
			t.Errorf("%s: got %v; want %v with %q", name, err, c.is, c.want)
		}
	}
}

// Where at most one dimension is longer than one, both orders are the same.
func TestColumnMajorLines(t *testing.T) {
	for shape, ok := range map[string]bool{"()": true, "(6,)": true, "(1, 6, 1)": true, "(2, 3)": false, "(2, 1, 3)": false, "(0, 5, 5)": true} {
		data := "123456123456123456123456"
		switch shape {
		case "()":
			data = "1234"
		case "(0, 5, 5)":
			data = ""
		}
		c, err := decode(bytes.NewReader(archive(t, zip.Store, entry{"w.npy", f4(shape, data)})))
		if err != nil {
			t.Fatal(err)
		}
		f, err := decode(bytes.NewReader(archive(t, zip.Store, entry{"w.npy", strings.Replace(f4(shape, data), "False", "True ", 1)})))
		if ok && (err != nil || !bytes.Equal(c, f)) || !ok && !errors.Is(err, model.ErrFormat) {
			t.Errorf("%s: %v", shape, err)
		}
	}
}

func TestNamesRefused(t *testing.T) {
	for name, want := range map[string]string{
		"../w.npy": `contains ".."`, "/w.npy": "absolute", ".npy": "is empty", "a\\w.npy": `contains '\\'`,
		"w\x00.npy": `contains '\x00'`, "w": "does not end in .npy", "w.npy/x": "does not end in .npy", "w.NPY": "does not end in .npy",
		"": "does not end in .npy", "\xff.npy": "not valid UTF-8", strings.Repeat("w", 513) + ".npy": "name of 517 bytes", "__metadata__.npy": "reserved",
	} {
		b := archive(t, zip.Store, entry{name, f4("(1,)", "1234")})
		if _, err := decode(bytes.NewReader(b)); !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: got %v, want %q", name, err, want)
		}
	}
	b := archive(t, zip.Store, entry{"w.npy", f4("(1,)", "1234")}, entry{"w.npy", f4("(1,)", "1234")})
	if _, err := decode(bytes.NewReader(b)); !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), `two arrays are named "w"`) {
		t.Errorf("twice: %v", err)
	}
	// Not marked as UTF-8.
	b = bytes.ReplaceAll(archive(t, zip.Store, entry{"é.npy", f4("(1,)", "1234")}), []byte{0, 8, 0, 0}, []byte{0, 0, 0, 0})
	if _, err := decode(bytes.NewReader(b)); !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), "not marked as UTF-8") {
		t.Errorf("code page: %v", err)
	}
}

func TestBombIsStoppedEarly(t *testing.T) {
	// It claims an array of 4 bytes and inflates to 10 GiB: deflate refers back at most 32 KiB, so a block of
	// zeros behind zeros can be repeated as it is.
	var block, packed, bomb bytes.Buffer
	f, err := flate.NewWriter(&packed, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	_, _ = io.WriteString(f, f4("(1,)", ""))
	_, _ = f.Write(zeros)
	_ = f.Flush()
	start := packed.Len()
	_, _ = f.Write(zeros)
	_ = f.Flush()
	block.Write(packed.Bytes()[start:])
	for range 10 << 10 {
		packed.Write(block.Bytes())
	}
	w := zip.NewWriter(&bomb)
	m, err := w.CreateRaw(&zip.FileHeader{
		Name: "w.npy", Method: zip.Deflate, Flags: 8,
		CompressedSize64: uint64(packed.Len()), UncompressedSize64: 10 << 30,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = m.Write(packed.Bytes())
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if bomb.Len() > 20<<20 {
		t.Fatalf("a bomb of %d bytes", bomb.Len())
	}
	in := &counter{r: bytes.NewReader(bomb.Bytes())}
	if _, err := decode(in); !errors.Is(err, model.ErrTooLarge) || !strings.Contains(err.Error(), `array "w": inflates to more than`) {
		t.Errorf("lying: %v", err)
	}
	if in.n > 128<<10 {
		t.Errorf("read %d of %d bytes", in.n, bomb.Len())
	}

	// An honest one is refused by its header.
	in = &counter{r: bytes.NewReader(archive(t, zip.Deflate, entry{"w.npy", f4("(2684354560,)", strings.Repeat("\x00", 1<<20))}))}
	var sink modeltest.Collect
	err = npz.Decode(in, model.Limits{}, &sink)
	if !errors.Is(err, model.ErrTooLarge) || !strings.Contains(err.Error(), `array "w": F32 [2684354560] needs 10737418240 bytes`) || len(sink.Tensors) > 0 {
		t.Errorf("honest: %v", err)
	}
}

type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestLimits(t *testing.T) {
	b := archive(t, zip.Store, entry{"a.npy", f4("(2,)", "12341234")}, entry{"b.npy", f4("(2,)", "12341234")})
	for _, c := range []struct {
		lim  model.Limits
		want string
	}{
		{model.Limits{Bytes: 16, Tensors: 2}, ""},
		{model.Limits{Bytes: 15}, `array "b": F32 [2] needs 8 bytes, of 15 allowed 7 are left`},
		{model.Limits{Tensors: 1}, "more than 1 arrays"},
	} {
		err := npz.Decode(bytes.NewReader(b), c.lim, new(modeltest.Collect))
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, model.ErrTooLarge) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c.lim, err)
		}
	}
}

// TestInflated checks that long data that deflated to next to nothing is refused, where the limits say so, and no other.
func TestInflated(t *testing.T) {
	zeros := strings.Repeat("\x00", 4<<20)
	noise := make([]byte, 4<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	shape := fmt.Sprintf("(%d,)", len(zeros)/4)
	packed := archive(t, zip.Deflate, entry{"a.npy", f4("(2,)", "12341234")}, entry{"b.npy", f4(shape, zeros)})
	for _, c := range []struct {
		file []byte
		lim  int64
		want string
	}{
		{packed, 0, ""},
		{packed, 5 << 20, ""},
		{packed, 1 << 20, `array "b"`},
		{archive(t, zip.Deflate, entry{"b.npy", f4(shape, string(noise))}), 1 << 20, ""},
		{archive(t, zip.Store, entry{"b.npy", f4(shape, zeros)}), 1 << 20, ""},
	} {
		err := npz.Decode(bytes.NewReader(c.file), model.Limits{Inflated: c.lim}, new(modeltest.Collect))
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, model.ErrTooLarge) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%d bytes, limit %d: %v", len(c.file), c.lim, err)
		}
	}
}
