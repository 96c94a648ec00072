package figures

import (
	"fmt"
	"math"
	"slices"
)

// Quantile is the smallest of the sorted values that a share q of them does not
// exceed; NaN of none.
func Quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[min(len(sorted)-1, max(0, int(math.Ceil(q*float64(len(sorted))))-1))]
}

// Median is the mean of the two values in the middle, sorted or not; NaN of none.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(values))
	low, high := s[(len(s)-1)/2], s[len(s)/2]
	return low + (high-low)/2
}

// Seconds writes a time.
func Seconds(x float64) string {
	switch {
	case math.IsNaN(x):
		return "-"
	case math.Abs(x) < 0.9995:
		return fmt.Sprintf("%.0f ms", 1000*x)
	case x < 9.995:
		return fmt.Sprintf("%.2f s", x)
	}
	return fmt.Sprintf("%.1f s", x)
}

// Count writes a number of things.
func Count(n float64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.4gM", n/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.4gk", n/1e3)
	}
	return fmt.Sprintf("%.4g", n)
}

// Size writes a number of bytes.
func Size(n float64) string {
	switch {
	case math.IsNaN(n):
		return "-"
	case n >= 999.5e6:
		return fmt.Sprintf("%.3g GB", n/1e9)
	case n >= 999.5e3:
		return fmt.Sprintf("%.3g MB", n/1e6)
	case n >= 999.5:
		return fmt.Sprintf("%.3g kB", n/1e3)
	}
	return fmt.Sprintf("%.0f B", n)
}
