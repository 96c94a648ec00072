package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// TestCommandTree compares the commands and their flags with those written down, so that no change to what scripts rely on goes unnoticed.
func TestCommandTree(t *testing.T) {
	var b strings.Builder
	for _, c := range commands(newRoot(&app{})) {
		fmt.Fprintf(&b, "%s\n", c.UseLine())
		client := c.Flags().Lookup("peers") != nil
		c.Flags().VisitAll(func(f *pflag.Flag) {
			switch f.Name {
			case "help":
				return
			case "ca", "cert", "key", "peers", "timeout", "token-file", "tries":
				if client && c.Name() != "status" { // they are the same everywhere
					return
				}
			}
			fmt.Fprintf(&b, "    --%s %s", f.Name, f.Value.Type())
			if f.DefValue != "" && f.DefValue != "[]" && f.DefValue != "false" {
				fmt.Fprintf(&b, " = %s", f.DefValue)
			}
			b.WriteByte('\n')
		})
	}
	path := filepath.Join("testdata", "commands.txt")
	if os.Getenv("FEDMESH_UPDATE") != "" {
		write(t, path, []byte(b.String()))
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != string(want) {
		t.Errorf("commands or flags are not those of %s: if that is meant, run FEDMESH_UPDATE=1 go test ./cmd/fedmesh -run CommandTree and look at the diff\n%s", path, firstDifference(string(want), got))
	}
}

// firstDifference shows the first line in which two texts differ.
func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("line %d: written down is %q, there is %q", i+1, w[i], g[i])
		}
	}
	return fmt.Sprintf("%d lines are written down, there are %d", len(w), len(g))
}

// TestEveryCommandHasAnExample also sees that help fits a terminal, but for flags, whose lines the shell wraps.
func TestEveryCommandHasAnExample(t *testing.T) {
	for _, c := range commands(newRoot(&app{})) {
		if c.Example == "" {
			t.Errorf("%s has no example", c.CommandPath())
		}
		for line := range strings.Lines(c.Long) {
			if n := columns(strings.TrimRight(line, "\n")); n > 90 {
				t.Errorf("%s: %d columns of help: %s", c.CommandPath(), n, line)
			}
		}
	}
}
