package codec_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/fedmesh/fedmesh/model"
)

func headerEntry(x model.Tensor, begin, end int) string {
	name, _ := json.Marshal(x.Name)
	shape, _ := json.Marshal(append([]int64{}, x.Shape...))
	return fmt.Sprintf(`%s:{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}`, name, x.DType, shape, begin, end)
}

func safetensorsFile(members, data string) []byte {
	members = "{" + members + "}"
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(members)))
	return append(append(b, members...), data...)
}

type member struct {
	model.Tensor
	data []byte
}

var descrs = map[model.DType]string{
	model.Bool: "|b1", model.U8: "|u1", model.I8: "|i1", model.U16: "<u2", model.I16: "<i2", model.U32: "<u4", model.I32: "<i4",
	model.U64: "<u8", model.I64: "<i8", model.F16: "<f2", model.BF16: "<V2", model.F32: "<f4", model.F64: "<f8",
}

func npy(descr, shape string, data []byte) []byte {
	dict := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s)}\n", descr, shape)
	b := binary.LittleEndian.AppendUint16([]byte("\x93NUMPY\x01\x00"), uint16(len(dict)))
	return append(append(b, dict...), data...)
}

type fataler interface{ Fatal(args ...any) }

// npzFile stores arrays in the given order.
func npzFile(t fataler, arrays []member) []byte {
	var files []content
	for _, a := range arrays {
		var shape strings.Builder
		for _, d := range a.Shape {
			fmt.Fprintf(&shape, "%d,", d)
		}
		files = append(files, content{a.Name + ".npy", npy(descrs[a.DType], shape.String(), a.data)})
	}
	return zipFile(t, files...)
}

type content struct {
	name string
	data []byte
}

func zipFile(t fataler, files ...content) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, c := range files {
		f, err := w.CreateRaw(&zip.FileHeader{
			Name: c.name, Flags: 0x0800, CRC32: crc32.ChecksumIEEE(c.data),
			CompressedSize64: uint64(len(c.data)), UncompressedSize64: uint64(len(c.data)),
		})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = f.Write(c.data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
