package aggregate_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// vectors is a file that testdata/vectors/make.py wrote: what the strategies of another package make of some updates.
type vectors struct {
	Package string
	Unit    float64
	First   []float64
	Rounds  []struct {
		Weights []int64
		Updates [][]float64
	}
	Results []struct {
		Strategy, Like string
		Params         map[string]string
		Models         [][]float64
	}
}

// TestVectors compares with the real strategies of Flower and FEDn.
//
// Those were given float64 arrays, so their results differ from the exact ones by far less than float32 tells apart: ours may be one float32
// off where rounding falls the other way. Optimizers keep their moments in float32 between rounds, theirs here in float64: each moment is then off by
// up to 2^-24 of itself, so a step by a little more, and 2^-22 of the step is allowed.
func TestVectors(t *testing.T) {
	for _, name := range []string{"flwr", "fedn"} {
		b, err := os.ReadFile("testdata/vectors/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		var v vectors
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(v.Package, name) || len(v.Results) == 0 {
			t.Fatalf("vectors of %s", v.Package)
		}
		l := mustLayout(t, model.Tensor{Name: "0", DType: model.F32, Shape: []int64{5, 6}}, model.Tensor{Name: "1", DType: model.F32, Shape: []int64{10}})
		narrow := func(xs []float64, unit float64) []float32 {
			out := make([]float32, len(xs))
			for i, x := range xs {
				out[i] = float32(x / unit)
			}
			return out
		}
		for _, result := range v.Results {
			t.Run(result.Like, func(t *testing.T) {
				s, err := aggregate.Lookup(result.Strategy, result.Params)
				if err != nil {
					t.Fatal(err)
				}
				prev := narrow(v.First, v.Unit)
				var state []byte
				for i, round := range v.Rounds {
					r := aggregate.Round{Spec: mustSpec(t, l, nil), Number: uint64(i) + 1, Prev: stored(f32File(l, prev...))}
					if state != nil {
						r.State = stored(state)
					}
					for k, u := range round.Updates {
						r.Updates = append(r.Updates, aggregate.Update{
							Weight: round.Weights[k], Base: r.Prev.Digest, BaseRound: uint64(i), Name: fmt.Sprint(k),
							Source: reader(f32File(l, narrow(u, v.Unit)...)),
						})
					}
					var out []byte
					out, state, _ = run(t, s, r, 17)
					got, want := f32s(out[len(l.Header()):]), result.Models[i]
					if len(got) != len(want) {
						t.Fatalf("%d values, want %d", len(got), len(want))
					}
					for k := range got {
						x := float64(got[k])
						step := math.Abs(want[k] - float64(prev[k]))
						if ulps(x, want[k]) > 1 && (state == nil || math.Abs(x-want[k]) > 0x1p-22*step) {
							t.Fatalf("round %d, element %d: %v, %s has %v", i+1, k, x, v.Package, want[k])
						}
					}
					prev = narrow(want, 1)
				}
			})
		}
	}
}
