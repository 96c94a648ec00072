package learn

import (
	"errors"
	"fmt"
)

// Mean is a weighted mean under way: what a combiner makes of its clients'
// models. The sum is kept in float64, where a product of a float32 and a weight
// below 2^29 is exact, and is rounded to float32 once, at the end.
type Mean struct {
	sum    []float64
	weight int64
}

// NewMean starts a mean of models of params parameters.
func NewMean(params int) *Mean { return &Mean{sum: make([]float64, params)} }

// Add counts a model with the given weight, its number of examples.
func (m *Mean) Add(params []float32, weight int64) error {
	if len(params) != len(m.sum) {
		return fmt.Errorf("learn: mean of models of %d parameters cannot take one of %d", len(m.sum), len(params))
	}
	if weight < 1 {
		return fmt.Errorf("learn: weight %d, want a number of examples", weight)
	}
	for i, p := range params {
		m.sum[i] += float64(float64(p) * float64(weight))
	}
	m.weight += weight
	return nil
}

// Weight is the sum of the weights.
func (m *Mean) Weight() int64 { return m.weight }

// Model is the mean of what was added.
func (m *Mean) Model() ([]float32, error) {
	if m.weight == 0 {
		return nil, errors.New("learn: mean of nothing")
	}
	out := make([]float32, len(m.sum))
	for i, s := range m.sum {
		out[i] = float32(s / float64(m.weight))
	}
	return out, nil
}
