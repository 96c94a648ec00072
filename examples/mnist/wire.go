package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/fedmesh/fedmesh/examples/mnist/learn"
	"github.com/fedmesh/fedmesh/model"
)

// wire turns parameters into safetensors and back. The parameters have the
// canonical order of the tensors already, so a file is a header and the numbers.
type wire struct {
	layout *model.Layout
	header []byte
	params int
}

func newWire(shape learn.Shape) (*wire, error) {
	var tensors []model.Tensor
	for _, t := range shape.Tensors() {
		tensors = append(tensors, model.Tensor{Name: t.Name, DType: model.F32, Shape: t.Shape})
	}
	layout, err := model.NewLayout(tensors)
	if err != nil {
		return nil, fmt.Errorf("mnist: %w", err)
	}
	for i, t := range layout.Tensors() {
		if t.Name != tensors[i].Name {
			return nil, fmt.Errorf("mnist: tensor %d is %s, and %s in canonical order", i, tensors[i].Name, t.Name)
		}
	}
	return &wire{layout: layout, header: layout.Header(), params: shape.Params()}, nil
}

func (w *wire) encode(params []float32) []byte {
	b := make([]byte, 0, len(w.header)+4*len(params))
	b = append(b, w.header...)
	for _, p := range params {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(p))
	}
	return b
}

func (w *wire) decode(b []byte) ([]float32, error) {
	data, ok := bytes.CutPrefix(b, w.header)
	if !ok || len(data) != 4*w.params {
		return nil, errors.New("mnist: the mesh answered with a model of another layout")
	}
	params := make([]float32, w.params)
	for i := range params {
		params[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return params, nil
}
