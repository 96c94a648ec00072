//go:build unix

package process_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// The test binary is its own fake node: started with the node command it serves
// /readyz on the port it is given, and leaves a line in its data folder.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "node" {
		os.Exit(fakeNode(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

func fakeNode(args []string) int {
	set := flag.NewFlagSet("node", flag.ContinueOnError)
	listen, dir := set.String("listen", "", ""), set.String("data-dir", "", "")
	broken := set.Bool("broken", false, "")
	for _, name := range []string{"name", "gossip", "join", "mesh", "log-format", "fsync"} {
		set.String(name, "", "")
	}
	if err := set.Parse(args); err != nil {
		return 2
	}
	if *broken {
		os.Stderr.WriteString("cannot go on\n")
		return 3
	}
	f, err := os.OpenFile(filepath.Join(*dir, "starts"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 1
	}
	if _, err := f.WriteString("x"); err != nil {
		return 1
	}
	http.HandleFunc("/readyz", func(http.ResponseWriter, *http.Request) {})
	var asked atomic.Int32
	http.HandleFunc("/v1/mesh", func(w http.ResponseWriter, r *http.Request) {
		peers := []api.PeerInfo{{Name: "a", State: api.PeerAlive}, {Name: "b", State: api.PeerSuspect}}
		if r.Header.Get("Authorization") == "Bearer t" && asked.Add(1) > 3 {
			peers[1].State = api.PeerAlive
		}
		_ = json.NewEncoder(w).Encode(api.MeshInfo{Peers: peers})
	})
	_ = http.ListenAndServe(*listen, nil)
	return 1
}

func newCluster(t *testing.T, n int, change func(*process.Options)) *process.Cluster {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := process.Options{Binary: self, N: n, Dir: t.TempDir()}
	if change != nil {
		change(&o)
	}
	c, err := process.NewCluster(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

func reachable(url string, within time.Duration) bool {
	client := http.Client{Timeout: within, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url + "/readyz")
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Body.Close() == nil
}

func TestClusterLives(t *testing.T) {
	c := newCluster(t, 3, nil)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Names(), []string{"a", "b", "c"}) || !slices.Equal(c.Running(), c.Names()) {
		t.Fatalf("names %v, running %v", c.Names(), c.Running())
	}
	if u := c.URLs(); u[0] == u[1] || u[1] == u[2] {
		t.Fatalf("shared addresses: %v", u)
	}

	b := c.Peers()[1]
	if err := c.Kill("b"); err != nil {
		t.Fatal(err)
	}
	if reachable(b.URL, time.Minute) || !slices.Equal(c.Running(), []string{"a", "c"}) {
		t.Error("b lives after its death")
	}
	if !strings.Contains(c.Exit("b"), "killed") {
		t.Errorf("b ended with %q", c.Exit("b"))
	}
	if c.Kill("b") == nil || c.Pause("b") == nil {
		t.Error("a dead node was signalled")
	}
	if err := c.Restart(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	if c.Restart(t.Context(), "b") == nil {
		t.Error("a running node was started again")
	}
	if !reachable(b.URL, time.Minute) || c.Peers()[1] != b {
		t.Error("b did not come back where it was")
	}
	if starts, err := os.ReadFile(filepath.Join(c.DataDir("b"), "starts")); err != nil || string(starts) != "xx" {
		t.Errorf("b's data folder was not kept: %q, %v", starts, err)
	}

	if err := c.Pause("c"); err != nil {
		t.Fatal(err)
	}
	if reachable(c.Peers()[2].URL, 300*time.Millisecond) || slices.Contains(c.Running(), "c") {
		t.Error("c answers while paused")
	}
	if err := c.Resume("c"); err != nil {
		t.Fatal(err)
	}
	if err := c.Ready(t.Context(), "c"); err != nil {
		t.Error(err)
	}
	if err := c.Pause("c"); err != nil { // a paused node can be killed
		t.Fatal(err)
	}
	if err := c.Kill("c"); err != nil {
		t.Error(err)
	}
	if err := c.Stop(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if c.Kill("z") == nil {
		t.Error("an unknown node was killed")
	}
}

func TestTogether(t *testing.T) {
	var asks atomic.Pointer[func()] // called whenever a node is asked
	c := newCluster(t, 2, func(o *process.Options) {
		o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if f := asks.Load(); f != nil {
				(*f)()
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}
	})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Together(t.Context(), "t"); err != nil {
		t.Error(err)
	}
	// The context ends while it asks again: what the first answer told is said.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked atomic.Int32
	second := func() {
		if asked.Add(1) == 2 {
			cancel()
		}
	}
	asks.Store(&second)
	if err := c.Together(ctx, ""); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "sees only a") {
		t.Errorf("of two that have not met: %v", err)
	}
	asks.Store(nil)
	if err := c.Kill("b"); err != nil {
		t.Fatal(err)
	}
	if err := c.Together(t.Context(), ""); err != nil {
		t.Errorf("one that is dead is waited for: %v", err)
	}
}

func TestClusterReportsAFailedStart(t *testing.T) {
	c := newCluster(t, 1, func(o *process.Options) { o.ExtraArgs = []string{"--broken"} })
	err := c.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "cannot go on") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v, want the exit status and the end of the log", err)
	}
}

func TestReadyEndsWithItsContext(t *testing.T) {
	c := newCluster(t, 1, nil)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Pause("a"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.Ready(ctx, "a"); err == nil {
		t.Error("a paused node was ready")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	_, err := process.NewCluster(process.Options{N: 27, Hosts: make([]process.Host, 2)})
	for _, want := range []string{"binary", "27", "folder", "2 hosts"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %q", err, want)
		}
	}
}
