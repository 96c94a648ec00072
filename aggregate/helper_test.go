package aggregate_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

func mustLayout(t testing.TB, ts ...model.Tensor) *model.Layout {
	t.Helper()
	l, err := model.NewLayout(ts)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func mustSpec(t testing.TB, l *model.Layout, scales []int8) *aggregate.Spec {
	t.Helper()
	s, err := aggregate.NewSpec(l, scales)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// mixed is a layout with every dtype, scalars, empty tensors and tensors of more than a block.
func mixed(t testing.TB) *model.Layout {
	return mustLayout(t,
		model.Tensor{Name: "f32.large", DType: model.F32, Shape: []int64{5, 6601}},
		model.Tensor{Name: "f32.scalar", DType: model.F32},
		model.Tensor{Name: "f32.empty", DType: model.F32, Shape: []int64{3, 0}},
		model.Tensor{Name: "f64", DType: model.F64, Shape: []int64{1001}},
		model.Tensor{Name: "f16", DType: model.F16, Shape: []int64{333}},
		model.Tensor{Name: "bf16", DType: model.BF16, Shape: []int64{2000}},
		model.Tensor{Name: "i64", DType: model.I64, Shape: []int64{77}},
		model.Tensor{Name: "u64", DType: model.U64, Shape: []int64{7, 11}},
		model.Tensor{Name: "i32", DType: model.I32, Shape: []int64{15}},
		model.Tensor{Name: "u32", DType: model.U32, Shape: []int64{16}},
		model.Tensor{Name: "i16", DType: model.I16, Shape: []int64{17}},
		model.Tensor{Name: "u16", DType: model.U16, Shape: []int64{18}},
		model.Tensor{Name: "i8", DType: model.I8, Shape: []int64{19}},
		model.Tensor{Name: "u8", DType: model.U8, Shape: []int64{33000}},
		model.Tensor{Name: "bool", DType: model.Bool, Shape: []int64{21}},
		model.Tensor{Name: "z.empty", DType: model.U8, Shape: []int64{0}},
	)
}

// randomFile returns a canonical file with any values that pass the check.
func randomFile(l *model.Layout, r *rand.Rand) []byte {
	file := append([]byte(nil), l.Header()...)
	for _, t := range l.Tensors() {
		for range t.Elements() {
			x := r.Uint64()
			switch t.DType {
			case model.Bool:
				file = append(file, byte(x&1))
			case model.F32:
				file = binary.LittleEndian.AppendUint32(file, uint32(x)&(1<<31)|uint32(x>>32)%(151<<23))
			case model.F64:
				file = binary.LittleEndian.AppendUint64(file, x&(1<<63)|r.Uint64N(1047<<52))
			case model.F16:
				file = binary.LittleEndian.AppendUint16(file, uint16(x)&(1<<15)|uint16(x>>32)%(31<<10))
			case model.BF16:
				file = binary.LittleEndian.AppendUint16(file, uint16(x)&(1<<15)|uint16(x>>32)%(151<<7))
			default:
				var b [8]byte
				binary.LittleEndian.PutUint64(b[:], x)
				file = append(file, b[:t.DType.Size()]...)
			}
		}
	}
	return file
}

// f32File returns a canonical file of a layout of one float32 tensor.
func f32File(l *model.Layout, xs ...float32) []byte {
	file := append([]byte(nil), l.Header()...)
	for _, x := range xs {
		file = binary.LittleEndian.AppendUint32(file, math.Float32bits(x))
	}
	return file
}

func f32s(p []byte) []float32 {
	xs := make([]float32, len(p)/4)
	for i := range xs {
		xs[i] = math.Float32frombits(binary.LittleEndian.Uint32(p[4*i:]))
	}
	return xs
}

func reader(file []byte) *bytes.Reader { return bytes.NewReader(file) }

// exact returns w·x in units of 2^(-63+scale), truncated toward zero: the oracle for floats.
func exact(x float64, w int64, scale int) *big.Int {
	f := new(big.Float).SetPrec(400).SetFloat64(x)
	f.Mul(f, new(big.Float).SetPrec(400).SetInt64(w))
	z, _ := f.SetMantExp(f, 63-scale).Int(nil)
	return z
}

// ratio returns z·2^(-63+scale)/total.
func ratio(z *big.Int, total int64, scale int) *big.Rat {
	den := new(big.Int).Lsh(big.NewInt(total), 63)
	return new(big.Rat).SetFrac(new(big.Int).Lsh(z, uint(scale)), den)
}

func f64(p []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(p)) }
func i64(p []byte) int64   { return int64(binary.LittleEndian.Uint64(p)) }
