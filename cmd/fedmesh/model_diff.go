package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/model"
)

// compared is what `fedmesh model diff --json` prints.
type compared struct {
	A       model.Digest    `json:"a"`
	B       model.Digest    `json:"b"`
	Equal   bool            `json:"equal"`
	Tensors []tensorCompare `json:"tensors"` // those that differ
}

// tensorCompare is one tensor that differs: in kind, or in values.
type tensorCompare struct {
	Name    string `json:"name"`
	Layout  string `json:"layout,omitempty"` // the difference in kind; the rest is empty then
	Differ  int64  `json:"differ,omitempty"` // elements with other bits
	Of      int64  `json:"of,omitempty"`
	First   int64  `json:"first"`              // index of the first of them, in C order
	MaxDiff string `json:"max_diff,omitempty"` // largest absolute difference
}

func newModelDiff(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Compare two models, tensor by tensor",
		Long: `Compare two models in either format: which tensors only one has, which have another
dtype or shape, and of the others the elements that differ and the largest absolute
difference. The exit code is 0 when the models are equal to the bit, 1 when not.`,
		Example: `  fedmesh model diff seed.npz update.npz && echo the same`,
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			var m [2]*loaded
			for i, path := range args {
				l, err := load(path)
				if err != nil {
					return badModel(err)
				}
				defer l.close()
				m[i] = l
			}
			d, err := compare(m[0], m[1])
			if err != nil {
				return err
			}
			err = a.result(asJSON, d, showDiff(d))
			if err == nil && !d.Equal {
				return quietError(exitFailure)
			}
			return err
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

func showDiff(d compared) string {
	if d.Equal {
		return fmt.Sprintf("equal, digest %s\n", d.A)
	}
	var t table
	t.row("TENSOR", "DIFFERS", "FIRST", "MAX DIFFERENCE")
	for _, x := range d.Tensors {
		if x.Layout != "" {
			t.row(x.Name, x.Layout)
			continue
		}
		t.row(x.Name, fmt.Sprintf("%d of %d", x.Differ, x.Of), strconv.FormatInt(x.First, 10), x.MaxDiff)
	}
	return t.render(0)
}

// compare streams through both models by tensor, in the order of the names.
func compare(a, b *loaded) (compared, error) {
	d := compared{A: a.digest, B: b.digest, Equal: a.digest == b.digest, Tensors: []tensorCompare{}}
	if d.Equal {
		return d, nil
	}
	var names []string
	for _, l := range []*loaded{a, b} {
		for _, t := range l.layout.Tensors() {
			names = append(names, t.Name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		i, inA := a.layout.Lookup(name)
		j, inB := b.layout.Lookup(name)
		switch {
		case !inB:
			d.Tensors = append(d.Tensors, tensorCompare{Name: name, Layout: "only in the first"})
			continue
		case !inA:
			d.Tensors = append(d.Tensors, tensorCompare{Name: name, Layout: "only in the second"})
			continue
		}
		ta, tb := a.layout.Tensors()[i], b.layout.Tensors()[j]
		if ta.Type() != tb.Type() {
			d.Tensors = append(d.Tensors, tensorCompare{Name: name, Layout: ta.Type() + " and " + tb.Type()})
			continue
		}
		x, err := compareValues(ta, a.section(ta), b.section(tb))
		if err != nil {
			return d, err
		}
		if x.Differ > 0 {
			d.Tensors = append(d.Tensors, x)
		}
	}
	return d, nil
}

// section is the bytes of one tensor.
func (l *loaded) section(t model.Tensor) io.Reader {
	return io.NewSectionReader(l.file, int64(len(l.layout.Header()))+t.Offset, t.Bytes())
}

// compareValues reads two tensors of one dtype and shape, 64 KiB at a time.
func compareValues(t model.Tensor, a, b io.Reader) (tensorCompare, error) {
	x := tensorCompare{Name: t.Name, Of: t.Elements(), First: -1}
	measure := newMeasure(t.DType)
	n := int(t.DType.Size())
	var bufs [2][1 << 16]byte
	for left := t.Bytes(); left > 0; {
		k := int(min(left, int64(len(bufs[0]))))
		pa, pb := bufs[0][:k], bufs[1][:k]
		if _, err := io.ReadFull(a, pa); err != nil {
			return x, err
		}
		if _, err := io.ReadFull(b, pb); err != nil {
			return x, err
		}
		if !bytes.Equal(pa, pb) {
			for i := 0; i < k; i += n {
				ea, eb := pa[i:i+n], pb[i:i+n]
				if bytes.Equal(ea, eb) {
					continue
				}
				if x.Differ++; x.First < 0 {
					x.First = (t.Bytes() - left + int64(i)) / int64(n)
				}
				measure.add(ea, eb)
			}
		}
		left -= int64(k)
	}
	if x.Differ > 0 {
		x.MaxDiff = measure.max()
	}
	return x, nil
}

// A measure keeps the largest absolute difference: of integers exactly, of floats in
// float64. A NaN on one side makes it NaN.
type measure struct {
	dtype model.DType
	float float64
	int   uint64
}

func newMeasure(d model.DType) *measure { return &measure{dtype: d} }

func (m *measure) add(a, b []byte) {
	if m.dtype.Float() {
		// math.Max keeps a NaN once there is one.
		m.float = math.Max(m.float, math.Abs(floatOf(m.dtype, a)-floatOf(m.dtype, b)))
		return
	}
	// Shifting signed values into unsigned order makes the subtraction fit.
	x, y := orderedOf(m.dtype, a), orderedOf(m.dtype, b)
	m.int = max(m.int, max(x, y)-min(x, y))
}

func (m *measure) max() string {
	if m.dtype.Float() {
		return strconv.FormatFloat(m.float, 'g', -1, 64)
	}
	return strconv.FormatUint(m.int, 10)
}

// floatOf is an element of a float dtype as a float64, which holds them all.
func floatOf(d model.DType, p []byte) float64 {
	switch d {
	case model.F64:
		return math.Float64frombits(binary.LittleEndian.Uint64(p))
	case model.F32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(p)))
	case model.BF16:
		return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(p)) << 16))
	default:
		return model.HalfToFloat(binary.LittleEndian.Uint16(p))
	}
}

// orderedOf is an element of an integer or bool dtype as a uint64 that keeps distances:
// signed values are shifted up by 2^63.
func orderedOf(d model.DType, p []byte) uint64 {
	var v uint64
	for i, b := range p {
		v |= uint64(b) << (8 * i)
	}
	switch d {
	case model.I8, model.I16, model.I32, model.I64:
		spare := 64 - 8*len(p)
		return uint64(int64(v<<spare)>>spare) ^ 1<<63
	}
	return v
}
