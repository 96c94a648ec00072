package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// strategyInfo is what `fedmesh session strategies --json` prints of each.
type strategyInfo struct {
	Name      string          `json:"name"`
	Summary   string          `json:"summary"`
	Paper     string          `json:"paper"`
	Combiners int             `json:"combiners"` // the fewest in a round, with the default parameters
	Params    []strategyParam `json:"params"`
}

type strategyParam struct {
	Name    string `json:"name"`
	Default string `json:"default"`
	Values  string `json:"values"`
	Summary string `json:"summary"`
}

func newSessionStrategies(a *app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "strategies [NAME...]",
		Short: "List the strategies and their parameters",
		Long: `List the strategies that "session create --strategy" takes, or the named ones:
what each does, the paper it comes from, and the parameters for --set with their
defaults and the values they take. No peer is asked: a peer of another version
may know others.`,
		Example: `  fedmesh session strategies krum
  fedmesh session create digits --seed seed.npz --strategy krum --set num_malicious_clients=1`,
		RunE: func(_ *cobra.Command, args []string) error {
			infos, err := strategies(args)
			if err != nil {
				return err
			}
			return a.result(asJSON, infos, showStrategies(infos))
		},
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// strategies returns all strategies, or the named ones in the order of their names.
func strategies(names []string) ([]strategyInfo, error) {
	for _, name := range names {
		if _, err := aggregate.Lookup(name, nil); err != nil {
			return nil, &usageError{err}
		}
	}
	infos := []strategyInfo{}
	for _, i := range aggregate.Strategies() {
		if len(names) > 0 && !slices.Contains(names, i.Name) {
			continue
		}
		s, err := aggregate.Lookup(i.Name, nil)
		if err != nil {
			return nil, err
		}
		info := strategyInfo{Name: i.Name, Summary: i.Summary, Paper: i.Paper, Combiners: s.Limits().Combiners, Params: []strategyParam{}}
		for _, p := range i.Params {
			info.Params = append(info.Params, strategyParam{Name: p.Name, Default: p.Default, Values: p.Values, Summary: p.Summary})
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func showStrategies(infos []strategyInfo) string {
	var b strings.Builder
	for n, i := range infos {
		if n > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(i.Name + "\n")
		b.WriteString(wrap(i.Summary, "    "))
		b.WriteString(wrap(i.Paper, "    "))
		if i.Combiners > 1 {
			fmt.Fprintf(&b, "    at least %d combiners in a round; parameters may ask for more\n", i.Combiners)
		}
		var names int
		for _, p := range i.Params {
			names = max(names, columns(p.Name+"="+p.Default))
		}
		for _, p := range i.Params {
			fmt.Fprintf(&b, "  %-*s  %s\n", names, p.Name+"="+p.Default, p.Values)
			b.WriteString(wrap(p.Summary, "      "))
		}
	}
	return b.String()
}

// wrap breaks text between words into indented lines that fit a terminal.
func wrap(text, indent string) string { return wrapTo(text, indent, indent, width) }

// wrapTo breaks text between words into lines that fit the limit; the first has a beginning of its own.
func wrapTo(text, first, indent string, limit int) string {
	var b strings.Builder
	line, empty := first, true
	for word := range strings.FieldsSeq(text) {
		switch {
		case empty:
			line += word
		case columns(line)+1+columns(word) <= limit:
			line += " " + word
		default:
			b.WriteString(line + "\n")
			line = indent + word
		}
		empty = false
	}
	return b.String() + line + "\n"
}

// checkConfig finds what a peer would refuse a config for, as far as that can be known before one is asked.
func checkConfig(cfg api.SessionConfig) error {
	if err := cfg.Validate(); err != nil {
		return &usageError{err}
	}
	const next = "fedmesh session strategies lists the strategies, their parameters and the values they take"
	s, err := aggregate.Lookup(cfg.Strategy, cfg.Params)
	if err != nil {
		return hint(&usageError{err}, next)
	}
	// Whether the mesh has a secret is for the peers to say.
	err = aggregate.Require(s, aggregate.Session{MinCombiners: cfg.MinCombiners, TargetCombiners: cfg.TargetCombiners, Secret: true})
	if errors.Is(err, aggregate.ErrSession) {
		return hint(&usageError{err}, "give --target-combiners %d or more, or 0 to close rounds by time only", s.Limits().Combiners)
	}
	return err
}
