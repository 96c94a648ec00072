package figures_test

import (
	"math"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/figures"
)

func TestQuantile(t *testing.T) {
	for q, want := range map[float64]float64{0: 1, 0.5: 2, 0.51: 3, 0.99: 4, 1: 4} {
		if got := figures.Quantile([]float64{1, 2, 3, 4}, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	values := []float64{4, 1, 3}
	if got := figures.Median(values); got != 3 || values[0] != 4 {
		t.Errorf("median %v of %v", got, values)
	}
	if got := figures.Median([]float64{4, 1, 3, 2}); got != 2.5 {
		t.Errorf("median %v", got)
	}
	if !math.IsNaN(figures.Quantile(nil, 0.5)) || !math.IsNaN(figures.Median(nil)) {
		t.Error("a figure of nothing")
	}
}

func TestUnits(t *testing.T) {
	for got, want := range map[string]string{
		figures.Seconds(0.0204): "20 ms", figures.Seconds(2): "2.00 s", figures.Seconds(61.23): "61.2 s", figures.Seconds(math.NaN()): "-",
		figures.Count(10_000): "10k", figures.Count(2_500_000): "2.5M", figures.Count(7): "7",
		figures.Size(12): "12 B", figures.Size(1000): "1 kB", figures.Size(999_900): "1 MB", figures.Size(2.5e9): "2.5 GB", figures.Size(math.NaN()): "-",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestLimits(t *testing.T) {
	var l figures.Limits
	l.Zero("lost", 0)
	if err := l.Broken("x"); err != nil {
		t.Error(err)
	}
	l.Add("time", "at most 1 s", false, "%s", figures.Seconds(2))
	l.Zero("doubled", 3)
	err := l.Broken("x")
	if err == nil || err.Error() != "x: time: 2.00 s, want at most 1 s\nx: doubled: 3, want 0" {
		t.Errorf("got %v", err)
	}
	var text strings.Builder
	if err := l.Write(&text); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(text.String(), "NOT KEPT"); n != 2 || !strings.Contains(text.String(), "lost     0") {
		t.Errorf("%d not kept in\n%s", n, text.String())
	}
}
