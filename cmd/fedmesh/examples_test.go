package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestExamplesUseKnownFlags looks whether the examples tell a node only what it understands: flags, and their variables.
func TestExamplesUseKnownFlags(t *testing.T) {
	node, _, err := newRoot(&app{lookup: func(string) (string, bool) { return "", false }}).Find([]string{"node"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file, pattern string
		few           int // flags that must be found at least
	}{
		{"../../examples/kubernetes/statefulset.yaml", `(?m)^\s+- --([a-z-]+)=`, 10},
		{"../../examples/docker/compose.yaml", `\bFEDMESH_([A-Z_]+):`, 8},
		{"../../examples/docker/Dockerfile", `\bFEDMESH_([A-Z_]+)=`, 1},
		{"../../examples/systemd/fedmesh.service", `node .*?--([a-z-]+)`, 2},
	} {
		text, err := os.ReadFile(c.file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(c.pattern).FindAllStringSubmatch(string(text), -1)
		if len(found) < c.few {
			t.Errorf("%s: %d flags found, at least %d expected", c.file, len(found), c.few)
		}
		for _, m := range found {
			if name := strings.ToLower(strings.ReplaceAll(m[1], "_", "-")); node.Flags().Lookup(name) == nil {
				t.Errorf("%s: a node has no flag --%s", c.file, name)
			}
		}
	}
}
