package fedn

import (
	"bytes"
	"testing"

	"github.com/fedmesh/fedmesh/model"
)

func TestNumbers(t *testing.T) {
	for _, c := range []struct {
		from, to model.DType
		in, out  []byte // nil: refused
	}{
		{model.F64, model.I64, []byte{0, 0, 0, 0, 0, 0, 0x04, 0x40}, []byte{2, 0, 0, 0, 0, 0, 0, 0}},                      // 2.5, ties to even
		{model.F64, model.I8, []byte{0, 0, 0, 0, 0, 0, 0x60, 0xc0}, []byte{0x80}},                                         // -128
		{model.F64, model.I8, []byte{0, 0, 0, 0, 0, 0, 0x60, 0x40}, nil},                                                  // 128
		{model.F64, model.U8, []byte{0, 0, 0, 0, 0, 0, 0xf0, 0xbf}, nil},                                                  // -1
		{model.F64, model.U64, []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x43}, nil},                                                 // 2^64
		{model.F64, model.F32, []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x7e}, nil},                                                 // too large
		{model.F64, model.F32, []byte{1, 0, 0, 0, 0, 0, 0xf0, 0x3f}, []byte{0, 0, 0x80, 0x3f}},                            // a little over 1
		{model.F64, model.I64, []byte{0, 0, 0, 0, 0, 0, 0xf8, 0x7f}, nil},                                                 // NaN
		{model.I64, model.F64, []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, []byte{0, 0, 0, 0, 0, 0, 0, 0xc0}}, // -2
		{model.I64, model.U64, []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, nil},                               // -2
		{model.U64, model.I64, []byte{0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, nil},                               // 2^64-2
		{model.I64, model.I32, []byte{0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0}, []byte{0xff, 0xff, 0xff, 0x7f}},                // 2^31-1
		{model.I64, model.I32, []byte{0, 0, 0, 0x80, 0, 0, 0, 0}, nil},                                                    // 2^31
		{model.I8, model.I64, []byte{0x80}, []byte{0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}},                       // -128
		{model.U8, model.Bool, []byte{1}, []byte{1}},
		{model.U8, model.Bool, []byte{2}, nil},
		{model.F16, model.F32, []byte{0, 0x3c}, []byte{0, 0, 0x80, 0x3f}},
		{model.F32, model.F16, []byte{0, 0, 0x80, 0x47}, nil},                    // 65536
		{model.F32, model.BF16, []byte{0, 0x80, 0x80, 0x3f}, []byte{0x80, 0x3f}}, // a tie, to even
		{model.BF16, model.F64, []byte{0x80, 0x3f}, []byte{0, 0, 0, 0, 0, 0, 0xf0, 0x3f}},
	} {
		got := make([]byte, c.to.Size())
		err := put(c.to, got, get(c.from, c.in))
		if (err != nil) != (c.out == nil) || err == nil && !bytes.Equal(got, c.out) {
			t.Errorf("%v %x as %v: %x, %v; want %x", c.from, c.in, c.to, got, err, c.out)
		}
	}
}
