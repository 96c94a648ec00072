//go:build unix

package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// TestDocumentation runs what the documentation says to type, in order, in one shell for each page: the blocks of OPERATIONS.md and HTTP.md that are fenced as
// sh, and the README's section "By hand". The ports become such as are free; after a block that starts peers the shell waits until these are ready, as whoever
// types does by himself.
func TestDocumentation(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	for _, tool := range []string{"bash", "curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the documentation uses %s: %v", tool, err)
		}
	}
	bin := t.TempDir()
	if _, err := process.Build(t.Context(), "../..", bin, buildArgs()...); err != nil {
		t.Fatal(err)
	}
	// The README begins with it.
	if err := os.WriteFile(filepath.Join(bin, "make"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	pages := []struct {
		file   string
		blocks func(string) []string
		few    int // blocks that must be found at least
	}{
		{"OPERATIONS.md", fenced, 8},
		{"../../README.md", byHand, 3},
		{"../../mesh/api/HTTP.md", fenced, 7},
	}
	var scripts []string
	for _, page := range pages {
		text, err := os.ReadFile(page.file)
		if err != nil {
			t.Fatal(err)
		}
		blocks := page.blocks(string(text))
		if len(blocks) < page.few {
			t.Fatalf("%s: %d blocks found, at least %d expected", page.file, len(blocks), page.few)
		}
		scripts = append(scripts, scriptOf(blocks))
	}
	freePorts(t, scripts)
	for i, page := range pages {
		t.Run(filepath.Base(page.file), func(t *testing.T) {
			t.Parallel()
			runScript(t, bin, scripts[i])
		})
	}
}

// TestAlertsAreExplained looks for a heading for each alert in the operations page.
func TestAlertsAreExplained(t *testing.T) {
	page, err := os.ReadFile("OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile("../../examples/monitoring/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`(?m)^\s*- alert: (\w+)$`).FindAllSubmatch(rules, -1)
	if len(alerts) < 5 {
		t.Fatalf("%d alerts found", len(alerts))
	}
	known := map[string]bool{}
	for _, a := range alerts {
		name := string(a[1])
		known[name] = true
		if !strings.Contains(string(page), "\n### "+name+"\n") {
			t.Errorf("OPERATIONS.md has no heading %s", name)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Fedmesh\w+)$`).FindAllStringSubmatch(string(page), -1) {
		if !known[m[1]] {
			t.Errorf("OPERATIONS.md explains %s, which is no alert", m[1])
		}
	}
}

// fenced returns the blocks of a page that are fenced as sh.
func fenced(page string) []string {
	var out []string
	for _, m := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(page, -1) {
		out = append(out, m[1])
	}
	return out
}

// byHand returns the indented blocks of the README's section.
func byHand(page string) []string {
	_, section, _ := strings.Cut(page, "\n## By hand\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var out []string
	for paragraph := range strings.SplitSeq(section, "\n\n") {
		if !strings.HasPrefix(strings.TrimLeft(paragraph, "\n"), "    ") || strings.Contains(paragraph, "tuspy") { // that one is Python
			continue
		}
		var block strings.Builder
		for line := range strings.Lines(paragraph + "\n") {
			block.WriteString(strings.TrimPrefix(line, "    "))
		}
		out = append(out, block.String())
	}
	return out
}

// scriptOf puts the blocks together, each with what whoever types does by himself.
func scriptOf(blocks []string) string {
	script := "set -eEuo pipefail\ntrap 'echo \"failed: $BASH_COMMAND\"' ERR\n"
	for i, block := range blocks {
		script += fmt.Sprintf("echo \"== block %d, after $SECONDS s\"\n%s", i+1, block)
		for _, m := range regexp.MustCompile(`(?m)--listen (127\.0\.0\.1:\d+)\b.*&$`).FindAllStringSubmatch(block, -1) {
			script += fmt.Sprintf("for try in {1..300}; do fedmesh health --ready http://%[1]s || fedmesh health --ready https://%[1]s || { sleep 0.1; continue; }; break; done >/dev/null 2>&1\n", m[1])
			script += fmt.Sprintf("fedmesh health --ready http://%[1]s 2>/dev/null || fedmesh health --ready https://%[1]s\n", m[1])
		}
	}
	return script
}

// runScript runs a page in a folder of its own with the built command.
func runScript(t *testing.T, bin, script string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	log, err := os.Create(filepath.Join(t.ArtifactDir(), "shell.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log // a file, so that the peers it leaves behind keep nobody waiting
	// The group is the shell and the peers that it started, by the end of which they are left over.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	group := cmd.Process.Pid
	err = cmd.Wait()
	_ = syscall.Kill(-group, syscall.SIGKILL)
	out, _ := os.ReadFile(log.Name())
	if testing.Verbose() {
		t.Logf("the shell said:\n%s", out)
	}
	if err != nil {
		t.Errorf("%v; the shell said:\n%s", err, out)
		logs, _ := filepath.Glob(filepath.Join(cmd.Dir, "*.log"))
		deeper, _ := filepath.Glob(filepath.Join(cmd.Dir, "*", "*.log"))
		for _, path := range append(logs, deeper...) {
			text, _ := os.ReadFile(path)
			t.Logf("the end of %s:\n%s", filepath.Base(path), text[max(0, len(text)-2000):])
		}
	}
}

// freePorts gives each port of the loopback interface in each of the scripts another one that is free, no two the same.
func freePorts(t *testing.T, scripts []string) {
	t.Helper()
	var held []*process.Cluster // until all are chosen, for all scripts: they run at the same time
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`)
	for i, script := range scripts {
		ports := map[string]string{}
		scripts[i] = address.ReplaceAllStringFunc(script, func(addr string) string {
			if ports[addr] == "" {
				c, err := process.NewCluster(process.Options{Binary: "none", N: 1, Dir: t.TempDir()})
				if err != nil {
					t.Fatal(err)
				}
				held = append(held, c)
				ports[addr] = strings.TrimPrefix(c.URLs()[0], "http://")
			}
			return ports[addr]
		})
	}
	for _, c := range held {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRoutesAreExplained looks for each route in the page about the HTTP interface.
func TestRoutesAreExplained(t *testing.T) {
	page, err := os.ReadFile("../../mesh/api/HTTP.md")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../mesh/api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	var description struct {
		Paths map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(text, &description); err != nil || len(description.Paths) < 15 {
		t.Fatalf("%d routes, %v", len(description.Paths), err)
	}
	for path := range description.Paths {
		if !strings.Contains(string(page), "`"+path+"`") {
			t.Errorf("HTTP.md does not name %s", path)
		}
	}
}
