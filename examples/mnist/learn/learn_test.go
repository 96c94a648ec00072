package learn_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/fedmesh/fedmesh/examples/mnist/learn"
)

// blobs are points around one centre per class.
type blobs struct {
	inputs [][]float32
	labels []int
}

func (b blobs) Len() int                   { return len(b.labels) }
func (b blobs) Label(i int) int            { return b.labels[i] }
func (b blobs) Image(i int, dst []float32) { copy(dst, b.inputs[i]) }

func newBlobs(n, inputs, classes int, seed uint64) blobs {
	r := rand.New(rand.NewPCG(seed, 99))
	var b blobs
	for i := range n {
		label := i % classes
		point := make([]float32, inputs)
		for j := range point {
			point[j] = float32(0.3 * r.NormFloat64())
		}
		point[label%inputs]++
		b.inputs = append(b.inputs, point)
		b.labels = append(b.labels, label)
	}
	return b
}

func all(n int) []int {
	indices := make([]int, n)
	for i := range indices {
		indices[i] = i
	}
	return indices
}

// The gradient agrees with central differences, tensor by tensor.
func TestGradient(t *testing.T) {
	shape := learn.Shape{Inputs: 7, Hidden: 5, Outputs: 4}
	set := newBlobs(12, 7, 4, 1)
	params := shape.Init(3)
	for i := range params {
		params[i] += 0.05 // biases too, so that their gradients are not special
	}
	pass := learn.NewPass(shape, 12)
	grad := make([]float32, len(params))
	pass.Fill(set, all(12))
	pass.Forward(params)
	pass.Backward(params, grad)

	const eps = 1.0 / 512
	at := 0
	for _, tensor := range shape.Tensors() {
		n := int64(1)
		for _, d := range tensor.Shape {
			n *= d
		}
		var diff, size float64
		for range n {
			was := params[at]
			params[at] = was + eps
			up, _ := pass.Forward(params)
			params[at] = was - eps
			down, _ := pass.Forward(params)
			params[at] = was
			numeric := (up - down) / (2 * eps)
			diff += (numeric - float64(grad[at])) * (numeric - float64(grad[at]))
			size += numeric * numeric
			at++
		}
		if size == 0 || math.Sqrt(diff/size) > 1e-2 {
			t.Errorf("%s: gradient is off by %.2g of its norm %.2g", tensor.Name, math.Sqrt(diff/size), math.Sqrt(size))
		}
	}
	if at != len(params) {
		t.Errorf("the tensors have %d parameters, the model %d", at, len(params))
	}
}

func TestTrainIsDeterministicAndLearns(t *testing.T) {
	shape := learn.Shape{Inputs: 6, Hidden: 8, Outputs: 3}
	set := newBlobs(300, 6, 3, 5)
	run := func(seed uint64) []float32 {
		params := shape.Init(1)
		learn.NewTrainer(shape, learn.Hyper{Epochs: 5, Batch: 16, Rate: 0.2}).Train(params, set, all(300), seed)
		return params
	}
	first := run(7)
	if !slices.Equal(first, run(7)) {
		t.Error("the same seed gave two models")
	}
	if slices.Equal(first, run(8)) {
		t.Error("another seed gave the same model")
	}
	if acc := learn.Accuracy(shape, first, newBlobs(299, 6, 3, 6)); acc < 0.9 {
		t.Errorf("accuracy %v, want 0.9", acc)
	}
}

func TestSplitIsADeterministicPartition(t *testing.T) {
	set := newBlobs(5000, 2, 10, 2)
	for _, clients := range []int{1, 2, 24} {
		parts, err := learn.Split(set, clients, 0.5, 11)
		if err != nil {
			t.Fatal(err)
		}
		if len(parts) != clients {
			t.Fatalf("got %d parts, want %d", len(parts), clients)
		}
		owned := slices.Concat(parts...)
		slices.Sort(owned)
		if !slices.Equal(owned, all(set.Len())) {
			t.Errorf("%d clients: the parts do not hold each example once", clients)
		}
		again, err := learn.Split(set, clients, 0.5, 11)
		if err != nil || !reflect.DeepEqual(parts, again) {
			t.Errorf("%d clients: the same seed gave another split (%v)", clients, err)
		}
	}
	one, _ := learn.Split(set, 24, 0.5, 11)
	other, _ := learn.Split(set, 24, 0.5, 12)
	if reflect.DeepEqual(one, other) {
		t.Error("another seed gave the same split")
	}
}

// With alpha 0.5 clients have favourite classes; with a large alpha they do not.
func TestSplitFollowsAlpha(t *testing.T) {
	set := newBlobs(20000, 2, 10, 2)
	favourite := func(alpha float64) (mean float64) {
		parts, err := learn.Split(set, 20, alpha, 4)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range parts {
			counts := make([]int, 10)
			for _, i := range part {
				counts[set.Label(i)]++
			}
			mean += float64(slices.Max(counts)) / float64(len(part)) / float64(len(parts))
		}
		return mean
	}
	if skewed, even := favourite(0.5), favourite(1000); skewed < 0.25 || even > 0.15 {
		t.Errorf("share of the favourite class: %v at alpha 0.5, %v at 1000", skewed, even)
	}
}

func TestSplitRefusesTheImpossible(t *testing.T) {
	set := newBlobs(100, 2, 10, 2)
	for _, c := range []struct {
		clients int
		alpha   float64
	}{{0, 0.5}, {2, 0}, {2, math.NaN()}, {50, 0.5}} {
		if _, err := learn.Split(set, c.clients, c.alpha, 1); err == nil {
			t.Errorf("%d clients, alpha %v: no error", c.clients, c.alpha)
		}
	}
}

func TestMean(t *testing.T) {
	m := learn.NewMean(2)
	if _, err := m.Model(); err == nil {
		t.Error("a mean of nothing")
	}
	for _, add := range []struct {
		params []float32
		weight int64
	}{{[]float32{1, 1 << 20}, 1}, {[]float32{5, -1.0 / (1 << 20)}, 3}} {
		if err := m.Add(add.params, add.weight); err != nil {
			t.Fatal(err)
		}
	}
	got, err := m.Model()
	if err != nil {
		t.Fatal(err)
	}
	want := []float32{4, float32((float64(1<<20) - 3.0/(1<<20)) / 4)}
	if !slices.Equal(got, want) || m.Weight() != 4 {
		t.Errorf("got %v of weight %d, want %v of weight 4", got, m.Weight(), want)
	}
	if m.Add([]float32{1}, 1) == nil || m.Add([]float32{1, 2}, 0) == nil {
		t.Error("a wrong length or weight was taken")
	}
}
