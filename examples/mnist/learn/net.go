package learn

import (
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// Pass holds the intermediate results of up to batch examples on their way
// through the network and back. It is for one goroutine at a time.
type Pass struct {
	shape        Shape
	in, hid, out []float32
	dHid         []float32
	labels       []int
}

// NewPass makes room for batches of up to batch examples.
func NewPass(shape Shape, batch int) *Pass {
	return &Pass{
		shape:  shape,
		in:     make([]float32, batch*shape.Inputs),
		hid:    make([]float32, batch*shape.Hidden),
		dHid:   make([]float32, batch*shape.Hidden),
		out:    make([]float32, batch*shape.Outputs),
		labels: make([]int, 0, batch),
	}
}

// Examples are labelled inputs: an element of a digits.Set, or a test's own.
type Examples interface {
	Len() int
	Label(i int) int
	Image(i int, dst []float32)
}

// Fill takes the examples of the given indices as the batch.
func (p *Pass) Fill(set Examples, indices []int) {
	p.labels = p.labels[:0]
	for row, i := range indices {
		set.Image(i, p.in[row*p.shape.Inputs:(row+1)*p.shape.Inputs])
		p.labels = append(p.labels, set.Label(i))
	}
}

// Forward runs the batch through the model and returns its mean cross-entropy
// and how many of its examples it classified rightly.
func (p *Pass) Forward(params []float32) (loss float64, correct int) {
	n, v := len(p.labels), p.shape.view(params)
	in := matrix(n, p.shape.Inputs, p.in)
	hid := matrix(n, p.shape.Hidden, p.hid)
	out := matrix(n, p.shape.Outputs, p.out)

	repeat(hid, v.b1)
	blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, in, v.w1, 1, hid)
	for i, h := range hid.Data {
		hid.Data[i] = max(h, 0)
	}
	repeat(out, v.b2)
	blas32.Gemm(blas.NoTrans, blas.NoTrans, 1, hid, v.w2, 1, out)
	for i, label := range p.labels {
		row := out.Data[i*out.Cols : (i+1)*out.Cols]
		best := softmax(row)
		if best == label {
			correct++
		}
		loss -= math.Log(max(float64(row[label]), 1e-30))
	}
	return loss / float64(n), correct
}

// Backward writes the gradient of the mean cross-entropy of the batch that
// Forward has just run through the same params.
func (p *Pass) Backward(params, grad []float32) {
	n, v, g := len(p.labels), p.shape.view(params), p.shape.view(grad)
	in := matrix(n, p.shape.Inputs, p.in)
	hid := matrix(n, p.shape.Hidden, p.hid)
	dOut := matrix(n, p.shape.Outputs, p.out)
	dHid := matrix(n, p.shape.Hidden, p.dHid)

	for i, label := range p.labels {
		dOut.Data[i*dOut.Cols+label]--
	}
	blas32.Scal(1/float32(n), blas32.Vector{N: len(dOut.Data), Inc: 1, Data: dOut.Data})
	blas32.Gemm(blas.Trans, blas.NoTrans, 1, hid, dOut, 0, g.w2)
	columns(dOut, g.b2)
	blas32.Gemm(blas.NoTrans, blas.Trans, 1, dOut, v.w2, 0, dHid)
	for i, h := range hid.Data {
		if h <= 0 {
			dHid.Data[i] = 0
		}
	}
	blas32.Gemm(blas.Trans, blas.NoTrans, 1, in, dHid, 0, g.w1)
	columns(dHid, g.b1)
}

// repeat sets every row of m to b.
func repeat(m blas32.General, b []float32) {
	for i := range m.Rows {
		copy(m.Data[i*m.Cols:], b)
	}
}

// columns sums the rows of m.
func columns(m blas32.General, dst []float32) {
	clear(dst)
	for i := range m.Rows {
		for j, x := range m.Data[i*m.Cols : (i+1)*m.Cols] {
			dst[j] += x
		}
	}
}

// softmax turns scores into probabilities and returns the index of the largest.
func softmax(row []float32) (best int) {
	for i, x := range row {
		if x > row[best] {
			best = i
		}
	}
	top, sum := row[best], 0.0
	for i, x := range row {
		e := math.Exp(float64(x - top))
		row[i] = float32(e)
		sum += e
	}
	for i := range row {
		row[i] = float32(float64(row[i]) / sum)
	}
	return best
}
