package npz_test

import (
	"bytes"
	"errors"
	"hash/crc32"
	"io"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/internal/modeltest"
	"github.com/fedmesh/fedmesh/model/npz"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

func TestEncodeGivesWhatNumpyWrites(t *testing.T) {
	for _, name := range []string{"dtypes", "shapes", "padding", "many", "unicode"} {
		st, want := golden(t, name+".safetensors"), golden(t, name+".npz")
		l, err := safetensors.ReadLayout(bytes.NewReader(st), int64(len(st)))
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		data := io.NewSectionReader(bytes.NewReader(st), int64(len(l.Header())), l.DataSize())
		if err := npz.Encode(&got, l, data); err != nil {
			t.Fatal(err)
		}
		if npz.Size(l) != int64(got.Len()) {
			t.Errorf("%s: size %d, written %d", name, npz.Size(l), got.Len())
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: not what numpy.savez writes", name)
		}
	}
}

// zeros reads as zeros for ever.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// sums keeps the checksum of each tensor.
type sums struct{ crc map[string]uint32 }

func (s sums) Tensor(name string, _ model.DType, _ []int64) (io.Writer, error) {
	return summer{s.crc, name}, nil
}

type summer struct {
	crc  map[string]uint32
	name string
}

func (s summer) Write(p []byte) (int, error) {
	s.crc[s.name] = crc32.Update(s.crc[s.name], crc32.IEEETable, p)
	return len(p), nil
}

// Beyond 2 GiB, sizes and offsets in the central directory are 64 bits wide.
func TestMoreThan2GiB(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 2 GiB")
	}
	l, err := model.NewLayout([]model.Tensor{
		{Name: "a", DType: model.F32, Shape: []int64{1<<29 + 1}},
		{Name: "b", DType: model.U8, Shape: []int64{3}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r, w := io.Pipe()
	done := make(chan error)
	go func() {
		err := npz.Encode(w, l, zeros{})
		w.CloseWithError(err)
		done <- err
	}()
	in := &counter{r: r}
	s := sums{map[string]uint32{}}
	if err := npz.Decode(in, model.Limits{}, s); err != nil {
		t.Error(err)
	}
	_ = r.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if int64(in.n) != npz.Size(l) {
		t.Errorf("size %d, written %d", npz.Size(l), in.n)
	}
	if s.crc["b"] != crc32.ChecksumIEEE([]byte{0, 0, 0}) {
		t.Errorf("checksums %v", s.crc)
	}
}

func TestMostTensors(t *testing.T) {
	ts := make([]model.Tensor, model.MaxTensors)
	for i := range ts {
		ts[i] = model.Tensor{Name: strings.Repeat("x", 1+i%50) + string(rune('a'+i%26)) + string(rune(0x4e00+i/26)), DType: model.U8}
	}
	l, err := model.NewLayout(ts)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := npz.Encode(&b, l, zeros{}); err != nil {
		t.Fatal(err)
	}
	got, err := decode(&b)
	if err != nil || int64(len(got)) != l.Size() || !bytes.HasPrefix(got, l.Header()) {
		t.Fatalf("%v, %d bytes", err, len(got))
	}
}

func TestEncodeSaysWhereItStopped(t *testing.T) {
	l, err := model.NewLayout([]model.Tensor{{Name: "a", DType: model.F32, Shape: []int64{1000}}})
	if err != nil {
		t.Fatal(err)
	}
	err = npz.Encode(io.Discard, l, strings.NewReader("short"))
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), `array "a"`) {
		t.Errorf("short source: %v", err)
	}
	fault := errors.New("disk full")
	for n := range 3 {
		if err := npz.Encode(&failing{n, fault}, l, zeros{}); !errors.Is(err, fault) {
			t.Errorf("write %d: %v", n, err)
		}
	}
}

// failing fails after n writes.
type failing struct {
	n   int
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.n--; f.n < 0 {
		return 0, f.err
	}
	return len(p), nil
}

type discard struct{}

func (discard) Tensor(string, model.DType, []int64) (io.Writer, error) { return io.Discard, nil }

func benchModel(b *testing.B) (*model.Layout, []byte) {
	b.Helper()
	l, err := model.NewLayout([]model.Tensor{{Name: "w", DType: model.F32, Shape: []int64{16 << 20}}})
	if err != nil {
		b.Fatal(err)
	}
	return l, modeltest.File(l)[len(l.Header()):]
}

func BenchmarkDecodeStored(b *testing.B) {
	l, data := benchModel(b)
	var file bytes.Buffer
	if err := npz.Encode(&file, l, bytes.NewReader(data)); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(l.DataSize())
	for b.Loop() {
		if err := npz.Decode(bytes.NewReader(file.Bytes()), model.Limits{}, discard{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeDeflated(b *testing.B) {
	l, data := benchModel(b)
	for i := range data {
		if i%4 == 3 {
			data[i] = 0x3d + data[i]&1 // exponents of small weights
		}
	}
	file := archive(b, 8, entry{"w.npy", f4("(16777216,)", string(data))})
	b.SetBytes(l.DataSize())
	for b.Loop() {
		if err := npz.Decode(bytes.NewReader(file), model.Limits{}, discard{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	l, data := benchModel(b)
	b.SetBytes(l.DataSize())
	for b.Loop() {
		if err := npz.Encode(io.Discard, l, bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
}
