package gossip_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/fedmesh/fedmesh/mesh/gossip"
	"github.com/fedmesh/fedmesh/mesh/meshtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// A probe that was under way at Close; see Close.
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

// recorder is a Handler that keeps what it is given.
type recorder struct {
	name string
	hold chan struct{} // when not nil, Message waits for it to close

	mu       sync.Mutex
	messages []string
	states   map[string]int
	changes  int
}

func newRecorder(name string) *recorder { return &recorder{name: name, states: map[string]int{}} }

func (r *recorder) Message(b []byte) {
	if r.hold != nil {
		<-r.hold
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.messages = append(r.messages, string(b))
	clear(b) // ours to keep, so ours to spoil
}

func (r *recorder) LocalState() []byte { return []byte("state of " + r.name) }

func (r *recorder) RemoteState(b []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.states[string(b)]++
}

func (r *recorder) Changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
}

func (r *recorder) got(msg string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, m := range r.messages {
		if m == msg {
			n++
		}
	}
	return n
}

func (r *recorder) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.messages)
}

// node is a member with what it recorded.
type node struct {
	*gossip.Gossip
	*recorder
	registry *prometheus.Registry
}

// start makes and starts a member on the network. Its seed is host "a".
func start(t *testing.T, n *meshtest.Network, name string, change func(*gossip.Config)) *node {
	t.Helper()
	nd := &node{recorder: newRecorder(name), registry: prometheus.NewRegistry()}
	cfg := gossip.DefaultConfig()
	cfg.Name = name
	cfg.Join = []string{n.GossipAddr("a")}
	cfg.Transport = n.Transport(name)
	cfg.Registry = nd.registry
	if change != nil {
		change(&cfg)
	}
	g, err := gossip.New(cfg, nd.recorder)
	if err != nil {
		t.Fatal(err)
	}
	nd.Gossip = g
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return nd
}

// newNetwork returns a network that is closed when the bubble ends, after the
// members started later; then simulated time passes until memberlist's last
// probes have ended.
func newNetwork(t *testing.T, seed uint64) *meshtest.Network {
	t.Helper()
	n := meshtest.NewNetwork(seed)
	t.Cleanup(func() {
		n.Close()
		time.Sleep(time.Minute)
	})
	return n
}

// view writes how a member sees the mesh, as in "a:alive b:dead".
func (nd *node) view() string {
	var parts []string
	for _, m := range nd.Members() {
		parts = append(parts, fmt.Sprintf("%s:%s", m.Name, m.State))
	}
	return strings.Join(parts, " ")
}

// within waits, at most d, until ok, and returns how long it took.
func within(t *testing.T, d time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > d {
			t.Fatalf("not within %v: %s", d, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(begin)
}

func allSee(nodes []*node, view string) func() bool {
	return func() bool {
		for _, nd := range nodes {
			if nd.view() != view {
				return false
			}
		}
		return true
	}
}

// metric sums a metric of the node over its labels that match all of want,
// written "key=value".
func (nd *node) metric(t *testing.T, name string, want ...string) float64 {
	t.Helper()
	families, err := nd.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != "fedmesh_gossip_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if matches(m, want) {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func matches(m *dto.Metric, want []string) bool {
	for _, w := range want {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetName()+"="+l.GetValue() == w
		}
		if !found {
			return false
		}
	}
	return true
}
