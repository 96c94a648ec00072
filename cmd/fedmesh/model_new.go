package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/codec"
)

func newModelNew(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "new FILE NAME=SHAPE:VALUE...",
		Short: "Write a model whose tensors are filled with one value each, to try things out",
		Long: `Write a model of float32 tensors, each filled with one value, in the format of the
file's extension. A shape is its dimensions with x between, as 128x10, or nothing for
a single number.`,
		Example: `  fedmesh model new seed.npz w=3:0
  fedmesh model new update.safetensors dense.weight=784x128:0.5 dense.bias=128:0 scale=:1`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			format, err := formatOf(args[0])
			if err != nil {
				return err
			}
			filled, err := parseFilled(args[1:])
			if err != nil {
				return err
			}
			o, err := createOutput(args[0])
			if err != nil {
				return err
			}
			defer o.discard()
			w := bufio.NewWriterSize(o, 1<<20)
			if err := codec.Emit(w, format, filled.layout, filled); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			if err := o.commit(); err != nil {
				return err
			}
			return a.result(asJSON, map[string]any{"file": args[0], "format": formatName(format), "bytes": filled.layout.Size()},
				fmt.Sprintf("%s: %s, %d numbers\n", args[0], formatName(format), filled.layout.Elements()))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// filled is the canonical file of a model whose tensors have one value each. It is computed where it is read, so it may be of any size.
type filled struct {
	layout *model.Layout
	values []uint32 // by tensor, the bits of a float32
}

func parseFilled(args []string) (*filled, error) {
	bad := func(arg, why string) error {
		return usagef("%q: %s; a tensor is NAME=SHAPE:VALUE, as w=128x10:0.5", arg, why)
	}
	var tensors []model.Tensor
	values := map[string]uint32{}
	for _, arg := range args {
		cut := strings.LastIndexByte(arg, '=')
		if cut <= 0 {
			return nil, bad(arg, "no name")
		}
		shape, text, ok := strings.Cut(arg[cut+1:], ":")
		v, err := strconv.ParseFloat(text, 32)
		if !ok || err != nil {
			return nil, bad(arg, "no value")
		}
		t := model.Tensor{Name: arg[:cut], DType: model.F32}
		if shape != "" {
			for dim := range strings.SplitSeq(shape, "x") {
				n, err := strconv.ParseInt(dim, 10, 64)
				if err != nil || n < 0 {
					return nil, bad(arg, fmt.Sprintf("%q is no dimension", dim))
				}
				t.Shape = append(t.Shape, n)
			}
		}
		tensors = append(tensors, t)
		values[t.Name] = math.Float32bits(float32(v))
	}
	layout, err := model.NewLayout(tensors)
	if err != nil {
		return nil, &usageError{err}
	}
	f := &filled{layout: layout}
	for _, t := range layout.Tensors() {
		f.values = append(f.values, values[t.Name])
	}
	return f, nil
}

// ReadAt implements io.ReaderAt.
func (f *filled) ReadAt(p []byte, off int64) (n int, err error) {
	header := f.layout.Header()
	if off < int64(len(header)) {
		n = copy(p, header[off:])
	}
	start := int64(len(header))
	for i, t := range f.layout.Tensors() {
		var word [4]byte
		binary.LittleEndian.PutUint32(word[:], f.values[i])
		begin, end := start+t.Offset, start+t.Offset+t.Bytes()
		for at := off + int64(n); n < len(p) && at >= begin && at < end; at++ {
			p[n] = word[(at-begin)%4]
			n++
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
