package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/load"
)

//go:embed theirs.py
var script []byte

//go:embed requirements.txt
var requirements []byte

const (
	installPatience = 20 * time.Minute
	runPatience     = 15 * time.Minute
)

// stamp is the file that marks a virtual environment as made by this command,
// and says from which requirements.
const stamp = "fedmesh-peers.txt"

const noPython = `install Python 3.10, 3.11 or 3.12 with its venv module and have it in PATH as python3,
or give an interpreter that has peers/requirements.txt installed with --python,
or measure fedmesh only with --without-python`

// theirs runs the peers' code.
type theirs struct {
	python string // interpreter
	dir    string // where arrays and models lie
	script string
}

// newTheirs finds or makes an interpreter with the packages. The arrays go to dir.
func newTheirs(ctx context.Context, c config, dir string, show func(string, ...any)) (*theirs, error) {
	if err := os.MkdirAll(filepath.Join(dir, "combiner"), 0o755); err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	t := &theirs{python: c.python, dir: dir, script: filepath.Join(dir, "theirs.py")}
	if err := os.WriteFile(t.script, script, 0o644); err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	if t.python != "" {
		return t, nil
	}
	var err error
	t.python, err = environment(ctx, c.venv, show)
	return t, err
}

// environment returns the interpreter of the virtual environment in dir, which
// it makes, or makes again when the requirements have changed.
func environment(ctx context.Context, dir string, show func(string, ...any)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, installPatience)
	defer cancel()
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("peers: %w", err)
	}
	python := filepath.Join(dir, "bin", "python")
	mark := filepath.Join(dir, stamp)
	switch had, err := os.ReadFile(mark); {
	case err == nil && bytes.Equal(had, requirements):
		if _, err := os.Stat(python); err == nil {
			return python, nil
		}
	case errors.Is(err, os.ErrNotExist):
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			return "", fmt.Errorf("peers: %s is not empty and was not made by this command: remove it, or give another folder with --venv", dir)
		}
	case err != nil:
		return "", fmt.Errorf("peers: %w", err)
	}
	base, err := exec.LookPath("python3")
	if err != nil {
		return "", fmt.Errorf("peers: there is no python3:\n%s", noPython)
	}
	out, err := command(ctx, base, "-c", "import sys; print('%d.%d' % sys.version_info[:2])").Output()
	if err != nil {
		return "", fmt.Errorf("peers: %s does not run: %w\n%s", base, err, noPython)
	}
	switch v := strings.TrimSpace(string(out)); v {
	case "3.10", "3.11", "3.12":
	default:
		return "", fmt.Errorf("peers: python3 is Python %s, which FEDn or Flower does not run on:\n%s", v, noPython)
	}
	show("installing FEDn and Flower into %s, once ...", dir)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return "", fmt.Errorf("peers: %w", err)
	}
	// Marked as ours at once, so that one that was broken off is made again.
	if err := os.WriteFile(mark, nil, 0o644); err != nil {
		return "", fmt.Errorf("peers: %w", err)
	}
	if out, err := command(ctx, base, "-m", "venv", dir).CombinedOutput(); err != nil {
		return "", fmt.Errorf("peers: make a virtual environment: %w\n%s\n%s", err, tail(out), noPython)
	}
	list := filepath.Join(dir, "requirements.txt")
	if err := os.WriteFile(list, requirements, 0o644); err != nil {
		return "", fmt.Errorf("peers: %w", err)
	}
	if out, err := command(ctx, python, "-m", "pip", "install", "--quiet", "-r", list).CombinedOutput(); err != nil {
		return "", fmt.Errorf("peers: install FEDn and Flower: %w\n%s\nsee that pip reaches its package index, and try again", err, tail(out))
	}
	if err := os.WriteFile(mark, requirements, 0o644); err != nil {
		return "", fmt.Errorf("peers: %w", err)
	}
	return python, nil
}

// command is one that ends with ctx and does not outlive it by much.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// tail is the end of what a command said.
func tail(out []byte) string {
	const most = 2000
	return strings.TrimSpace(string(out[max(0, len(out)-most):]))
}

// run calls theirs.py and decodes its answer.
func (t *theirs) run(ctx context.Context, answer any, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, runPatience)
	defer cancel()
	cmd := command(ctx, t.python, append([]string{t.script}, args...)...)
	// Their temporary files go where the models are, to be on the same file system
	// and to be removed with them; nobody is told that they ran.
	cmd.Env = append(os.Environ(), "TMPDIR="+t.dir, "FLWR_TELEMETRY_ENABLED=0", "PYTHONDONTWRITEBYTECODE=1")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		hint := ""
		switch {
		case errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound):
			hint = noPython
		case strings.Contains(stderr.String(), "ModuleNotFoundError"):
			hint = "\ninstall peers/requirements.txt for that interpreter: python -m pip install -r peers/requirements.txt"
		}
		return fmt.Errorf("peers: %s %s: %w\n%s%s", t.python, args[0], err, tail(stderr.Bytes()), hint)
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), answer); err != nil {
		return fmt.Errorf("peers: theirs.py %s answers %q: %w", args[0], lines[len(lines)-1], err)
	}
	return nil
}

// versions names Python and the packages, with their versions.
func (t *theirs) versions(ctx context.Context) (v map[string]string, err error) {
	return v, t.run(ctx, &v, "versions")
}

// prepare hands the updates over, as files.
func (t *theirs) prepare(ctx context.Context, l *load.Load) error {
	for i, u := range l.Updates {
		if err := os.WriteFile(filepath.Join(t.dir, fmt.Sprintf("update-%d.safetensors", i)), u, 0o644); err != nil {
			return fmt.Errorf("peers: %w", err)
		}
	}
	weights, err := json.Marshal(l.Weights)
	if err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	if err := os.WriteFile(filepath.Join(t.dir, "weights.json"), weights, 0o644); err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	return t.run(ctx, &struct{}{}, "prepare", t.dir)
}

// fednTimes is what FEDn took, in seconds.
type fednTimes struct {
	Reduce       float64 `json:"reduce"`
	Commit       float64 `json:"commit"`
	ReduceStored float64 `json:"reduce_stored"`
	Combine      float64 `json:"combine"`
	Peak         int64   `json:"peak"`
	Error        float64 `json:"error"`
}

func (t *theirs) fedn(ctx context.Context) (x fednTimes, err error) {
	return x, t.run(ctx, &x, "fedn", t.dir)
}

// flowerTimes is what Flower took, in seconds.
type flowerTimes struct {
	First float64 `json:"first"` // a call in a new process
	Again float64 `json:"again"` // the one after it
	Peak  int64   `json:"peak"`
	Error float64 `json:"error"`
}

func (t *theirs) flower(ctx context.Context) (x flowerTimes, err error) {
	return x, t.run(ctx, &x, "flower", t.dir)
}
