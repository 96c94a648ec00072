package mesh_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// What strangers send, over real sockets: every fault has its status and type and says what is wrong where, nothing of it stays on
// the disk, and the peer goes on serving.

// victim is a peer on real sockets, as cmd/fedmesh runs one.
type victim struct {
	t    *testing.T
	addr string // of its HTTP interface
	dir  string
	peer *mesh.Peer
	http *http.Client
	good int // pushes accepted

	registry *prometheus.Registry
	stood    float64 // how often it had stood still when that was last looked at
}

// newVictim runs a peer until the test ends.
func newVictim(t *testing.T, tune ...func(*mesh.Config)) *victim {
	t.Helper()
	ln := listen(t)
	cfg := mesh.DefaultConfig()
	cfg.Name, cfg.API, cfg.DataDir, cfg.Gossip = "a", ln.Addr().String(), t.TempDir(), "127.0.0.1:0"
	registry := prometheus.NewRegistry()
	cfg.Registerer = registry
	if *verbose {
		cfg.Logger = zerolog.New(zerolog.NewTestWriter(t))
	}
	for _, f := range tune {
		f(&cfg)
	}
	peer, err := mesh.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	v := &victim{t: t, addr: cfg.API, dir: cfg.DataDir, peer: peer, http: &http.Client{Transport: &http.Transport{}}, registry: registry}
	v.serve(ln, api.ServerOptions{Logger: cfg.Logger, Registerer: registry, Gatherer: registry})
	t.Cleanup(func() {
		if err := peer.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := peer.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.ready()
	return v
}

// patience is how long what must happen may take on a machine that has other work.
const patience = 2 * time.Minute

// ready waits until the peer is.
func (v *victim) ready() {
	v.t.Helper()
	v.until("ready", func() bool { return v.peer.Ready() == nil })
}

// stoodStill tells whether the peer has stood still since that was last asked, for want of a processor: it then takes nothing until it has
// caught up.
func (v *victim) stoodStill() bool {
	v.t.Helper()
	families, err := v.registry.Gather()
	if err != nil {
		v.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "fedmesh_stalls_total" {
			now := f.GetMetric()[0].GetCounter().GetValue()
			still := now > v.stood
			v.stood = now
			return still
		}
	}
	v.t.Fatal("no metric tells of stalls")
	return false
}

// steady asks a peer that is ready, and again when it was not since it stood still.
func (v *victim) steady(ask func() answer) answer {
	v.t.Helper()
	for {
		v.ready()
		got := ask()
		var p api.Problem
		if got.status != http.StatusServiceUnavailable || json.Unmarshal(got.body, &p) != nil || !api.TypeNotReady.Is(&p) {
			return got
		}
		v.until("one that stood still and therefore is not ready", v.stoodStill)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// serve serves the peer's HTTP interface until the test ends.
func (v *victim) serve(ln net.Listener, o api.ServerOptions) {
	server := api.NewServer(v.peer, o)
	mux := http.NewServeMux()
	mux.Handle("/v1/peer/", v.peer.PeerHandler())
	mux.Handle("/", server)
	hs := server.HTTPServer(mux)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = hs.Serve(ln)
	}()
	v.t.Cleanup(func() {
		v.http.CloseIdleConnections()
		_ = hs.Close()
		<-served
	})
}

// until polls; a real peer's work has no other end that a test could wait for.
func (v *victim) until(what string, done func() bool) {
	v.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !done(); <-tick.C {
		if time.Now().After(deadline) {
			v.t.Fatalf("not %s after %v", what, patience)
		}
	}
}

// listing is every file of the data directory with its size, the log's included.
func (v *victim) listing() string {
	v.t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(v.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintf(&b, "%s %d\n", strings.TrimPrefix(path, v.dir), info.Size())
		}
		return ignoreGone(err)
	})
	if err != nil {
		v.t.Fatal(err)
	}
	return b.String()
}

// ignoreGone passes over files that go while they are listed.
func ignoreGone(err error) error {
	if err != nil && strings.Contains(err.Error(), "no such file") {
		return nil
	}
	return err
}

// attack is a request and what it must be answered.
type attack struct {
	name   string
	method string // PUT unless told
	path   string // the session's updates of combiner "x" unless told
	query  string // "weight=1" for an update unless told
	header http.Header
	body   []byte
	stream func() io.Reader // in place of body

	status int
	kind   api.ProblemType // "" where the answer is no problem of the API
	words  []string        // all in the answer's detail
	extra  map[string]any  // members of the problem
}

const updatesOfX = "/v1/sessions/s/updates/x"

// answer is what a request brought.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// send sends a request and reads its answer.
func (v *victim) send(a attack) answer {
	v.t.Helper()
	return v.steady(func() answer { return v.once(a) })
}

// once is send without regard to stalls.
func (v *victim) once(a attack) answer {
	v.t.Helper()
	if a.method == "" {
		a.method = http.MethodPut
	}
	if a.path == "" {
		a.path = updatesOfX
		if a.query == "" {
			a.query = "weight=1"
		}
	}
	url := "http://" + v.addr + a.path
	if a.query != "" {
		url += "?" + a.query
	}
	var body io.Reader = bytes.NewReader(a.body)
	if a.stream != nil {
		body = a.stream()
	}
	ctx, cancel := context.WithTimeout(v.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, a.method, url, body)
	if err != nil {
		v.t.Fatal(err)
	}
	maps.Copy(req.Header, a.header)
	resp, err := v.http.Do(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

// suffer sends a request, compares the answer, and looks for what it left behind.
func (v *victim) suffer(a attack) {
	v.t.Helper()
	before := v.listing()
	v.check(a, v.send(a))
	if after := v.listing(); after != before {
		v.t.Errorf("%s: the data directory changed from\n%sto\n%s", a.name, before, after)
	}
	if err := v.peer.Ready(); err != nil {
		v.until(fmt.Sprintf("one that stood still, and is out of service after %s: %v", a.name, err), v.stoodStill)
	}
}

// check compares an answer with what an attack must be answered.
func (v *victim) check(a attack, got answer) {
	v.t.Helper()
	var p api.Problem
	if kind := got.header.Get("Content-Type"); kind != "application/problem+json" || json.Unmarshal(got.body, &p) != nil {
		v.t.Errorf("%s: answered with %d and %s: %.300s", a.name, got.status, kind, got.body)
		return
	}
	if *verbose {
		v.t.Logf("%s\n\t%d %s: %s", a.name, got.status, p.Type, p.Detail)
	}
	if want := "urn:fedmesh:problem:" + string(a.kind); got.status != a.status || p.Status != a.status || p.Type != want {
		v.t.Errorf("%s: %d (%d in the body) %s, want %d %s: %s", a.name, got.status, p.Status, p.Type, a.status, want, p.Detail)
	}
	for _, w := range a.words {
		if !strings.Contains(p.Detail, w) {
			v.t.Errorf("%s: the answer does not say %q: %s", a.name, w, p.Detail)
		}
	}
	for name, want := range a.extra {
		if got := fmt.Sprint(p.Extra[name]); got != fmt.Sprint(want) {
			v.t.Errorf("%s: %q is %v, want %v", a.name, name, got, want)
		}
	}
	if a.status == http.StatusServiceUnavailable && a.kind != "peer" && got.header.Get("Retry-After") == "" {
		v.t.Errorf("%s: 503 without Retry-After", a.name)
	}
	leaks := []string{v.dir, "api: ", "codec: ", "goroutine", "|x|", ": unreadable model", "\n"}
	if a.kind != "peer" {
		leaks = append(leaks, "Go struct", "mesh: ")
	}
	for _, leak := range leaks {
		if strings.Contains(p.Detail, leak) {
			v.t.Errorf("%s: the answer tells %q: %s", a.name, leak, p.Detail)
		}
	}
}

// openSession opens session s, whose rounds do not end by themselves.
func (v *victim) openSession(seed []byte) {
	v.t.Helper()
	got := v.send(attack{path: "/v1/sessions/s", header: formHeader, body: form("config", calm, "seed", string(seed))})
	if got.status != http.StatusCreated {
		v.t.Fatalf("session: %d %s", got.status, got.body)
	}
	// The seed's own word in the ledger, and the models made durable: nothing is written after.
	var last string
	v.until("quiet", func() bool {
		now := v.listing()
		same := now == last
		last = now
		info, err := v.peer.Session("s")
		return same && err == nil && info.Model != ""
	})
}

// serves pushes a good update and sees it accepted.
func (v *victim) serves(body []byte) {
	v.t.Helper()
	v.good++
	got := v.send(attack{path: fmt.Sprintf("/v1/sessions/s/updates/good%d", v.good), query: "weight=1", body: body})
	if got.status != http.StatusCreated {
		v.t.Errorf("a good push is answered with %d: %s", got.status, got.body)
	}
}

// settled waits until the number of goroutines is back at what it was.
func (v *victim) settled(before int) {
	v.t.Helper()
	v.http.CloseIdleConnections()
	v.until(fmt.Sprintf("back at %d goroutines", before), func() bool { return runtime.NumGoroutine() <= before })
}

// calm is a session's config under which nothing happens by itself.
const calm = `{"copies":1,"target_combiners":1000000,"round_timeout":"24h"}`

const boundary = "boundary"

var formHeader = http.Header{"Content-Type": {"multipart/form-data; boundary=" + boundary}}

// form is a multipart body of named parts.
func form(parts ...string) []byte {
	var b bytes.Buffer
	for i := 0; i+1 < len(parts); i += 2 {
		fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", boundary, parts[i], parts[i+1])
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return b.Bytes()
}
