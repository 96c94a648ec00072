package report

import (
	"fmt"
	"math"
	"slices"
)

// Summary is what is said of the repeats of a measurement.
type Summary struct{ Median, Min, Max float64 }

// Summarise returns the summary of some values; of none, NaNs. The median of an
// even number of values is the mean of the two in the middle.
func Summarise(values []float64) Summary {
	if len(values) == 0 {
		return Summary{math.NaN(), math.NaN(), math.NaN()}
	}
	s := slices.Sorted(slices.Values(values))
	low, high := s[(len(s)-1)/2], s[len(s)/2]
	return Summary{Median: low + (high-low)/2, Min: s[0], Max: s[len(s)-1]}
}

// String has three digits, and the range when there is one.
func (s Summary) String() string {
	if s.Min == s.Max {
		return digits(s.Median)
	}
	return fmt.Sprintf("%s (%s..%s)", digits(s.Median), digits(s.Min), digits(s.Max))
}

// digits writes a number with about three digits that mean something.
func digits(x float64) string {
	switch a := math.Abs(x); {
	case math.IsNaN(x):
		return "-"
	case a >= 99.95:
		return fmt.Sprintf("%.0f", x)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", x)
	case a >= 0.9995 || x == 0:
		return fmt.Sprintf("%.2f", x)
	default:
		return fmt.Sprintf("%.3f", x)
	}
}
