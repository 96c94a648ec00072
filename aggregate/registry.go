package aggregate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Info describes a strategy.
type Info struct {
	Name    string
	Summary string // one line
	Paper   string // where it comes from
	Params  []Param
}

// Param is a parameter of a strategy.
type Param struct {
	Name    string
	Default string
	Values  string // the values it takes, as "a number, 0 < x < 1" or "constant or polynomial"
	Summary string // one line

	rule rule
}

// entry is a strategy that can be looked up.
type entry struct {
	info Info
	make func(args args) (Strategy, error)
}

// entries lists the strategies by name.
func entries() []entry {
	return []entry{
		{bulyanInfo(), newBulyan},
		{fedAdagradInfo(), newFedAdagrad},
		{fedAdamInfo(), newFedAdam},
		{fedAvgInfo(), newFedAvg},
		{fedAvgMInfo(), newFedAvgM},
		{fedMedianInfo(), newFedMedian},
		{fedTrimmedAvgInfo(), newFedTrimmedAvg},
		{fedYogiInfo(), newFedYogi},
		{geoMedianInfo(), newGeoMedian},
		{krumInfo(), newKrum},
		{multiKrumInfo(), newMultiKrum},
	}
}

// Strategies describes all strategies, sorted by name.
func Strategies() []Info {
	var infos []Info
	for _, e := range entries() {
		infos = append(infos, e.info)
	}
	return infos
}

// Lookup returns the named strategy with the given parameters, and the default for those that are not given. The error for a name or a
// parameter that does not exist lists those that do, that for a value says which are taken; both wrap [ErrStrategy].
func Lookup(name string, params map[string]string) (Strategy, error) {
	var names []string
	for _, e := range entries() {
		if e.info.Name == name {
			args, err := e.info.parse(params)
			if err != nil {
				return nil, err
			}
			s, err := e.make(args)
			if err != nil {
				return nil, err
			}
			return s, nil
		}
		names = append(names, e.info.Name)
	}
	return nil, fmt.Errorf("aggregate: strategy %.80q, want %s: %w", name, strings.Join(names, ", "), ErrStrategy)
}

// parse reads parameters and fills in defaults. The error lists all faults.
func (i Info) parse(params map[string]string) (args, error) {
	var faults []error
	out := args{numbers: map[string]float64{}, words: map[string]string{}}
	for _, p := range i.Params {
		text, given := params[p.Name]
		if !given {
			text = p.Default
		}
		if err := p.rule.parse(out, p.Name, text); err != nil {
			faults = append(faults, fmt.Errorf("aggregate: %s: %s is %.80q, want %s: %w", i.Name, p.Name, text, p.Values, ErrStrategy))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if !slices.ContainsFunc(i.Params, func(p Param) bool { return p.Name == name }) {
			faults = append(faults, fmt.Errorf("aggregate: %s has no parameter %.80q, it takes %s: %w", i.Name, name, i.names(), ErrStrategy))
		}
	}
	return out, errors.Join(faults...)
}

func (i Info) names() string {
	if len(i.Params) == 0 {
		return "none"
	}
	var names []string
	for _, p := range i.Params {
		names = append(names, p.Name)
	}
	return strings.Join(names, ", ")
}
