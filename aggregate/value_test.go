package aggregate_test

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

func le16(x uint16) []byte  { return binary.LittleEndian.AppendUint16(nil, x) }
func le32(x float32) []byte { return binary.LittleEndian.AppendUint32(nil, math.Float32bits(x)) }
func le64(x float64) []byte { return binary.LittleEndian.AppendUint64(nil, math.Float64bits(x)) }

func TestCheck(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(-1)
	for _, c := range []struct {
		dtype model.DType
		scale int8
		p     []byte
		value string // "" is accepted
		limit string
	}{
		{model.F32, 0, le32(math.Nextafter32(1<<24, 0)), "", ""},
		{model.F32, 0, le32(-1 << 24), "-1.6777216e+07", "|x| < 1.6777216e+07"},
		{model.F32, 1, le32(-1 << 24), "", ""},
		{model.F32, 1, le32(1 << 25), "3.3554432e+07", "|x| < 3.3554432e+07"},
		{model.F32, 0, le32(1e30), "1e+30", "|x| < 1.6777216e+07"},
		{model.F32, 0, le32(float32(nan)), "NaN", "|x| < 1.6777216e+07"},
		{model.F32, 104, le32(math.MaxFloat32), "", ""},
		{model.F32, 104, le32(float32(inf)), "-Inf", "a finite number"},
		{model.F64, 0, le64(math.Nextafter(1<<24, 0)), "", ""},
		{model.F64, 0, le64(1 << 24), "1.6777216e+07", "|x| < 1.6777216e+07"},
		{model.F64, 0, le64(nan), "NaN", "|x| < 1.6777216e+07"},
		{model.F64, 127, le64(0x1p150), "", ""},
		{model.F16, 0, le16(0x7bff), "", ""},
		{model.F16, 0, le16(0xfc00), "-Inf", "a finite number"},
		{model.F16, 0, le16(0x7e00), "NaN", "a finite number"},
		{model.BF16, 0, le16(0x4b7f), "", ""},
		{model.BF16, 0, le16(0x4b80), "1.6777216e+07", "|x| < 1.6777216e+07"},
		{model.Bool, 0, []byte{1}, "", ""},
		{model.Bool, 0, []byte{2}, "2", "0 or 1"},
		{model.I8, 0, []byte{0x80}, "", ""},
		{model.U64, 0, []byte{255, 255, 255, 255, 255, 255, 255, 255}, "", ""},
	} {
		s := mustSpec(t, mustLayout(t, model.Tensor{Name: "layer.w", DType: c.dtype, Shape: []int64{1000}}), []int8{c.scale})
		p := append(make([]byte, 41*c.dtype.Size()), c.p...)
		p = append(p, make([]byte, 7*c.dtype.Size())...)
		err := s.Check(0, 100, p)
		if c.value == "" {
			if err != nil {
				t.Errorf("%s, scale %d, % x: %v", c.dtype, c.scale, c.p, err)
			}
			continue
		}
		var ve *aggregate.ValueError
		if !errors.As(err, &ve) || *ve != (aggregate.ValueError{Tensor: "layer.w", Index: 141, Value: c.value, Limit: c.limit}) {
			t.Errorf("%s, scale %d, % x: got %v", c.dtype, c.scale, c.p, err)
			continue
		}
		for _, part := range []string{`"layer.w"`, "141", c.value, c.limit} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %s", err, part)
			}
		}
	}
}

func TestCheckRandom(t *testing.T) {
	l := mixed(t)
	s := mustSpec(t, l, nil)
	file := randomFile(l, rand.New(rand.NewPCG(1, 1)))
	for span := range s.Blocks(0, s.Elements()) {
		if err := s.Check(span.Tensor, span.First, file[span.Offset:span.Offset+span.Count*l.Tensors()[span.Tensor].DType.Size()]); err != nil {
			t.Error(err)
		}
	}
}

func TestScanScales(t *testing.T) {
	f32 := func(xs ...float32) (p []byte) {
		for _, x := range xs {
			p = append(p, le32(x)...)
		}
		return p
	}
	for _, c := range []struct {
		dtype model.DType
		p     []byte
		scale int8
		fault string // value of the error, at the last element
	}{
		{model.F32, f32(0, -0.5, 1000), 0, ""},
		{model.F32, nil, 0, ""},
		{model.F32, f32(math.SmallestNonzeroFloat32), 0, ""},
		{model.F32, f32(math.Nextafter32(1<<20, 0)), 0, ""},
		{model.F32, f32(1<<20, 1), 1, ""},
		{model.F32, f32(1, -1<<24), 5, ""},
		{model.F32, f32(1e30), 80, ""}, // 2^99.7
		{model.F32, f32(math.MaxFloat32), 104, ""},
		{model.F32, f32(1, float32(math.Inf(1))), 0, "+Inf"},
		{model.F32, f32(1, float32(math.NaN())), 0, "NaN"},
		{model.BF16, le16(0x7f7f), 104, ""},
		{model.F16, le16(0x7bff), 0, ""},
		{model.F16, le16(0x7c00), 0, "+Inf"},
		{model.F64, le64(1 << 40), 21, ""},
		{model.F64, le64(0x1p147), 127, ""}, // less room
		{model.F64, le64(math.Nextafter(0x1p151, 0)), 127, ""},
		{model.F64, le64(0x1p151), 0, "2.85449538541192e+45"},
		{model.F64, le64(-math.MaxFloat64), 0, "-1.7976931348623157e+308"},
		{model.I64, []byte{255, 255, 255, 255, 255, 255, 255, 127}, 0, ""},
		{model.Bool, []byte{0, 1, 7}, 0, "7"},
	} {
		n := int64(len(c.p)) / c.dtype.Size()
		l := mustLayout(t, model.Tensor{Name: "w", DType: c.dtype, Shape: []int64{n}})
		scales, err := aggregate.ScanScales(l, reader(append(slices.Clone(l.Header()), c.p...)))
		if c.fault != "" {
			var ve *aggregate.ValueError
			if !errors.As(err, &ve) || ve.Value != c.fault || ve.Index != n-1 || ve.Tensor != "w" {
				t.Errorf("%s % x: %v", c.dtype, c.p, err)
			}
			continue
		}
		if err != nil || !slices.Equal(scales, []int8{c.scale}) {
			t.Errorf("%s % x: scales %v, %v, want %d", c.dtype, c.p, scales, err, c.scale)
			continue
		}
		s := mustSpec(t, l, scales) // the seed is within its own scales
		if err := s.Check(0, 0, c.p); err != nil {
			t.Error(err)
		}
	}
}

func TestScanScalesTensors(t *testing.T) {
	l := mixed(t)
	file := randomFile(l, rand.New(rand.NewPCG(2, 2)))
	i, _ := l.Lookup("f32.large")
	last := int64(len(l.Header())) + l.Tensors()[i].Offset + l.Tensors()[i].Bytes() - 4
	copy(file[last:], le32(-0x1p60))
	scales, err := aggregate.ScanScales(l, reader(file))
	if err != nil {
		t.Fatal(err)
	}
	if scales[i] != 41 {
		t.Errorf("scale %d, want 41", scales[i])
	}
	if _, err := aggregate.ScanScales(l, reader(file[:len(file)-1])); err == nil {
		t.Error("a seed that is too short was accepted")
	}
}
