package aggregate_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
)

// nowhere takes state.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }

// BenchmarkStrategies plans and computes a round of 8 updates of 1M float32; the bytes are those of the updates.
func BenchmarkStrategies(b *testing.B) {
	r, _, _ := contest(b, rand.New(rand.NewPCG(1, 1)), 8, 1<<20)
	for i := range r.Updates {
		r.Updates[i].Base = r.Prev.Digest
	}
	r.Secret, r.Inputs = secret, r.Prev.Digest
	for _, params := range [][]string{
		{"fedavg"},
		{"fedavg", "staleness", "polynomial"},
		{"fedavg", "clip_norm", "1"},
		{"fedavg", "clip_norm", "1", "dp_noise_multiplier", "1"},
		{"fedavgm", "server_momentum", "0.9"},
		{"fedadam"},
		{"fedyogi"},
		{"fedadagrad"},
		{"fedmedian"},
		{"fedtrimmedavg"},
		{"krum"},
		{"multikrum"},
		{"bulyan"},
		{"geomedian"},
	} {
		b.Run(strings.Join(params, " "), func(b *testing.B) {
			s := lookup(b, params[0], params[1:]...)
			b.SetBytes(8 * 4 << 20)
			var ws aggregate.Workspace
			for b.Loop() {
				plan, err := s.Plan(b.Context(), r)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := plan.Range(b.Context(), &ws, 0, r.Spec.Elements(), nil, aggregate.Output{Model: io.Discard, State: nowhere{}}); err != nil {
					b.Fatal(fmt.Errorf("%v: %w", params, err))
				}
			}
		})
	}
}
