package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

const (
	configFlag = "config"
	checkFlag  = "check"
	maxConfig  = 1 << 20 // bytes
)

// inNoFile are the flags that are of one run and not of the peer.
var inNoFile = []string{configFlag, checkFlag, "json", "help"}

// keys are what a file may set: every other flag, whoever registered it.
func (s *settings) keys() []string {
	var names []string
	s.flags.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(inNoFile, f.Name) {
			names = append(names, f.Name)
		}
	})
	return names
}

// readFile sets the flags that nothing else has set from a YAML file, and returns all that is wrong with it.
func (s *settings) readFile(path string) []error {
	root, err := parseFile(path)
	switch {
	case err != nil:
		return []error{err}
	case root == nil:
		return nil
	}
	var faults []error
	bad := func(at *yaml.Node, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s:%d: %w", path, at.Line, fmt.Errorf(format, args...)))
	}
	if root.Kind != yaml.MappingNode {
		bad(root, "the file must consist of lines as name: value, one for each flag that is to be set")
		return faults
	}
	seen := map[string]int{}
	known := s.keys()
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		name := key.Value
		switch first, twice := seen[name]; {
		case key.Kind != yaml.ScalarNode:
			bad(key, "a key must be the name of a flag")
			continue
		case twice:
			bad(key, "%s is set twice, first in line %d; keep one", name, first)
			continue
		case slices.Contains(inNoFile, name):
			bad(key, "%s cannot be set in a file; give it as --%s", name, name)
			continue
		case !slices.Contains(known, name):
			bad(key, "there is no key %q%s", printable(name), didYouMean(name, known))
			continue
		}
		seen[name] = key.Line
		f := s.flags.Lookup(name)
		if _, taken := s.from[name]; taken {
			// What is overridden must be right all the same: the override will go one day.
			f = scratch(f)
		} else {
			s.from[name] = origin{fromFile, fmt.Sprintf("%s:%d", path, key.Line)}
		}
		if f == nil {
			continue
		}
		if err := assign(f, value); err != nil {
			bad(value, "%w", err)
		}
	}
	return faults
}

// scratch is a flag of the same kind that nobody reads, or nil where no such one can be made.
func scratch(f *pflag.Flag) *pflag.Flag {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	switch f.Value.Type() {
	case "bool":
		fs.Bool(f.Name, false, f.Usage)
	case "int":
		fs.Int(f.Name, 0, f.Usage)
	case "int64":
		fs.Int64(f.Name, 0, f.Usage)
	case "uint64":
		fs.Uint64(f.Name, 0, f.Usage)
	case "float64":
		fs.Float64(f.Name, 0, f.Usage)
	case "duration":
		fs.Duration(f.Name, 0, f.Usage)
	case "string":
		fs.String(f.Name, "", f.Usage)
	case "stringSlice":
		fs.StringSlice(f.Name, nil, f.Usage)
	}
	return fs.Lookup(f.Name)
}

// parseFile reads a file into its one top node; nil when it has nothing in it.
func parseFile(path string) (*yaml.Node, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("--config: %w", err)
	case len(b) > maxConfig:
		return nil, fmt.Errorf("%s: more than %d bytes; this is no configuration", path, maxConfig)
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	var doc, second yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, badYAML(path, err)
	}
	if err := d.Decode(&second); err == nil {
		return nil, fmt.Errorf("%s:%d: a second document begins; a configuration has one", path, second.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, badYAML(path, err)
	}
	if len(doc.Content) != 1 || doc.Content[0].Tag == "!!null" {
		return nil, nil
	}
	return doc.Content[0], nil
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// badYAML puts the file and the line first.
func badYAML(path string, err error) error {
	text := err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil && m[1] != "" {
		path += ":" + m[1]
	}
	return fmt.Errorf("%s: this is no YAML: %s", path, yamlLine.ReplaceAllString(text, ""))
}

// assign gives a flag the value that a file has for it.
func assign(f *pflag.Flag, value *yaml.Node) error {
	if many, ok := f.Value.(pflag.SliceValue); ok && value.Kind == yaml.SequenceNode {
		items := make([]string, 0, len(value.Content))
		for _, item := range value.Content {
			if item.Kind != yaml.ScalarNode || item.Tag == "!!null" {
				return fmt.Errorf("%s is a list of texts; one item, in line %d, is %s", f.Name, item.Line, kindOf(item))
			}
			items = append(items, item.Value)
		}
		if err := many.Replace(items); err != nil {
			return badValue(f, strings.Join(items, ","), err)
		}
		f.Changed = true
		return nil
	}
	want := cmp.Or(wanted(f), "text")
	fits := value.Kind == yaml.ScalarNode && value.Tag != "!!null"
	switch f.Value.Type() {
	case "bool":
		fits = fits && value.Tag == "!!bool"
	case "string", "stringSlice", "stringArray":
		fits = fits && value.Tag != "!!bool"
		if value.Tag == "!!bool" {
			want = fmt.Sprintf(`text: write "%s" if it is meant so`, value.Value)
		}
	}
	if !fits {
		return fmt.Errorf("%s is %s; it must be %s", f.Name, kindOf(value), want)
	}
	if err := f.Value.Set(value.Value); err != nil {
		return badValue(f, value.Value, err)
	}
	f.Changed = true
	return nil
}

// kindOf names what a node is.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "a group of keys"
	case yaml.AliasNode:
		return "an alias, which is not supported"
	}
	switch n.Tag {
	case "!!null":
		return "empty (leave the key out for the default)"
	case "!!bool":
		return n.Value
	case "!!int", "!!float":
		return "the number " + n.Value
	}
	return fmt.Sprintf("%q", n.Value)
}
