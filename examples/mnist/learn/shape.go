package learn

import (
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas/blas32"
)

// Shape is a network of one hidden layer: inputs, ReLU, softmax.
type Shape struct {
	Inputs, Hidden, Outputs int
}

// Tensor is one named part of a model.
type Tensor struct {
	Name  string
	Shape []int64
}

// Tensors lists the parts of a model by name, which is the order they have in
// the vector of parameters.
func (s Shape) Tensors() []Tensor {
	in, hid, out := int64(s.Inputs), int64(s.Hidden), int64(s.Outputs)
	return []Tensor{
		{"hidden.bias", []int64{hid}},
		{"hidden.weight", []int64{in, hid}},
		{"output.bias", []int64{out}},
		{"output.weight", []int64{hid, out}},
	}
}

// Params is the number of parameters.
func (s Shape) Params() int {
	return s.Hidden + s.Inputs*s.Hidden + s.Outputs + s.Hidden*s.Outputs
}

// Init draws a first model: He's initialisation for the weights, zero biases.
func (s Shape) Init(seed uint64) []float32 {
	r := rand.New(rand.NewPCG(seed, streamInit))
	params := make([]float32, s.Params())
	v := s.view(params)
	draw := func(w []float32, fanIn int) {
		std := math.Sqrt(2 / float64(fanIn))
		for i := range w {
			w[i] = float32(std * r.NormFloat64())
		}
	}
	draw(v.w1.Data, s.Inputs)
	draw(v.w2.Data, s.Hidden)
	return params
}

// The random streams of one seed: one number for each purpose.
const (
	streamInit = iota + 1
	streamSplit
	streamBatches
)

// view gives the parts of a vector of parameters, or of gradients, sharing its
// memory.
type view struct {
	b1 []float32
	w1 blas32.General // inputs × hidden
	b2 []float32
	w2 blas32.General // hidden × outputs
}

func (s Shape) view(p []float32) view {
	next := func(n int) []float32 {
		part := p[:n:n]
		p = p[n:]
		return part
	}
	return view{
		b1: next(s.Hidden),
		w1: matrix(s.Inputs, s.Hidden, next(s.Inputs*s.Hidden)),
		b2: next(s.Outputs),
		w2: matrix(s.Hidden, s.Outputs, next(s.Hidden*s.Outputs)),
	}
}

func matrix(rows, cols int, data []float32) blas32.General {
	return blas32.General{Rows: rows, Cols: cols, Stride: cols, Data: data[:rows*cols]}
}
