package aggregate_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/aggregate"
)

// lookup returns a strategy with parameters given as name, value, name, value.
func lookup(t testing.TB, name string, params ...string) aggregate.Strategy {
	t.Helper()
	m := map[string]string{}
	for i := 0; i < len(params); i += 2 {
		m[params[i]] = params[i+1]
	}
	s, err := aggregate.Lookup(name, m)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLookup(t *testing.T) {
	for _, c := range []struct {
		name   string
		params []string
		says   string
	}{
		{"fedavg", nil, ""},
		{"", nil, "fedavg"},
		{"FedAvg", nil, "fedadagrad, fedadam, fedavg, "},
		{"fedavg", []string{"z", "1", "beta", "2"}, `no parameter "beta", it takes staleness, staleness_exponent`},
		{"fedavg", []string{"z", "1", "beta", "2"}, `no parameter "z"`},
		{"fedavg", []string{"staleness", "Polynomial"}, `staleness is "Polynomial", want constant or polynomial`},
		{"fedavg", []string{"staleness", "polynomial", "staleness_exponent", "0.125"}, ""},
		{"fedavg", []string{"staleness_exponent", "0.3333"}, "three decimals"},
		{"fedadam", []string{"beta_1", "1"}, `beta_1 is "1", want a number, 0 ≤ x < 1`},
		{"fedadam", []string{"beta_1", "NaN"}, "beta_1"},
		{"fedadam", []string{"eta", "Inf"}, "eta"},
		{"fedadam", []string{"eta", "0"}, "0 < x"},
		{"fedadam", []string{"eta", ""}, "eta"},
		{"fedadam", []string{"eta", "x", "tau", "y"}, "tau"},
		{"fedadam", []string{"eta", "1e-1", "beta_1", "0", "beta_2", "0.999", "tau", "1e-9"}, ""},
		{"fedadagrad", []string{"beta_2", "0.9"}, `no parameter "beta_2"`},
	} {
		params := map[string]string{}
		for i := 0; i < len(c.params); i += 2 {
			params[c.params[i]] = c.params[i+1]
		}
		s, err := aggregate.Lookup(c.name, params)
		if c.says == "" {
			if err != nil || s.Info().Name != c.name {
				t.Errorf("%q %v: %v", c.name, params, err)
			}
			continue
		}
		if !errors.Is(err, aggregate.ErrStrategy) || !strings.Contains(err.Error(), c.says) || s != nil {
			t.Errorf("%q %v: %v", c.name, params, err)
		}
	}
}

// TestStrategies: all are described, and what is said to be the default is one.
func TestStrategies(t *testing.T) {
	var names []string
	for _, i := range aggregate.Strategies() {
		names = append(names, i.Name)
		defaults := map[string]string{}
		for _, p := range i.Params {
			defaults[p.Name] = p.Default
			if p.Name == "" || p.Summary == "" || p.Values == "" {
				t.Errorf("%s: parameter %+v", i.Name, p)
			}
		}
		if len(defaults) != len(i.Params) {
			t.Errorf("%s: two parameters have one name", i.Name)
		}
		s, err := aggregate.Lookup(i.Name, defaults)
		if err != nil || i.Summary == "" || i.Paper == "" {
			t.Errorf("%+v: %v", i, err)
			continue
		}
		if l := s.Limits(); l.Combiners < 1 || l.Weight < 1 || l.Weight > aggregate.MaxTotalWeight {
			t.Errorf("%s: %+v", i.Name, l)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("strategies: %v", names)
	}
}
