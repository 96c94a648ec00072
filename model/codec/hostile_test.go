package codec_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/codec"
	"github.com/fedmesh/fedmesh/model/internal/modeltest"
)

func x(name string, dt model.DType, shape ...int64) model.Tensor {
	return model.Tensor{Name: name, DType: dt, Shape: shape}
}

func mustLayout(t testing.TB, ts ...model.Tensor) *model.Layout {
	t.Helper()
	l, err := model.NewLayout(ts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// in gives a model as each format.
func in(t testing.TB, ts ...model.Tensor) map[string][]byte {
	l := mustLayout(t, ts...)
	out := make(map[string][]byte)
	for _, f := range []codec.Format{codec.Safetensors, codec.NPZ} {
		var b bytes.Buffer
		if err := codec.Emit(&b, f, l, bytes.NewReader(modeltest.File(l))); err != nil {
			t.Fatal(err)
		}
		out[f.String()] = b.Bytes()
	}
	return out
}

func TestWrongLayoutIsRefused(t *testing.T) {
	want := mustLayout(t, x("a", model.F32, 2, 3), x("b", model.F32, 4), x("c", model.I64))
	for name, c := range map[string]struct {
		ts   []model.Tensor
		want string
	}{
		"missing":      {[]model.Tensor{x("a", model.F32, 2, 3), x("c", model.I64)}, `tensor "b" is missing`},
		"extra":        {[]model.Tensor{x("a", model.F32, 2, 3), x("b", model.F32, 4), x("c", model.I64), x("d", model.F32)}, `tensor "d" is not expected`},
		"wrong shape":  {[]model.Tensor{x("a", model.F32, 3, 2), x("b", model.F32, 4), x("c", model.I64)}, `tensor "a" is F32 [3,2], expected F32 [2,3]`},
		"more dims":    {[]model.Tensor{x("a", model.F32, 2, 3), x("b", model.F32, 4, 1), x("c", model.I64)}, `tensor "b" is F32 [4,1], expected F32 [4]`},
		"wrong dtype":  {[]model.Tensor{x("a", model.F32, 2, 3), x("b", model.I32, 4), x("c", model.I64)}, `tensor "b" is I32 [4], expected F32 [4]`},
		"wider":        {[]model.Tensor{x("a", model.F32, 2, 3), x("b", model.F64, 4), x("c", model.I64)}, `tensor "b" is F64 [4], expected F32 [4]`},
		"far too much": {[]model.Tensor{x("a", model.F32, 2, 3), x("b", model.F32, 4), x("c", model.I64, 1000)}, `tensor "c" is I64 [1000], expected I64 []`},
	} {
		for kind, b := range in(t, c.ts...) {
			_, _, err := ingest(t, bytes.NewReader(b), codec.Options{Layout: want})
			if !errors.Is(err, model.ErrLayout) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %s: got %v, want %q", name, kind, err, c.want)
			}
		}
	}
	for kind, b := range in(t, x("a", model.F32, 2, 3)) {
		_, _, err := ingest(t, bytes.NewReader(b), codec.Options{Layout: want})
		if !errors.Is(err, model.ErrLayout) || !strings.Contains(err.Error(), `tensor "b" is missing`) {
			t.Errorf("two missing, %s: %v", kind, err)
		}
	}
}

func noise(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return b
}

func TestUnknownInputIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"empty":            {"", "the input is empty"},
		"one byte":         {"x", `begins with "x"`},
		"random":           {string(noise(5000)), "no known format"},
		"text":             {"{\"weights\": [1, 2, 3]}", "no known format"},
		"npy":              {string(npy("<f4", "", []byte("1234"))), "single npy array"},
		"pickle":           {"\x80\x04\x95abcdefghij", "pickle"},
		"hdf5":             {"\x89HDF\r\n\x1a\nxxxx", "HDF5"},
		"gzip":             {"\x1f\x8b\x08xxxxxxx", "gzip"},
		"no tensors":       {string(safetensorsFile("", "")), "without tensors"},
		"no arrays":        {string(zipFile(t)), "without tensors"},
		"torch":            {string(golden(t, "torch.npz")), "data.pkl"},
		"object":           {string(golden(t, "object.npz")), "objects are refused"},
		"fortran":          {string(golden(t, "fortran.npz")), "column-major"},
		"dots":             {string(golden(t, "names.npz")), `"../evil"`},
		"duplicate":        {string(zipFile(t, content{"a.npy", npy("<f4", "", []byte("1234"))}, content{"a.npy", npy("<f4", "", []byte("1234"))})), `two arrays are named "a"`},
		"negative offset":  {string(safetensorsFile(`"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}`, "1234")), "negative"},
		"overlap":          {string(safetensorsFile(`"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}`, "123")), "overlap"},
		"out of range":     {string(safetensorsFile(`"a":{"dtype":"U8","shape":[2],"data_offsets":[100,102]}`, "12")), "hole"},
		"trailing":         {string(golden(t, "many.safetensors")) + "x", "bytes follow"},
		"trailing archive": {string(golden(t, "many.npz")) + "x", "bytes follow"},
	} {
		_, _, err := ingest(t, strings.NewReader(c.in), codec.Options{})
		if !errors.Is(err, model.ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestTooLargeIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"header of 2^60": {"\x00\x00\x00\x00\x00\x00\x00\x10{\"a\":", "1152921504606846976 bytes"},
		"overflow":       {string(safetensorsFile(`"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}`, "")), `tensor "a"`},
		"overflow npz":   {string(zipFile(t, content{"a.npy", npy("<f4", "4294967296, 4294967296", nil)})), `tensor "a"`},
		"5 GiB npz":      {string(zipFile(t, content{"a.npy", npy("<f4", "1342177280,", nil)})), `array "a": F32 [1342177280] needs 5368709120 bytes`},
		"5 GiB":          {string(safetensorsFile(`"a":{"dtype":"F32","shape":[1342177280],"data_offsets":[0,5368709120]}`, "")), `tensor "a" ends at byte 5368709120`},
	} {
		_, _, err := ingest(t, strings.NewReader(c.in), codec.Options{})
		if !errors.Is(err, model.ErrTooLarge) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	for kind, b := range in(t, x("a", model.F32, 100)) {
		for most, ok := range map[int64]bool{400: true, 399: false} {
			for _, l := range []*model.Layout{nil, mustLayout(t, x("a", model.F32, 100))} {
				_, _, err := ingest(t, bytes.NewReader(b), codec.Options{MaxBytes: most, Layout: l})
				if ok && err != nil || !ok && !errors.Is(err, model.ErrTooLarge) {
					t.Errorf("%s of 400 bytes, %d allowed: %v", kind, most, err)
				}
			}
		}
	}
}

// An archive that inflates to far more than it says is refused after the first buffer.
func TestBombIsStopped(t *testing.T) {
	var bomb bytes.Buffer
	w := zip.NewWriter(&bomb)
	f, err := w.Create("a.npy")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write(npy("<f4", "100,", nil))
	zeros := make([]byte, 1<<20)
	for range 16 {
		_, _ = f.Write(zeros)
	}
	_, _ = f.Write(noise(200_000))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var dst modeltest.Mem
	_, _, err = codec.Ingest(&bomb, &dst, codec.Options{Layout: mustLayout(t, x("a", model.F32, 100))})
	if !errors.Is(err, model.ErrTooLarge) || !strings.Contains(err.Error(), `array "a": inflates to more than`) {
		t.Errorf("got %v", err)
	}
	if bomb.Len() == 0 || len(dst.B) > 1000 {
		t.Errorf("%d bytes not read, %d written", bomb.Len(), len(dst.B))
	}
}

func TestTruncationEveryKilobyte(t *testing.T) {
	for kind, b := range in(t, x("a", model.F32, 20000), x("b", model.F16, 3, 7), x("c", model.U8, 9000)) {
		for n := 1; n < len(b); n = n/1024*1024 + 1024 {
			for _, l := range []*model.Layout{nil, mustLayout(t, x("a", model.F32, 20000), x("b", model.F16, 3, 7), x("c", model.U8, 9000))} {
				_, _, err := ingest(t, bytes.NewReader(b[:n]), codec.Options{Layout: l})
				if !errors.Is(err, model.ErrFormat) || n > 8 && !strings.Contains(err.Error(), "truncated") {
					t.Fatalf("%s cut at %d of %d: %v", kind, n, len(b), err)
				}
			}
		}
	}
}

func TestEmitRefusesAnUnknownFormat(t *testing.T) {
	l := mustLayout(t, x("a", model.F32))
	if err := codec.Emit(io.Discard, 0, l, bytes.NewReader(modeltest.File(l))); err == nil {
		t.Error("no error")
	}
}

func TestFormatNames(t *testing.T) {
	for _, f := range []codec.Format{codec.Safetensors, codec.NPZ} {
		if got, err := codec.ParseFormat(f.String()); err != nil || got != f {
			t.Errorf("%s: %v, %v", f, got, err)
		}
	}
	if _, err := codec.ParseFormat("pickle"); err == nil || !strings.Contains(err.Error(), "safetensors or npz") {
		t.Errorf("%v", err)
	}
}
