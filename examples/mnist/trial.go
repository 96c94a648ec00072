package main

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/fedmesh/fedmesh/aggregate"
)

// trial is what one training tries: a strategy, and whether it is attacked.
type trial struct {
	Strategy string            `json:"strategy"`
	Params   map[string]string `json:"params,omitempty"`
	Attack   string            `json:"attack"`
}

func (t trial) String() string {
	words := []string{t.Strategy}
	for _, k := range slices.Sorted(maps.Keys(t.Params)) {
		words = append(words, k+"="+t.Params[k])
	}
	s := strings.Join(words, " ")
	if t.Attack != attackNone {
		s += ", attacked"
	}
	return s
}

// trials lists what is to be tried: the strategy, attacked if that was asked for.
// Several strategies are all trained in peace first, and then attacked.
func (c Config) trials() []trial {
	if !c.compares() {
		return []trial{{c.Strategy, c.params(c.Strategy), c.Attack}}
	}
	var out []trial
	for _, kind := range slices.Compact([]string{attackNone, c.Attack}) {
		for _, name := range c.Strategies {
			out = append(out, trial{name, c.params(name), kind})
		}
	}
	return out
}

// compares says that several strategies are to be tried.
func (c Config) compares() bool { return len(c.Strategies) > 0 }

// attackers is how many combiners attack.
func (c Config) attackers() int {
	if c.Attack == attackNone {
		return 0
	}
	return int(c.Attackers*float64(c.Combiners) + 1e-9)
}

// params are those of --set that the strategy has. What it is to withstand
// follows from the number of attackers unless it is set.
func (c Config) params(strategy string) map[string]string {
	out := map[string]string{}
	for _, p := range paramsOf(strategy) {
		value, given := c.Set[p]
		switch n := c.attackers(); {
		case given:
			out[p] = value
		case n > 0 && p == "num_malicious_clients":
			out[p] = strconv.Itoa(n)
		case n > 0 && p == "beta":
			out[p] = strconv.FormatFloat(shareOf(n, c.Combiners), 'f', -1, 64)
		}
	}
	return out
}

// shareOf is a share of all that, rounded down to whole ones, is n.
func shareOf(n, all int) float64 {
	thousandths := math.Ceil(1000 * float64(n) / float64(all))
	if int(thousandths/1000*float64(all)) < n {
		thousandths++
	}
	return thousandths / 1000
}

func paramsOf(strategy string) []string {
	var out []string
	for _, i := range aggregate.Strategies() {
		if i.Name == strategy {
			for _, p := range i.Params {
				out = append(out, p.Name)
			}
		}
	}
	return out
}

// checkTrials finds what the mesh would refuse a session for.
func (c Config) checkTrials() error {
	var errs []error
	names := c.Strategies
	if !c.compares() {
		names = []string{c.Strategy}
	}
	var known []string
	for i, name := range names {
		if slices.Contains(names[:i], name) {
			errs = append(errs, fmt.Errorf("mnist: --strategies names %s twice", name))
		}
		known = append(known, paramsOf(name)...)
		s, err := aggregate.Lookup(name, c.params(name))
		if err == nil {
			err = aggregate.Require(s, aggregate.Session{MinCombiners: c.Combiners, TargetCombiners: c.Combiners})
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("mnist: %w", err))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.Set)) {
		if !slices.Contains(known, key) {
			errs = append(errs, fmt.Errorf("mnist: --set %s: %s has no such parameter", key, strings.Join(names, ", ")))
		}
	}
	return errors.Join(errs...)
}

// settings is the flag --set.
type settings map[string]string

func (s settings) String() string { return "" }

func (s settings) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return errors.New("want key=value")
	}
	if _, again := s[key]; again {
		return fmt.Errorf("%s is set twice", key)
	}
	s[key] = value
	return nil
}
