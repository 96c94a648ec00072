package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

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

// RaftServer is one process of the raft system: its id is the address of its
// API.
type RaftServer struct {
	ID      string `json:"id"`
	Address string `json:"address"`
}

// RaftState is what a process of the raft system says of itself.
type RaftState struct {
	Self   RaftServer `json:"self"`
	Leader string     `json:"leader"` // id; empty when it knows none
}

// form makes one system of the processes that were started. fedmesh does that by
// itself; Raft is told once who its servers are.
func (s system) form(ctx context.Context, peers []process.Peer) error {
	if s.name != sysRaft {
		return nil
	}
	var servers []RaftServer
	for _, p := range peers {
		state, err := raftState(ctx, p)
		if err != nil {
			return err
		}
		servers = append(servers, state.Self)
	}
	body, err := json.Marshal(servers)
	if err != nil {
		return err
	}
	if err := ask(ctx, http.MethodPost, peers[0].URL+"/v1/peer/raft", body, nil); err != nil {
		return err
	}
	for {
		known := 0
		for _, p := range peers {
			if state, err := raftState(ctx, p); err == nil && state.Leader != "" {
				known++
			}
		}
		if known == len(peers) {
			return nil
		}
		if pause(ctx, 50*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("kill: raft has elected nobody: %w", ctx.Err())
		}
	}
}

func raftState(ctx context.Context, p process.Peer) (RaftState, error) {
	var state RaftState
	err := ask(ctx, http.MethodGet, p.URL+"/v1/peer/raft", nil, &state)
	return state, err
}

// ask makes a request whose answer is JSON.
func ask(ctx context.Context, method, url string, body []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("kill: %s answers %s: %s", url, resp.Status, strings.TrimSpace(string(text)))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}
