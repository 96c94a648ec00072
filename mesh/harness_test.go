package mesh_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/certs"
	"github.com/fedmesh/fedmesh/mesh/meshtest"
	"github.com/fedmesh/fedmesh/mesh/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// A probe that was under way when gossip closed.
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"),
		// The half second that net/http gives a client to read a refusal, which is longer than leaks are looked for.
		goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

// cluster is a mesh in memory whose peers serve HTTP to each other and to the test, inside a synctest bubble.
type cluster struct {
	t      *testing.T
	net    *meshtest.Network
	dir    string
	tune   func(*mesh.Config)
	secret []byte           // of the mesh
	nodes  map[string]*node // that run
	client *api.Client
	files  map[string][]byte // every model that the test made or met, by digest
	acked  []api.Receipt     // of all pushes, retries too

	forgetful bool // models of final rounds may be gone

	mu       sync.Mutex
	refused  map[string]bool // blobs that no peer hands out
	untold   map[string]bool // peers that nobody can exchange entries with, unless they begin
	torn     map[string]bool // peers whose snapshots of the ledger do not arrive whole
	standing map[string]int  // by peer and kind of request: after how many bytes the answer stands still
	asked    map[string]int  // requests between peers by the first part of their path, "entries" and so on
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
		c := &cluster{
			t: t, net: meshtest.NewNetwork(1), dir: dir, nodes: map[string]*node{}, files: map[string][]byte{},
			refused: map[string]bool{}, standing: map[string]int{}, untold: map[string]bool{}, torn: map[string]bool{}, asked: map[string]int{},
		}
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
	cfg.Secret = c.secret
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
	mux.Handle("/v1/peer/", c.watch(name, n.peer.PeerHandler()))
	mux.Handle("/", server)
	n.http = server.HTTPServer(mux)
	if cfg.TLS != nil {
		config, err := cfg.TLS.Server(certs.None)
		if err != nil {
			return nil, errors.Join(err, n.peer.Close())
		}
		n.http.ErrorLog = log.New(io.Discard, "", 0)
		ln = tls.NewListener(ln, config)
	}
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

// watch counts what peers ask of each other, and refuses what the test wants refused.
func (c *cluster) watch(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what, arg, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/peer/"), "/")
		c.mu.Lock()
		c.asked[what]++
		refused := what == "blobs" && c.refused[arg] || what == "entries" && c.untold[name]
		torn := c.torn[name]
		after, stands := c.standing[name+"/"+what]
		c.mu.Unlock()
		if stands {
			stand(w, r, h, after)
			return
		}
		if refused {
			http.Error(w, "refused by the test", http.StatusNotFound)
			return
		}
		if what == "snapshot" && torn {
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			b := rec.Body.Bytes()
			_, _ = w.Write(b[:len(b)-len(b)/3])
			return
		}
		h.ServeHTTP(w, r)
	})
}

// stand answers so many bytes of what a handler would, and then nothing more until the client goes.
func stand(w http.ResponseWriter, r *http.Request, h http.Handler, after int) {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	if after > 0 {
		maps.Copy(w.Header(), rec.Header())
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:min(after, rec.Body.Len())])
		_ = http.NewResponseController(w).Flush()
	}
	<-r.Context().Done()
}

// stands has some peers' answers to a kind of request end after so many bytes, with nothing more to come.
func (c *cluster) stands(what string, after int, names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		c.standing[name+"/"+what] = after
	}
}

// refuse has no peer hand out these updates from now on, and all others again.
func (c *cluster) refuse(rs ...api.Receipt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.refused)
	for _, r := range rs {
		c.refused[r.Digest] = true
	}
}

// requests returns how often peers asked each other for something.
func (c *cluster) requests(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[what]
}
