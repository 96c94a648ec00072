package mesh_test

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/model"
)

// array is a tensor of a model that is about to be spoilt.
type array struct {
	name  string
	dtype model.DType
	shape []int64
	data  []byte
}

// goodModel returns the arrays of a model of some 40 KB, in the order of its file.
func goodModel() []array {
	rng := rand.New(rand.NewPCG(1, 2)) // what does not shrink when it is deflated
	f32 := func(n int) (b []byte) {
		for range n {
			b = append(b, f32bits(rng.Float64()-0.5)...)
		}
		return b
	}
	f64 := make([]byte, 0, 8*300)
	for i := range 300 {
		f64 = binary.LittleEndian.AppendUint64(f64, math.Float64bits(float64(i)/8))
	}
	return []array{
		{"double", model.F64, []int64{300}, f64},
		{"count", model.I64, []int64{1}, binary.LittleEndian.AppendUint64(nil, 7)},
		{"dense.bias", model.F32, []int64{128}, f32(128)},
		{"dense.weight", model.F32, []int64{72, 128}, f32(72 * 128)},
		{"brain", model.BF16, []int64{16}, bytes.Repeat([]byte{0x80, 0x3f}, 16)},
		{"half", model.F16, []int64{16}, bytes.Repeat([]byte{0x00, 0x3c}, 16)},
	}
}

// goodBytes is how much data the good model has.
func goodBytes() (n int) {
	for _, a := range goodModel() {
		n += len(a.data)
	}
	return n
}

// changed returns the good model with one array replaced by what f makes of it.
func changed(name string, f func(a *array)) []array {
	as := goodModel()
	for i := range as {
		if as[i].name == name {
			as[i].data = bytes.Clone(as[i].data)
			f(&as[i])
			return as
		}
	}
	panic("no array " + name)
}

// value puts bytes at an element.
func value(elem int, b ...byte) func(a *array) {
	return func(a *array) { copy(a.data[elem*len(b):], b) }
}

func f32bits(v float64) []byte {
	return binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v)))
}

func f64bits(v float64) []byte {
	return binary.LittleEndian.AppendUint64(nil, math.Float64bits(v))
}

// tensorFile writes arrays as safetensors, in their order.
func tensorFile(as []array) []byte {
	var members []string
	var data []byte
	for _, a := range as {
		members = append(members, tensorMember(a.name, a.dtype.String(), a.shape, fmt.Sprintf("[%d,%d]", len(data), len(data)+len(a.data))))
		data = append(data, a.data...)
	}
	return rawTensorFile(strings.Join(members, ","), data)
}

func tensorMember(name, dtype string, shape any, offsets string) string {
	n, _ := json.Marshal(name)
	s, _ := json.Marshal(shape)
	return fmt.Sprintf(`%s:{"dtype":"%s","shape":%s,"data_offsets":%s}`, n, dtype, s, offsets)
}

func rawTensorFile(members string, data []byte) []byte {
	members = "{" + members + "}"
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(members)))
	return append(append(b, members...), data...)
}

var numpyNames = map[model.DType]string{model.F64: "<f8", model.I64: "<i8", model.F32: "<f4", model.BF16: "<V2", model.F16: "<f2"}

// npy writes an array as numpy does.
func npy(descr string, shape string, data []byte) []byte {
	dict := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': %s, }\n", descr, shape)
	b := binary.LittleEndian.AppendUint16([]byte("\x93NUMPY\x01\x00"), uint16(len(dict)))
	return append(append(b, dict...), data...)
}

func pythonShape(shape []int64) string {
	var b strings.Builder
	for _, d := range shape {
		fmt.Fprintf(&b, "%d,", d)
	}
	return "(" + b.String() + ")"
}

// zipped is a member of an archive.
type zipped struct {
	name string
	data []byte
}

func npzMembers(as []array) []zipped {
	var out []zipped
	for _, a := range as {
		out = append(out, zipped{a.name + ".npy", npy(numpyNames[a.dtype], pythonShape(a.shape), a.data)})
	}
	return out
}

// archive writes an npz as numpy does, stored or deflated.
func archive(t *testing.T, method uint16, members ...zipped) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, m := range members {
		packed := m.data
		if method == zip.Deflate {
			packed = deflated(t, m.data)
		}
		f, err := w.CreateRaw(&zip.FileHeader{
			Name: m.name, Method: method, Flags: 0x0800, CRC32: crc32.ChecksumIEEE(m.data),
			CompressedSize64: uint64(len(packed)), UncompressedSize64: uint64(len(m.data)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(packed); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func deflated(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bomb is an archive of one deflated array that begins with head and goes on with zeros, of which so many megabytes are in the
// archive and a thousand times as many come out of it. What the archive says of the sizes is true of the first size bytes only, and there
// is no directory: nobody gets that far.
func bomb(t *testing.T, name string, head []byte, megabytes int, size uint64) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(head); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	start := b.Len()
	zeros := make([]byte, 8<<20)
	if _, err := w.Write(zeros); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil { // blocks end here: they can be repeated
		t.Fatal(err)
	}
	blocks := bytes.Clone(b.Bytes()[start:])
	name += ".npy"
	out := binary.LittleEndian.AppendUint32(nil, 0x04034b50)
	out = append(out, 45, 0, 0, 0x08, 8, 0, 0, 0, 0, 0)         // version, UTF-8, deflated, no time
	out = binary.LittleEndian.AppendUint32(out, 0)              // checksum
	out = binary.LittleEndian.AppendUint32(out, math.MaxUint32) // sizes: see the extra field
	out = binary.LittleEndian.AppendUint32(out, math.MaxUint32)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(name)))
	out = binary.LittleEndian.AppendUint16(out, 20)
	out = append(out, name...)
	out = append(out, 1, 0, 16, 0)
	out = binary.LittleEndian.AppendUint64(out, size)
	out = binary.LittleEndian.AppendUint64(out, uint64(megabytes)<<20)
	out = append(out, b.Bytes()[:start]...)
	return append(out, bytes.Repeat(blocks, megabytes<<20/len(blocks))...)
}
