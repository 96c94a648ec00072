package mesh_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest"
	"github.com/fedmesh/fedmesh/mesh/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// A probe that was under way when gossip closed.
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

// cluster is a mesh in memory whose peers serve HTTP to each other and to the test, inside a synctest bubble.
type cluster struct {
	t      *testing.T
	net    *meshtest.Network
	dir    string
	tune   func(*mesh.Config)
	nodes  map[string]*node // that run
	client *api.Client
	files  map[string][]byte // every model that the test made or met, by digest
	acked  []api.Receipt     // of updates that are no duplicates
}

// node is a running peer.
type node struct {
	name     string
	peer     *mesh.Peer
	http     *http.Server
	served   chan struct{}
	registry *prometheus.Registry
}

// bubble runs f with an empty mesh, and stops what then runs.
func bubble(t *testing.T, f func(t *testing.T, c *cluster)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, net: meshtest.NewNetwork(1), dir: dir, nodes: map[string]*node{}, files: map[string][]byte{}}
		dial := c.dialer("client")
		client, err := api.NewClient([]string{"a:80"}, api.ClientOptions{Passes: 1, DialContext: dial, ResponseTimeout: 2 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		c.client = client
		defer func() {
			c.net.Heal()
			for _, name := range c.running() {
				c.stop(name)
			}
			client.Close()
			c.net.Close()
			time.Sleep(time.Minute) // for memberlist's last probes
		}()
		f(t, c)
	})
}

// dialer dials as a socket with a timeout would.
func (c *cluster) dialer(from string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	dial := c.net.Dialer(from)
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return dial(ctx, network, addr)
	}
}

// running returns the names of the peers that run, sorted.
func (c *cluster) running() []string { return slices.Sorted(maps.Keys(c.nodes)) }

// create makes and serves a peer that has not started.
func (c *cluster) create(name, dir string) (*node, error) {
	cfg := mesh.DefaultConfig()
	cfg.Name, cfg.API, cfg.DataDir, cfg.Fsync = name, name+":80", filepath.Join(c.dir, dir), store.Never
	cfg.Join = []string{c.net.GossipAddr("a"), c.net.GossipAddr("b")}
	cfg.Dial = c.dialer(name)
	n := &node{name: name, served: make(chan struct{}), registry: prometheus.NewRegistry()}
	cfg.Registerer = n.registry
	if *verbose {
		cfg.Logger = zerolog.New(zerolog.NewTestWriter(c.t)).With().Str("self", name).Logger()
	}
	if c.tune != nil {
		c.tune(&cfg)
	}
	var err error
	cfg.Transport = c.net.Transport(name)
	if n.peer, err = mesh.New(cfg); err != nil {
		return nil, err
	}
	ln, err := c.net.Listen(name + ":80")
	if err != nil {
		return nil, errors.Join(err, n.peer.Close())
	}
	server := api.NewServer(n.peer, api.ServerOptions{})
	mux := http.NewServeMux()
	mux.Handle("/v1/peer/", n.peer.PeerHandler())
	mux.Handle("/", server)
	n.http = server.HTTPServer(mux)
	go func() {
		defer close(n.served)
		_ = n.http.Serve(ln)
	}()
	c.nodes[name] = n
	return n, nil
}

// start starts peers, each in the directory of its name, and does not wait.
func (c *cluster) start(names ...string) {
	c.t.Helper()
	for _, name := range names {
		n, err := c.create(name, name)
		if err != nil {
			c.t.Fatal(err)
		}
		if err := n.peer.Start(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// up starts peers and waits until all that run are ready and see each other.
func (c *cluster) up(names ...string) {
	c.t.Helper()
	c.start(names...)
	c.together()
}

// together waits until all that run are ready and take each other for alive.
func (c *cluster) together() {
	c.t.Helper()
	c.eventually(2*time.Minute, func() error {
		for _, name := range c.running() {
			if err := c.nodes[name].peer.Ready(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if seen := c.alive(name); !slices.Equal(seen, c.running()) {
				return fmt.Errorf("%s sees %v, not %v", name, seen, c.running())
			}
		}
		return nil
	})
}

// alive returns the peers that one takes for alive, sorted.
func (c *cluster) alive(at string) []string {
	var out []string
	for _, p := range c.nodes[at].peer.Mesh().Peers {
		if p.State == api.PeerAlive {
			out = append(out, p.Name)
		}
	}
	slices.Sort(out)
	return out
}

// stop ends a peer in order.
func (c *cluster) stop(name string) {
	n := c.nodes[name]
	delete(c.nodes, name)
	_ = n.http.Close()
	<-n.served
	if err := n.peer.Close(); err != nil {
		c.t.Errorf("%s: %v", name, err)
	}
}

// kill ends a peer so that nobody hears from it again. Its machine lives on and refuses connections.
func (c *cluster) kill(names ...string) {
	for _, name := range names {
		c.net.Down(name)
		c.stop(name)
		c.net.Up(name)
	}
	time.Sleep(10 * time.Millisecond) // for the others' sockets to see it
}

// eventually polls in simulated time until check returns nil.
func (c *cluster) eventually(within time.Duration, check func() error) {
	c.t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("still not after %v: %v", within, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// ask is a client of one peer.
func (c *cluster) ask(name string) *api.Client {
	c.t.Helper()
	client, err := c.client.Peer(name + ":80")
	if err != nil {
		c.t.Fatal(err)
	}
	return client
}

// open opens a session at a peer.
func (c *cluster) open(at, session string, seed []byte, change func(*api.SessionConfig)) api.SessionInfo {
	c.t.Helper()
	cfg := api.DefaultSessionConfig()
	if change != nil {
		change(&cfg)
	}
	c.keep(seed)
	info, created, err := c.ask(at).CreateSession(c.t.Context(), session, cfg, api.Bytes(seed))
	if err != nil || !created {
		c.t.Fatalf("open %s at %s: created %v, %v", session, at, created, err)
	}
	c.eventually(10*time.Second, func() error {
		for _, name := range c.running() {
			if info, err := c.nodes[name].peer.Session(session); err != nil || info.Model == "" {
				return fmt.Errorf("%s: %+v, %w", name, info, err)
			}
		}
		return nil
	})
	return info
}

// try pushes an update to one peer, and notes it when it is acknowledged.
func (c *cluster) try(at, session string, o api.PushOptions, body []byte) (api.Receipt, error) {
	c.keep(body)
	r, err := c.ask(at).Push(c.t.Context(), session, o, api.Bytes(body))
	if err == nil && !r.Duplicate {
		c.acked = append(c.acked, r)
	}
	return r, err
}

// push is try for updates that must be acknowledged, and be no duplicates.
func (c *cluster) push(at, session string, o api.PushOptions, body []byte) api.Receipt {
	c.t.Helper()
	r, err := c.try(at, session, o, body)
	if err != nil || r.Duplicate {
		c.t.Fatalf("push %s to %s: %+v, %v", o.Combiner, at, r, err)
	}
	return r
}

// session returns what a peer says of a session.
func (c *cluster) session(at, session string) api.SessionInfo {
	c.t.Helper()
	info, err := c.nodes[at].peer.Session(session)
	if err != nil {
		c.t.Fatalf("%s: %v", at, err)
	}
	return info
}

// rounds returns a peer's sealed rounds, from 1 on.
func (c *cluster) rounds(at, session string) []api.RoundInfo {
	c.t.Helper()
	all, err := c.nodes[at].peer.Rounds(session, 1, 1000)
	if err != nil {
		c.t.Fatalf("%s: %v", at, err)
	}
	return slices.DeleteFunc(all, func(r api.RoundInfo) bool { return r.State == api.RoundOpen })
}

// final waits until every peer that runs has at least n rounds, all of them final.
func (c *cluster) final(session string, n int) {
	c.t.Helper()
	c.eventually(2*time.Minute, func() error {
		for _, name := range c.running() {
			rounds := c.rounds(name, session)
			if len(rounds) < n {
				return fmt.Errorf("%s has %d rounds of %d", name, len(rounds), n)
			}
			for _, r := range rounds {
				if r.State != api.RoundFinal {
					return fmt.Errorf("%s: round %d is %s, waiting for %v", name, r.Round, r.State, r.WaitingFor)
				}
			}
		}
		return nil
	})
}

// settles waits until every one of the peers serves the model of round n.
func (c *cluster) settles(session string, n int, names ...string) {
	c.t.Helper()
	c.eventually(2*time.Minute, func() error {
		for _, name := range names {
			if info := c.session(name, session); info.ModelRound < uint64(n) {
				return fmt.Errorf("%s does not serve round %d: %s: %s", name, n, text(info), text(c.rounds(name, session)))
			}
		}
		return nil
	})
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// metric returns the sum of a peer's metric over the series whose labels have the given value; of all, when it is empty.
func (c *cluster) metric(at, name, value string) float64 {
	c.t.Helper()
	families, err := c.nodes[at].registry.Gather()
	if err != nil {
		c.t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != "fedmesh_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			ok := value == ""
			for _, l := range m.GetLabel() {
				ok = ok || l.GetValue() == value
			}
			if ok {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// problem fails the test unless err is a problem of this status whose text contains part.
func (c *cluster) problem(err error, status int, part string) {
	c.t.Helper()
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != status || !strings.Contains(p.Error(), part) {
		c.t.Fatalf("got %v, want a problem of status %d with %q", err, status, part)
	}
}

// holds reports whether a peer has a model's bytes on its disk.
func (c *cluster) holds(name, digest string) bool {
	return slices.Contains(c.blobs(name), digest+".safetensors")
}

// blobs returns what is in a peer's folder of models, sorted, temporary files included.
func (c *cluster) blobs(name string) []string {
	c.t.Helper()
	entries, err := os.ReadDir(filepath.Join(c.dir, name, "blobs"))
	if err != nil {
		c.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// gone tells whether no running peer holds a model's bytes.
func (c *cluster) gone(digest string) error {
	for _, name := range c.running() {
		if c.holds(name, digest) {
			return fmt.Errorf("%s still holds %s", name, digest)
		}
	}
	return nil
}

// close closes a session and waits until all that run have its last round, final.
func (c *cluster) close(at, session string) {
	c.t.Helper()
	if _, err := c.ask(at).CloseSession(c.t.Context(), session); err != nil {
		c.t.Fatal(err)
	}
	c.eventually(2*time.Minute, func() error {
		for _, name := range c.running() {
			if info := c.session(name, session); info.State != api.SessionClosed {
				return fmt.Errorf("%s: %s: %s", name, text(info), text(c.rounds(name, session)))
			}
		}
		return nil
	})
	c.final(session, 1)
}

// asProblem is errors.As for problems.
func asProblem(err error, p **api.Problem) bool { return errors.As(err, p) }
