package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

//go:embed python/requirements.txt
var requirements []byte

// interpreter is a Python that has FEDn, and where our scripts lie.
type interpreter struct{ path, scripts string }

const installPatience = 15 * time.Minute

// environment makes the virtual environment in dir, unless it was made from the same requirements before.
func environment(ctx context.Context, python, dir, scripts string, say func(string, ...any)) (interpreter, error) {
	ctx, cancel := context.WithTimeout(ctx, installPatience)
	defer cancel()
	py := interpreter{path: filepath.Join(dir, "bin", "python"), scripts: scripts}
	mark := filepath.Join(dir, "made-from.txt")
	if had, err := os.ReadFile(mark); err == nil && bytes.Equal(had, requirements) && exists(py.path) {
		return py, nil
	}
	say("installing FEDn into %s ...", filepath.Base(dir))
	run := func(name string, args ...string) error {
		if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("fedn: %s %v: %w\n%s\ninstall Python 3.9 to 3.12 with its venv module, or name one with --python", name, args, err, out)
		}
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return py, fmt.Errorf("fedn: %w", err)
	}
	if err := run(python, "-m", "venv", dir); err != nil {
		return py, err
	}
	if err := run(py.path, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", filepath.Join(scripts, "requirements.txt")); err != nil {
		return py, err
	}
	if err := os.WriteFile(mark, requirements, 0o644); err != nil {
		return py, fmt.Errorf("fedn: %w", err)
	}
	return py, nil
}
