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

// Where a flag's value may come from.
const (
	fromFlag        = "flag"
	fromEnvironment = "environment"
	fromFile        = "file"
	fromDefault     = "default"
)

// An origin is where a flag got its value: the kind of place, and the place.
type origin struct{ kind, place string }

// settings are a command's flags, once the environment and the file have had their say.
type settings struct {
	flags  *pflag.FlagSet
	from   map[string]origin // by flag; those not in it have their default
	faults []error
}

// settle sets the flags that are not on the command line from the environment, where an empty variable counts as not
// set, and those left from the file that --config names, where the command has such a flag. It goes on after a fault.
func settle(cmd *cobra.Command, lookup func(string) (string, bool)) *settings {
	s := &settings{flags: cmd.Flags(), from: map[string]origin{}}
	s.flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			s.from[f.Name] = origin{fromFlag, "--" + f.Name}
			return
		}
		name := variable(f.Name)
		v, ok := lookup(name)
		if !ok || v == "" || f.Name == "help" {
			return
		}
		s.from[f.Name] = origin{fromEnvironment, name}
		if err := s.flags.Set(f.Name, v); err != nil {
			s.faults = append(s.faults, fmt.Errorf("%s in the environment: %w", name, badValue(f, v, err)))
		}
	})
	if f := s.flags.Lookup(configFlag); f != nil && f.Value.String() != "" {
		s.faults = append(s.faults, s.readFile(f.Value.String())...)
	}
	return s
}

// origin tells where a flag's value came from.
func (s *settings) origin(flag string) origin {
	if o, ok := s.from[flag]; ok {
		return o
	}
	return origin{kind: fromDefault}
}

// secret reports whether a flag's value must not be shown: it is told by its name, unless it names a file.
func secret(f *pflag.Flag) bool {
	if kind, _ := pflag.UnquoteUsage(f); kind == "file" {
		return false
	}
	last := f.Name[strings.LastIndexByte(f.Name, '-')+1:]
	switch strings.TrimSuffix(last, "s") {
	case "token", "secret", "password", "key":
		return true
	}
	return false
}

// badValue says what is wrong with a value for a flag.
func badValue(f *pflag.Flag, v string, err error) error {
	if secret(f) {
		return fmt.Errorf("the value for --%s cannot be used", f.Name)
	}
	if want := wanted(f); want != "" {
		return fmt.Errorf("%s is %q; it must be %s", f.Name, v, want)
	}
	return fmt.Errorf("%s is %q: %w", f.Name, v, err)
}

// wanted is what a flag takes, in words; empty where its type does not say.
func wanted(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		return "true or false"
	case "int", "int8", "int16", "int32", "int64":
		return "a whole number"
	case "uint", "uint8", "uint16", "uint32", "uint64":
		return "a whole number, 0 or more"
	case "float32", "float64":
		return "a number"
	case "duration":
		return "a duration, as 500ms, 30s or 2m"
	}
	return ""
}
