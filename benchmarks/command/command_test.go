package command_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/command"
)

func TestLine(t *testing.T) {
	args := strings.Fields("--rounds 3 --fedmesh /here/it --dir=/there --json --out /x --seed=7 --keep")
	if got := command.Line("kill", args, "json", "keep"); got != "go run ./kill --rounds 3 --seed=7" {
		t.Errorf("got %q", got)
	}
}

func TestFolder(t *testing.T) {
	t.Chdir(t.TempDir())
	dir, err := command.Folder(".", "kill")
	if err != nil || !filepath.IsAbs(dir) || !strings.HasPrefix(filepath.Base(dir), "fedmesh-kill-") {
		t.Fatal(dir, err)
	}
	if _, err := command.Folder("nowhere", "kill"); err == nil {
		t.Error("a folder in none")
	}
	if err := command.Save("some/where", map[string][]byte{"a": []byte("b")}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile("some/where/a"); err != nil || string(b) != "b" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestRoot(t *testing.T) {
	root, err := command.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "cmd", "fedmesh")); err != nil {
		t.Error(err)
	}
}

func TestPause(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	command.Pause(ctx, time.Hour) // the test's own time limit would tell
}
