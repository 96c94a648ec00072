//go:build unix

package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// logLine is what every line of a node's log has, and what those of a push do.
type logLine struct {
	Level, Message, Self, Time, Error           string
	Request, Session, Combiner, ID, Model, Path string
	Bytes                                       int64
	Took                                        *float64
}

// logLines reads a node's log. A line that is no JSON, or lacks what every line has, fails the test.
func logLines(t *testing.T, cluster *process.Cluster, name string) (lines []logLine) {
	t.Helper()
	text, err := os.ReadFile(cluster.LogFile(name))
	if err != nil {
		t.Fatal(err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1] // the last may be under way
	for l := range bytes.Lines(text) {
		var line logLine
		if err := json.Unmarshal(l, &line); err != nil || line.Level == "" || line.Message == "" || line.Self != name || line.Time == "" {
			t.Errorf("%s: %v in the line %s", name, err, l)
		}
		lines = append(lines, line)
	}
	return lines
}

// TestRequestInTwoLogs pushes an update and finds it under one id in the logs of the peer that took it and of the one that holds the copy, and nowhere
// else. What the peers log all that time is JSON, and their metrics are as Prometheus wants them.
func TestRequestInTwoLogs(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cluster, binary := startCluster(ctx, t, 3, "--log-level", "debug")
	layout, err := smallLayout()
	if err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(cluster.URLs(), api.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	seed, _ := drawUpdate(1, "nobody", "seed")
	config := api.DefaultSessionConfig()
	config.TargetCombiners = 1
	if _, _, err := client.CreateSession(ctx, "digits", config, api.Bytes(seed.encode(layout))); err != nil {
		t.Fatal(err)
	}
	update, weight := drawUpdate(1, "c1", "u")
	file := filepath.Join(t.TempDir(), "update.safetensors")
	if err := os.WriteFile(file, update.encode(layout), 0o600); err != nil {
		t.Fatal(err)
	}
	push := func(args ...string) (stdout, stderr string, err error) {
		cmd := exec.CommandContext(ctx, binary, append([]string{"push", "digits", file, "--combiner", "c1", "--weight", fmt.Sprint(weight)}, args...)...)
		var out, errs strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &errs
		err = cmd.Run()
		return out.String(), errs.String(), err
	}
	out, errs, err := push("--json", "--peers", cluster.URLs()[0])
	var r api.Receipt
	if err != nil || json.Unmarshal([]byte(out), &r) != nil || len(r.Request) != 16 || len(r.Copies) != 2 || !slices.Contains(r.Copies, "a") {
		t.Fatalf("%v, %s, %s", err, out, errs)
	}
	var found []string
	for _, name := range cluster.Names() {
		for _, l := range logLines(t, cluster, name) {
			if l.Request != r.Request || l.Combiner == "" {
				continue
			}
			found = append(found, name)
			if l.Session != "digits" || l.Combiner != "c1" || l.ID != r.ID || l.Model != r.Digest || l.Bytes == 0 || l.Took == nil {
				t.Errorf("%s: %+v", name, l)
			}
		}
	}
	if !slices.Equal(found, r.Copies) {
		t.Errorf("request %s is in the logs of %v, the update is held by %v", r.Request, found, r.Copies)
	}

	// One that is refused names its request too.
	if err := os.WriteFile(file, []byte("no model"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, errs, err = push("--peers", cluster.URLs()[1], "--id", "bad")
	_, id, ok := strings.Cut(errs, "(request ")
	if id, _, _ = strings.Cut(id, " "); err == nil || !ok || !slices.ContainsFunc(logLines(t, cluster, "b"), func(l logLine) bool {
		return l.Request == id && l.Message == "an update was refused" && l.Error != "" && l.ID == "bad"
	}) {
		t.Errorf("%v, %s: not in b's log", err, errs)
	}
	checkServedMetrics(ctx, t, cluster.URLs()[0])
}

// checkServedMetrics looks at what a node serves to Prometheus.
func checkServedMetrics(ctx context.Context, t *testing.T, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	for _, want := range []string{
		"fedmesh_build_info{goversion=", "fedmesh_ready 1\n", `fedmesh_peer_up{peer="b"} 1`, `fedmesh_updates_total{result="accepted"} 1`,
		"fedmesh_memberlist_streams_total", "process_resident_memory_bytes", "go_goroutines",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}
