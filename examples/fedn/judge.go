package main

import (
	"fmt"
	"math"
	"math/big"
	"path/filepath"

	"github.com/fedmesh/fedmesh/examples/mnist/digits"
)

// tensorNames are the model's arrays as FEDn names them, and as numpy names those of an update.
var tensorNames = [][2]string{{"0", "arr_0"}, {"1", "arr_1"}}

// update is what a client brought in a round.
type update struct {
	client   string
	examples int64
	values   [][]float64
}

// updates reads what the clients of some networks brought in a round.
func (s *scene) updates(round int, clients []string) ([]update, error) {
	var us []update
	for _, c := range clients {
		a, err := readNPZ(s.updateOf(c, round))
		if err != nil {
			return nil, err
		}
		n, err := a.tensor("examples")
		if err != nil {
			return nil, err
		}
		u := update{client: c, examples: int64(n[0])}
		for _, name := range tensorNames {
			v, err := a.tensor(name[1])
			if err != nil {
				return nil, err
			}
			u.values = append(u.values, v)
		}
		us = append(us, u)
	}
	return us, nil
}

// exactMean is the weighted mean of all clients, to as many bits as a float64 has.
func exactMean(us []update) [][]float64 {
	total := new(big.Float).SetPrec(200)
	for _, u := range us {
		total.Add(total, new(big.Float).SetInt64(u.examples))
	}
	out := make([][]float64, len(tensorNames))
	sum, x := new(big.Float).SetPrec(200), new(big.Float).SetPrec(200)
	for t := range out {
		out[t] = make([]float64, len(us[0].values[t]))
		for i := range out[t] {
			sum.SetInt64(0)
			for _, u := range us {
				sum.Add(sum, x.Mul(x.SetFloat64(u.values[t][i]), new(big.Float).SetInt64(u.examples)))
			}
			out[t][i], _ = x.Quo(sum, total).Float64()
		}
	}
	return out
}

// distance is how far a model is from the exact mean at most: in units in the last place of the
// largest weight that goes into a value, and absolutely.
type distance struct {
	ulps float64
	abs  float64
}

func (s *scene) distance(model string, us []update) (d distance, err error) {
	a, err := readNPZ(filepath.Join(s.dir, model))
	if err != nil {
		return d, err
	}
	mean := exactMean(us)
	for t, name := range tensorNames {
		got, err := a.tensor(name[0])
		if err != nil {
			return d, err
		}
		if len(got) != len(mean[t]) {
			return d, fmt.Errorf("fedn: array %s of %s has %d values, not %d", name[0], model, len(got), len(mean[t]))
		}
		for i, v := range got {
			largest := math.Abs(mean[t][i])
			for _, u := range us {
				largest = max(largest, math.Abs(u.values[t][i]))
			}
			ulp := float64(math.Nextafter32(float32(largest), math.MaxFloat32) - float32(largest))
			off := math.Abs(v - mean[t][i])
			d.ulps, d.abs = max(d.ulps, off/ulp), max(d.abs, off)
		}
	}
	return d, nil
}

// accuracy is the share of the test images that a model recognises.
func (s *scene) accuracy(model string) (float64, error) {
	a, err := readNPZ(filepath.Join(s.dir, model))
	if err != nil {
		return 0, err
	}
	w, err := a.tensor("0")
	if err != nil {
		return 0, err
	}
	b, err := a.tensor("1")
	if err != nil {
		return 0, err
	}
	right, x := 0, make([]float32, digits.Pixels)
	for i := range s.test.Len() {
		s.test.Image(i, x)
		best, at := math.Inf(-1), 0
		for c := range digits.Classes {
			z := b[c]
			for j, v := range x {
				if v != 0 {
					z += w[j*digits.Classes+c] * float64(v)
				}
			}
			if z > best {
				best, at = z, c
			}
		}
		if at == s.test.Label(i) {
			right++
		}
	}
	return float64(right) / float64(s.test.Len()), nil
}
