package gossip_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/gossip"
)

// lines is a log that may be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// until is within for real time, where sleeping is not allowed.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for timeout := time.After(2 * time.Minute); !ok(); {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("too slow: %s", what)
		}
	}
}

func socketConfig(name string, join ...string) gossip.Config {
	cfg := gossip.DefaultConfig()
	cfg.Name = name
	cfg.Bind = "127.0.0.1:0"
	cfg.Join = join
	cfg.GossipInterval = 20 * time.Millisecond
	return cfg
}

func startSocket(t *testing.T, cfg gossip.Config) *node {
	t.Helper()
	nd := &node{recorder: newRecorder(cfg.Name)}
	g, err := gossip.New(cfg, nd.recorder)
	if err != nil {
		t.Fatal(err)
	}
	nd.Gossip = g
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	return nd
}

func TestSockets(t *testing.T) {
	var out lines
	cfg := socketConfig("a")
	cfg.Logger = zerolog.New(&out)
	a := startSocket(t, cfg)
	if host, port, err := net.SplitHostPort(a.Addr()); err != nil || host != "127.0.0.1" || port == "0" {
		t.Fatalf("address %q", a.Addr())
	}
	b := startSocket(t, socketConfig("b", a.Addr()))
	cfg = socketConfig("c", strings.Replace(a.Addr(), "127.0.0.1", "localhost", 1))
	cfg.Bind, cfg.Advertise = "0.0.0.0:0", "localhost:0"
	c := startSocket(t, cfg)
	until(t, "three meet", allSee([]*node{a, b, c}, "a:alive b:alive c:alive"))

	// A short message may be lost, and neither goes to a member that is taken for dead for a moment; but none arrives twice.
	long := strings.Repeat("y", 300<<10)
	var shorts, longs []string
	var last time.Time
	some := func(nd *node, messages []string) bool {
		return slices.ContainsFunc(messages, func(m string) bool { return nd.got(m) > 0 })
	}
	until(t, "messages arrive", func() bool {
		if time.Since(last) > 5*time.Second {
			last = time.Now()
			shorts, longs = append(shorts, fmt.Sprint("short", len(shorts))), append(longs, fmt.Sprint(len(longs), long))
			a.Broadcast([]byte(shorts[len(shorts)-1]))
			a.Broadcast([]byte(longs[len(longs)-1]))
		}
		return some(b, shorts) && some(c, shorts) && some(b, longs) && some(c, longs)
	})
	for _, m := range slices.Concat(shorts, longs) {
		if b.got(m) > 1 || c.got(m) > 1 {
			t.Errorf("%.8s arrived %d and %d times", m, b.got(m), c.got(m))
		}
	}
	if err := b.Leave(time.Minute); err != nil {
		t.Error(err)
	}
	until(t, "a leave is noticed", allSee([]*node{a, c}, "a:alive b:left c:alive"))
	_ = c.Close()
	until(t, "a death is noticed", allSee([]*node{a}, "a:alive b:left c:dead"))
	if err := a.Start(t.Context()); err == nil {
		t.Error("started twice")
	}
	_ = a.Close()
	if err := a.UpdateMeta(nil); !errors.Is(err, gossip.ErrClosed) {
		t.Errorf("UpdateMeta after Close: %v", err)
	}
	if err := a.Start(t.Context()); !errors.Is(err, gossip.ErrClosed) {
		t.Errorf("Start after Close: %v", err)
	}
	a.Broadcast([]byte("nobody"))
	for _, want := range []string{`"level":"info"`, `"part":"memberlist"`, `"level":"debug"`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("log lacks %s:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "memberlist: ") {
		t.Errorf("log lines keep memberlist's prefix:\n%s", out.String())
	}
}

func TestIPv6(t *testing.T) {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here")
	}
	_ = ln.Close()
	cfg := socketConfig("a")
	cfg.Bind = "[::1]:0"
	a := startSocket(t, cfg)
	cfg = socketConfig("b", a.Addr())
	cfg.Bind = "[::1]:0"
	b := startSocket(t, cfg)
	until(t, "two meet", allSee([]*node{a, b}, "a:alive b:alive"))
}

func TestStartFails(t *testing.T) {
	a := startSocket(t, socketConfig("a"))
	cfg := socketConfig("b")
	cfg.Bind = a.Addr()
	g, err := gossip.New(cfg, newRecorder("b"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("bound a port in use: %v", err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}

	cfg = socketConfig("c")
	cfg.Advertise = "no-such-host.invalid:0"
	g, err = gossip.New(cfg, newRecorder("c"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err == nil {
		t.Error("advertised a host that does not exist")
	}

	// Two members cannot share a registry; the first keeps its metrics.
	registry := prometheus.NewRegistry()
	cfg = socketConfig("d")
	cfg.Registry = registry
	startSocket(t, cfg)
	cfg.Name = "e"
	g, err = gossip.New(cfg, newRecorder("e"))
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "registry of its own") {
		t.Errorf("shared a registry: %v", err)
	}
}
