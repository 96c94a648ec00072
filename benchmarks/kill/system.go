package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/fedmesh/fedmesh/benchmarks/kill/raftctl"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// system is one of the three: a program with the flags of `fedmesh node`, and
// what is different about it.
type system struct {
	name   string
	peers  int
	binary string
	args   []string
}

// systemOf builds a system's program into dir, unless it is given.
func systemOf(ctx context.Context, c config, name, dir string) (system, error) {
	s := system{name: name, peers: c.peers, binary: filepath.Join(dir, name)}
	root, err := moduleDir(ctx, ".", "github.com/fedmesh/fedmesh")
	if err != nil {
		return s, err
	}
	switch name {
	case sysMesh:
		s.args = []string{"--fsync", "auto"}
		if c.fedmesh != "" {
			s.binary = c.fedmesh
			return s, nil
		}
		s.binary, err = process.Build(ctx, root, dir)
		return s, err
	case sysRaft:
		return s, goBuild(ctx, filepath.Join(root, "benchmarks", "raftreducer"), s.binary)
	default:
		s.peers, s.args = 1, []string{"--fsync", "never"}
		return s, goBuild(ctx, filepath.Join(root, "benchmarks", "kill", "single"), s.binary)
	}
}

func moduleDir(ctx context.Context, from, path string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", path)
	cmd.Dir = from
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("kill: find the repository (run this in its folder benchmarks): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func goBuild(ctx context.Context, dir, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kill: go build in %s: %w\n%s", dir, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// form makes one system of the processes that were started. fedmesh does that by
// itself; Raft is told once who its servers are.
func (s system) form(ctx context.Context, urls []string) error {
	if s.name != sysRaft {
		return nil
	}
	return raftctl.Form(ctx, urls)
}
