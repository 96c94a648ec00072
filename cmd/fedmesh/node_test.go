package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// A nodeFake is a fake peer with a life.
type nodeFake struct {
	*peer
	started, closed atomic.Bool
	draining        atomic.Bool
	startErr        error
	hang            chan struct{} // Close waits for it
	left            chan struct{}
}

func (n *nodeFake) PeerHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
}

func (n *nodeFake) Start(context.Context) error {
	n.started.Store(true)
	return n.startErr
}

func (n *nodeFake) Left() <-chan struct{} { return n.left }

func (n *nodeFake) Drain() { n.draining.Store(true) }

func (n *nodeFake) Ready() error {
	if n.draining.Load() {
		return errors.New("stopping")
	}
	return nil
}

func (n *nodeFake) Close() error {
	n.closed.Store(true)
	if n.hang != nil {
		<-n.hang
	}
	return nil
}

// A lockedBuffer is written to by a running node and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// wait waits until the log has a text.
func (b *lockedBuffer) wait(t *testing.T, text string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		b.mu.Lock()
		all := b.b.String()
		b.mu.Unlock()
		if strings.Contains(all, text) {
			return
		}
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("no %q in %s", text, all)
		}
	}
}

// waitServing gives the URL in the log's line that says that the node serves.
func (b *lockedBuffer) waitServing(t *testing.T) string {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		b.mu.Lock()
		text := b.b.String()
		b.mu.Unlock()
		for line := range strings.Lines(text) {
			var m map[string]any
			if json.Unmarshal([]byte(line), &m) == nil && m["message"] == "serving" {
				url, _ := m["api"].(string)
				return url
			}
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatalf("no such line in %s", text)
		}
	}
}

func TestNodeServesUntilStopped(t *testing.T) {
	p, _ := serve(t)
	fake := &nodeFake{peer: p}
	var log lockedBuffer
	var given nodeFlags
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- runNode(ctx, nodeFlags{name: "a", listen: "127.0.0.1:0"}, zerolog.New(&log),
			func(f nodeFlags, _ zerolog.Logger, _ *prometheus.Registry) (nodePeer, error) {
				given = f
				return fake, nil
			})
	}()
	url := log.waitServing(t)
	for path, want := range map[string]int{"/healthz": 200, "/v1/mesh": 200, "/metrics": 200, "/v1/peer/x": http.StatusTeapot, "/nothing": 404} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !fake.started.Load() || !fake.closed.Load() {
		t.Error("the peer was not started and closed")
	}
	if "http://"+given.advertiseAPI != url || strings.HasSuffix(url, ":0") {
		t.Errorf("others were told %q, the interface is %q", given.advertiseAPI, url)
	}
	if _, err := http.Get(url); err == nil {
		t.Error("it still serves")
	}
}

func TestNodeFailures(t *testing.T) {
	p, _ := serve(t)
	run := func(f nodeFlags, fake *nodeFake, err error) error {
		return runNode(t.Context(), f, zerolog.Nop(), func(nodeFlags, zerolog.Logger, *prometheus.Registry) (nodePeer, error) {
			return fake, err
		})
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = run(nodeFlags{listen: taken.Addr().String()}, nil, nil)
	if h, ok := errors.AsType[*hintError](err); !ok || !strings.Contains(h.next, "--listen") {
		t.Errorf("a taken port: %v", err)
	}
	broken := errors.New("broken")
	if err := run(nodeFlags{listen: "127.0.0.1:0"}, nil, broken); !errors.Is(err, broken) {
		t.Errorf("a peer that cannot be made: %v", err)
	}
	fake := &nodeFake{peer: p, startErr: broken}
	if err := run(nodeFlags{listen: "127.0.0.1:0"}, fake, nil); !errors.Is(err, broken) || !fake.closed.Load() {
		t.Errorf("a peer that cannot start: %v, closed %v", err, fake.closed.Load())
	}
}

// TestStopIsBounded stops a peer whose Close does not return.
func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake := &nodeFake{hang: make(chan struct{})}
		begin := time.Now()
		err := stopNode(api.NewServer(fake, api.ServerOptions{}), &http.Server{}, newGate(nil), fake, zerolog.Nop())
		if err == nil || time.Since(begin) != closeTimeout {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		close(fake.hang)
	})
}

func TestNodeFlags(t *testing.T) {
	good := []string{"node", "--data-dir", t.TempDir(), "--name", "a"}
	for _, c := range []struct{ args, says string }{
		{"--name a/b", "--name"},
		{"--listen 8080", "--listen"},
		{"--listen 127.0.0.1:http8", "no port"},
		{"--listen 0.0.0.0:8080", "--advertise-api"},
		{"--listen :8080", "--advertise-api"},
		{"--gossip [::]:7946", "--advertise-gossip"},
		{"--advertise-api nowhere", "--advertise-api"},
		{"--fsync sometimes", "--fsync"},
		{"--keep-models -1", "--keep-models"},
		{"--keep-models few", "few"},
		{"--compact-after 0", "--compact-after"},
		{"--compact-after often", "--compact-after"},
		{"--keep-rounds -1", "keep-rounds"},
		{"--join a:b:c", "--join"},
		{"--log-format xml", "--log-format"},
		{"--log-level loud", "--log-level"},
		{"extra", "extra"},
	} {
		checkError(t, shell{}.run(t, append(good, strings.Fields(c.args)...)...), exitUsage, c.says)
	}
	checkError(t, shell{}.run(t, "node"), exitUsage, "data-dir")
	// All faults at once.
	checkError(t, shell{}.run(t, append(good, "--listen", "x", "--gossip", "y", "--fsync", "z")...), exitUsage, "--listen", "--gossip", "--fsync")

	f := nodeFlags{name: "a", listen: "127.0.0.1:8080", gossip: "127.0.0.1:7946", fsync: "auto", join: []string{"b", "c:1", "::1", "[::2]"}, dataDir: "x/", compactAfter: "1MB"}
	if err := f.complete(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.join, " "); got != "b:7946 c:1 [::1]:7946 [::2]:7946" {
		t.Errorf("join %s", got)
	}
	f = nodeFlags{listen: "0.0.0.0:8080", advertiseAPI: "h:1", gossip: ":7946", advertiseGossip: "h:2", fsync: "never", dataDir: "x", compactAfter: "1MB", tlsFlags: tlsFlags{insecure: true}}
	if err := f.complete(); err != nil || f.name == "" {
		t.Errorf("%v, name %q", err, f.name)
	}
}

func TestSecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	secret := strings.Repeat("s", 40)
	for content, want := range map[string]string{secret: secret, secret + "\n": secret, secret + "\r\n": secret} {
		write(t, path, []byte(content))
		if got, err := readSecret(path); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	for _, content := range []string{"", "short\n", strings.Repeat("s", 5000)} {
		write(t, path, []byte(content))
		if _, err := readSecret(path); err == nil || !strings.Contains(err.Error(), "32 to 4096 bytes") || !strings.Contains(err.Error(), path) {
			t.Errorf("%d bytes: %v", len(content), err)
		}
	}
	if got, err := readSecret(""); got != nil || err != nil {
		t.Errorf("no file: %q, %v", got, err)
	}
	if _, err := readSecret(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "--secret-file") {
		t.Errorf("a file that is not there: %v", err)
	}
}
