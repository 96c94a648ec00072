package learn

import (
	"math/rand/v2"

	"gonum.org/v1/gonum/blas/blas32"
)

// Hyper are the parameters of a client's local training.
type Hyper struct {
	Epochs int     // passes over the client's own examples per round
	Batch  int     // examples per step
	Rate   float32 // learning rate
}

// DefaultHyper suits MNIST and some twenty rounds.
func DefaultHyper() Hyper { return Hyper{Epochs: 3, Batch: 32, Rate: 0.2} }

// Trainer trains models of one shape. It is for one goroutine at a time.
type Trainer struct {
	hyper Hyper
	pass  *Pass
	grad  []float32
	order []int
}

// NewTrainer makes a trainer with room for one batch.
func NewTrainer(shape Shape, hyper Hyper) *Trainer {
	return &Trainer{hyper: hyper, pass: NewPass(shape, hyper.Batch), grad: make([]float32, shape.Params())}
}

// Train improves params in place on the examples of the given indices, in an
// order that depends on nothing but seed.
func (t *Trainer) Train(params []float32, set Examples, indices []int, seed uint64) {
	r := rand.New(rand.NewPCG(seed, streamBatches))
	t.order = append(t.order[:0], indices...)
	model := blas32.Vector{N: len(params), Inc: 1, Data: params}
	grad := blas32.Vector{N: len(params), Inc: 1, Data: t.grad}
	for range t.hyper.Epochs {
		r.Shuffle(len(t.order), func(i, j int) { t.order[i], t.order[j] = t.order[j], t.order[i] })
		for from := 0; from < len(t.order); from += t.hyper.Batch {
			t.pass.Fill(set, t.order[from:min(from+t.hyper.Batch, len(t.order))])
			t.pass.Forward(params)
			t.pass.Backward(params, t.grad)
			blas32.Axpy(-t.hyper.Rate, grad, model)
		}
	}
}

// Accuracy is the share of all examples of the set that the model classifies
// rightly.
func Accuracy(shape Shape, params []float32, set Examples) float64 {
	const batch = 500
	pass, correct := NewPass(shape, batch), 0
	indices := make([]int, 0, batch)
	for from := 0; from < set.Len(); from += batch {
		indices = indices[:0]
		for i := from; i < min(from+batch, set.Len()); i++ {
			indices = append(indices, i)
		}
		pass.Fill(set, indices)
		_, right := pass.Forward(params)
		correct += right
	}
	return float64(correct) / float64(set.Len())
}
