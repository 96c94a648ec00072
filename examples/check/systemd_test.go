package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// mostExposed is the worst rating that the unit may get, of 10.
const mostExposed = 1.5

// TestSystemdUnit has systemd look at the unit.
func TestSystemdUnit(t *testing.T) {
	text, err := os.ReadFile("../systemd/fedmesh.service")
	if err != nil {
		t.Fatal(err)
	}
	if out := verify(t, string(text)); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	for name, spoil := range map[string]string{"an unknown setting": "LimitNOFILES=1", "a wrong value": "PrivateTmp=perhaps"} {
		if out := verify(t, strings.Replace(string(text), "[Service]\n", "[Service]\n"+spoil+"\n", 1)); out == "" {
			t.Errorf("%s is not noticed", name)
		}
	}
	out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--no-pager", "../systemd/fedmesh.service").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m := regexp.MustCompile(`Overall exposure level for fedmesh.service: ([0-9.]+)`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("no rating in %s", out)
	}
	if rating, err := strconv.ParseFloat(string(m[1]), 64); err != nil || rating > mostExposed {
		t.Errorf("exposure %s, want %g at most", m[1], mostExposed)
	}
}

// verify returns what systemd has to say of a unit, whose binary it is to find.
func verify(t *testing.T, unit string) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("there is no systemd-analyze here")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "fedmesh.service")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(unit, "/usr/local/bin/fedmesh", self)), 0o600); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("systemd-analyze", "verify", path).CombinedOutput()
	return strings.TrimSpace(string(out))
}
