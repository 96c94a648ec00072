package main

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fedmesh/fedmesh/benchmarks/command"
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
	keeps  int // of the newest models; 0: all
}

// systemOf builds a system's program into dir, unless it is given.
func systemOf(ctx context.Context, c config, name, dir string) (system, error) {
	s := system{name: name, peers: c.peers, binary: filepath.Join(dir, name)}
	root, err := command.Root(ctx)
	if err != nil {
		return s, err
	}
	switch name {
	case sysMesh:
		s.args = []string{"--fsync", "auto"}
		if s.binary = c.fedmesh; c.fedmesh == "" {
			if s.binary, err = process.Build(ctx, root, dir); err != nil {
				return s, err
			}
		}
	case sysRaft:
		err = goBuild(ctx, filepath.Join(root, "benchmarks", "raftreducer"), s.binary)
	default:
		s.peers, s.args = 1, []string{"--fsync", "never"}
		err = goBuild(ctx, filepath.Join(root, "benchmarks", "kill", "single"), s.binary)
	}
	if err != nil || c.keepModels == 0 {
		return s, err
	}
	if can, err := command.Takes(ctx, s.binary, "keep-models"); !can {
		return s, err
	}
	s.keeps = c.keepModels
	s.args = append(s.args, "--keep-models", strconv.Itoa(s.keeps))
	if can, err := command.Takes(ctx, s.binary, "compact-after"); !can {
		return s, err
	}
	// So that many kills find snapshots being written; a log is small.
	s.args = append(s.args, "--compact-after", "128KiB", "--keep-rounds", "20")
	return s, nil
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
// itself, and is waited for; Raft is told once who its servers are.
func (s system) form(ctx context.Context, dial dialer, cluster *process.Cluster) error {
	switch s.name {
	case sysMesh:
		return cluster.Together(ctx, "")
	case sysSingle:
		return nil
	}
	transport := &http.Transport{DialContext: dial}
	defer transport.CloseIdleConnections()
	return raftctl.Form(ctx, &http.Client{Transport: transport}, cluster.URLs())
}
