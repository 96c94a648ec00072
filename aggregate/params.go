package aggregate

import (
	"math"
	"slices"
	"strconv"
	"strings"
)

// args are parsed parameters.
type args struct {
	numbers map[string]float64
	words   map[string]string
}

// rule says which values a parameter takes: some words, or a number in a range.
type rule struct {
	words    []string
	min, max float64
	open     bool // min itself is not taken
	below    bool // max itself is not taken
	integer  bool
}

// parse stores the value of a parameter, or returns an error for one that the rule does not allow.
func (r rule) parse(out args, name, text string) error {
	if r.words != nil {
		if !slices.Contains(r.words, text) {
			return strconv.ErrSyntax
		}
		out.words[name] = text
		return nil
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return err
	}
	// A NaN fails these.
	low := x > r.min || x == r.min && !r.open
	high := x < r.max || x == r.max && !r.below
	if !low || !high || r.integer && x != math.Trunc(x) {
		return strconv.ErrRange
	}
	out.numbers[name] = x + 0 // -0 is 0
	return nil
}

// String returns the values for people.
func (r rule) String() string {
	if r.words != nil {
		return strings.Join(r.words, " or ")
	}
	kind, low, high := "a number, ", " ≤ x", " ≤ "
	if r.integer {
		kind = "an integer, "
	}
	if r.open {
		low = " < x"
	}
	if r.below {
		high = " < "
	}
	num := func(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }
	return kind + num(r.min) + low + high + num(r.max)
}

func param(name, value string, r rule, summary string) Param {
	return Param{Name: name, Default: value, Values: r.String(), Summary: summary, rule: r}
}

// Rules that several strategies share.
func rate() rule     { return rule{max: 1e6, open: true} }
func decay() rule    { return rule{max: 1, below: true} }
func count() rule    { return rule{max: 1 << 20, integer: true} }
func positive() rule { return rule{max: 1e9, open: true} }
