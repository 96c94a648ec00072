package gauss_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate/internal/gauss"
)

func stream(name string) *gauss.Stream {
	s := gauss.NewStream([32]byte{1})
	s.Reset([]byte(name))
	return s
}

// TestSmall compares counts with the probabilities: chi-squared with k degrees of freedom is beyond k + 5√2k with a probability below 1e-5, and
// the samples are the same each time. A deviation that is off by 3 % adds 2·0.03² for each draw, which is more than the room there is.
func TestSmall(t *testing.T) {
	t.Parallel()
	const draws = 100_000
	for _, sigma := range []uint64{1, 2, 3, 10} {
		g, r := gauss.New(sigma), stream(fmt.Sprint("small ", sigma))
		counts := map[int64]int{}
		for range draws {
			counts[g.Sample(r)]++
		}
		p := func(x int64) float64 { return math.Exp(-float64(x*x) / float64(2*sigma*sigma)) }
		var total float64
		for x := int64(-200); x <= 200; x++ {
			total += p(x)
		}
		var chi float64
		bins := 0
		for x := int64(-200); x <= 200; x++ {
			want := draws * p(x) / total
			if want < 10 {
				continue
			}
			d := float64(counts[x]) - want
			chi += d * d / want
			bins++
		}
		k := float64(bins - 1)
		if chi > k+5*math.Sqrt(2*k) {
			t.Errorf("deviation %d: chi-squared %.1f of %d bins", sigma, chi, bins)
		}
	}
}

// TestLarge compares with the normal distribution, which large samples are as good as: the largest difference of the distribution functions of n
// samples is beyond 2.2/√n with a probability below 1e-4.
func TestLarge(t *testing.T) {
	t.Parallel()
	const draws = 100_000
	for _, sigma := range []uint64{1 << 10, 1<<21 + 12345, gauss.MaxDeviation} {
		g, r := gauss.New(sigma), stream("large")
		const bins = 200
		var counts [bins + 1]int
		var square float64
		for range draws {
			x := float64(g.Sample(r)) / float64(sigma)
			square += x * x
			counts[max(0, min(bins, int(math.Floor((x+4)/8*bins))))]++
		}
		seen := 0
		for i, c := range counts[:bins] {
			seen += c
			edge := float64(i+1)/bins*8 - 4
			want := 0.5 * math.Erfc(-edge/math.Sqrt2)
			if got := float64(seen) / draws; i > 0 && math.Abs(got-want) > 2.2/math.Sqrt(draws) {
				t.Fatalf("deviation %d: %v of the samples below %v, want %v", sigma, got, edge, want)
			}
		}
		if v := square / draws; math.Abs(v-1) > 5*math.Sqrt(2.0/draws) {
			t.Errorf("deviation %d: variance is %v of its square", sigma, v)
		}
	}
}

// TestGolden: the samples may never change, or peers of two versions disagree.
func TestGolden(t *testing.T) {
	r := gauss.NewStream([32]byte{31: 7})
	var got []int64
	for _, c := range []struct {
		name  uint64
		sigma uint64
	}{{1, 1}, {2, 30}, {3, 1 << 40}} {
		r.Reset(binary.LittleEndian.AppendUint64(nil, c.name))
		g := gauss.New(c.sigma)
		for range 5 {
			got = append(got, g.Sample(r))
		}
	}
	const want = "[1 -1 1 1 -2 -60 -5 -27 -23 17 750607498687 -1048339841241 380814761113 1350224129499 723099734880]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func BenchmarkSample(b *testing.B) {
	g, r := gauss.New(1<<40), stream("bench")
	for b.Loop() {
		g.Sample(r)
	}
}
