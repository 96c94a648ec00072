package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// variable is the name of a flag in the environment.
func variable(flag string) string {
	return "FEDMESH_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// describeEnvironment appends to each flag's help the variable that sets it.
func describeEnvironment(cmd *cobra.Command) {
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		f.Usage += " [" + variable(f.Name) + "]"
	})
}

// fromEnvironment sets the flags that are not on the command line from the
// environment. An empty variable counts as not set.
func fromEnvironment(cmd *cobra.Command, lookup func(string) (string, bool)) error {
	var bad error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if bad != nil || f.Changed || f.Name == "help" {
			return
		}
		name := variable(f.Name)
		v, ok := lookup(name)
		if !ok || v == "" {
			return
		}
		if err := cmd.Flags().Set(f.Name, v); err != nil {
			bad = fmt.Errorf("invalid %s=%q in the environment, read for --%s: %w", name, v, f.Name, err)
		}
	})
	return bad
}
