package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Show says what is going on; an empty format takes it away.
type Show func(format string, args ...any)

// Progress shows what is going on: at once on a terminal, else a line each minute.
func Progress(w *os.File) Show {
	if term.IsTerminal(int(w.Fd())) {
		return func(format string, args ...any) { fmt.Fprintf(w, "\r\x1b[K"+format, args...) }
	}
	const now = time.Minute
	last := time.Now()
	return func(format string, args ...any) {
		if format != "" && time.Since(last) > now {
			last = time.Now()
			fmt.Fprintf(w, format+"\n", args...)
		}
	}
}

// Line is how a command was called, without flags that say nothing of what was
// measured and without places on this machine: --fedmesh, --dir and --out are left
// away with their values, and the switches that are named.
func Line(name string, args []string, switches ...string) string {
	out := []string{"go run ./" + name}
	for i := 0; i < len(args); i++ {
		flag, _, has := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch {
		case slices.Contains(switches, flag):
		case flag == "fedmesh" || flag == "dir" || flag == "out":
			if !has {
				i++
			}
		default:
			out = append(out, args[i])
		}
	}
	return strings.Join(out, " ")
}

// Folder makes a folder in dir, or among the temporary files when that is empty,
// and returns its absolute path.
func Folder(dir, name string) (string, error) {
	dir, err := os.MkdirTemp(dir, "fedmesh-"+name+"-")
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return dir, nil
}

// Root is the repository's folder. The command runs in the folder benchmarks or
// below.
func Root(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/fedmesh/fedmesh").Output()
	if err != nil {
		return "", fmt.Errorf("command: find the repository (run this in its folder benchmarks): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Fedmesh is the binary to measure: the one that is given, else it is built into
// dir.
func Fedmesh(ctx context.Context, given, dir string) (string, error) {
	if given != "" {
		return given, nil
	}
	root, err := Root(ctx)
	if err != nil {
		return "", err
	}
	return process.Build(ctx, root, dir)
}

// Version is what a fedmesh binary says of itself; empty when it says nothing.
func Version(ctx context.Context, binary string) string {
	out, err := exec.CommandContext(ctx, binary, "version").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// Takes reports whether a program's node command has a flag.
func Takes(ctx context.Context, binary, flag string) (bool, error) {
	help, err := exec.CommandContext(ctx, binary, "node", "--help").CombinedOutput()
	if len(help) == 0 {
		return false, fmt.Errorf("command: %s node --help: %w", binary, err)
	}
	return strings.Contains(string(help), "-"+flag+" "), nil
}

// Pause waits a while or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Save writes files into a folder, which is made when it is not there.
func Save(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("command: %w", err)
	}
	var errs []error
	for name, content := range files {
		errs = append(errs, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("command: %w", err)
	}
	return nil
}
