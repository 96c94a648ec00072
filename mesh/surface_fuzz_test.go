package mesh_test

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/access"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

// alarm is where logs go: it keeps the first line that no request may cause.
type alarm struct{ line atomic.Pointer[string] }

func (a *alarm) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte("panic")) || bytes.Contains(b, []byte("internal error")) {
		s := string(b)
		a.line.CompareAndSwap(nil, &s)
	}
	return len(b), nil
}

// surfacePatience is how long an answer may take. The fuzzer ends a process without a word after 10 s; where only the seeds run, nobody hurries.
func surfacePatience() time.Duration {
	if w := flag.Lookup("test.fuzzworker"); w != nil && w.Value.String() == "true" {
		return 8 * time.Second
	}
	return patience
}

// surfaceMesh is what peers of the fuzzer's mesh call it.
const surfaceMesh = "fuzz/1"

// surface is a peer alone, its whole HTTP interface on a socket, and tokens of every role.
type surface struct {
	addr   string
	alarm  alarm
	tokens map[byte]string
	known  []string // words and what they stand for
	words  *strings.Replacer
	most   int // goroutines of a peer at rest, with as many uploads as it takes
	ran    int
}

func newSurface(f *testing.F) *surface {
	dir, err := os.MkdirTemp("", "surface") // the fuzzer's processes may be killed, and f.TempDir's name is as long as the target's
	if err != nil {
		f.Fatal(err)
	}
	s := &surface{tokens: map[byte]string{}}
	logger := zerolog.New(&s.alarm)
	var lines strings.Builder
	for i, role := range access.Roles() {
		token := access.NewToken()
		h, err := access.HashOf(token)
		if err != nil {
			f.Fatal(err)
		}
		line, err := access.Line(access.Grant{Name: string(role), Role: role}, h)
		if err != nil {
			f.Fatal(err)
		}
		s.tokens[byte(i+1)] = token
		fmt.Fprintln(&lines, line)
	}
	set, err := access.Parse([]byte(lines.String()))
	if err != nil {
		f.Fatal(err)
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	s.addr = ln.Addr().String()
	network := meshtest.NewNetwork(1)
	cfg := mesh.DefaultConfig()
	cfg.Name, cfg.Mesh, cfg.API, cfg.DataDir, cfg.Fsync = "a", "fuzz", s.addr, dir, store.Never
	cfg.Transport, cfg.Logger, cfg.MaxDisk, cfg.KeepModels = network.Transport("a"), logger, 64<<20, 3
	registry := prometheus.NewRegistry()
	cfg.Registerer = registry
	cfg.StallAfter, cfg.AloneAfter = 100*time.Millisecond, time.Millisecond
	peer, err := mesh.New(cfg)
	if err != nil {
		f.Fatal(err)
	}
	server := api.NewServer(peer, api.ServerOptions{
		Logger: logger, Registerer: registry, Gatherer: registry, MaxBody: 1 << 20, Tokens: func() *access.Set { return set }, Limits: api.Limits{Uploads: 4, Wait: 10 * time.Millisecond},
		Timeouts: api.Timeouts{Header: time.Second, BodyIdle: 100 * time.Millisecond, WriteIdle: time.Second, MaxWait: 20 * time.Millisecond, Heartbeat: 10 * time.Millisecond},
	})
	mux := http.NewServeMux()
	mux.Handle("/v1/peer/", server.GuardPeers(peer.PeerHandler()))
	mux.Handle("/", server)
	hs := server.HTTPServer(mux)
	hs.ErrorLog = log.New(&s.alarm, "", 0)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = hs.Serve(ln)
	}()
	f.Cleanup(func() {
		_ = hs.Close()
		<-served
		if err := errors.Join(peer.Close(), os.RemoveAll(dir)); err != nil {
			f.Error(err)
		}
		network.Close()
	})
	if err := peer.Start(f.Context()); err != nil {
		f.Fatal(err)
	}
	// Not over HTTP, whose timeouts are so short here that a busy machine exceeds them.
	for tick := time.Tick(time.Millisecond); peer.Ready() != nil; <-tick {
		continue
	}
	info, _, err := peer.OpenSession(f.Context(), "s", api.DefaultSessionConfig(), bytes.NewReader(file(0)))
	if err != nil {
		f.Fatal(err)
	}
	status, _ := s.ask(f, http.MethodGet, "/v1/peer/blobs/"+info.Model, http.Header{"Fedmesh-Mesh": {surfaceMesh}, "Authorization": {"Bearer " + s.tokens[4]}})
	if status != http.StatusOK {
		f.Fatalf("the peer plane cannot be reached: %d", status)
	}
	s.known = []string{"{key}", info.Key, "{digest}", info.Model, "{none}", model.Digest{1}.String()}
	s.most = runtime.NumGoroutine() + 700 // an upload that waits for more has two
	return s
}

// FuzzSurface sends whatever it likes to a peer's HTTP interface, both what users and what peers reach, as anybody. No request may make the peer
// panic or answer with 500, or leave a goroutine behind. In path and header {key} and {digest} stand for those of a session "s" that there is, {upload} for an upload to it.
func FuzzSurface(f *testing.F) {
	const push = "/v1/sessions/s/updates/c"
	kind := func(text string) string { return "Content-Type: " + text + "\r\n" }
	form := "--b\r\nContent-Disposition: form-data; name=\"config\"\r\n\r\n{\"strategy\":\"fedavg\"}\r\n--b\r\nContent-Disposition: form-data; name=\"seed\"\r\n\r\n" + string(file(1)) + "\r\n--b--\r\n"
	tus := "Tus-Resumable: 1.0.0\r\n"
	for _, seed := range []struct {
		method, path, header, body string
		as                         byte
	}{
		{"GET", "/", "", "", 0},
		{"GET", "/ui/%2e%2e/x", "", "", 0},
		{"GET", "/v1/login", "Cookie: fedmesh-00000000=AAAA\r\n", "", 0},
		{"POST", "/v1/login", kind("application/json"), `{"token":"fedmesh_"}`, 0},
		{"GET", "/v1/mesh", "", "", 2},
		{"GET", "/v1/events?session=s", "", "", 2},
		{"GET", "/metrics", "Accept-Encoding: gzip\r\n", "", 2},
		{"GET", "/v1/sessions/s/model?after={digest}&wait=10ms&format=npz", "If-None-Match: \"{digest}\"\r\n", "", 1},
		{"HEAD", "/v1/sessions/{key}/models/{digest}", "Range: bytes=8-20,1-\r\n", "", 2},
		{"GET", "/v1/sessions/s/rounds?from=1&limit=3&updates=false", "", "", 2},
		{"GET", "/v1/sessions/s/rounds/18446744073709551615", "", "", 2},
		{"PUT", push + "?weight=3&metric.loss=0.5&base={digest}&id=x", "", string(file(2)), 1},
		{"PUT", push + "?weight=274877906943", kind("application/x-npz"), "PK\x03\x04", 3},
		{"POST", push + "?weight=3&id=y", tus + "Upload-Length: 20\r\n" + kind("application/offset+octet-stream"), "0123456789", 1},
		{"PATCH", "/v1/uploads/{upload}", tus + "Upload-Offset: 0\r\n" + kind("application/offset+octet-stream"), "x", 1},
		{"HEAD", "/v1/uploads/{upload}", tus, "", 1},
		{"POST", "/v1/uploads/{upload}", tus + "X-HTTP-Method-Override: DELETE\r\n", "", 1},
		{"OPTIONS", push, "", "", 3},
		{"PUT", "/v1/sessions/t", kind("multipart/form-data; boundary=b"), form, 3},
		{"POST", "/v1/sessions/t/close", "", "", 3},
		{"POST", "/v1/forget", kind("application/json"), `{"peers":["b"]}`, 3},
		{"POST", "/v1/leave", "Origin: http://elsewhere\r\nSec-Fetch-Site: cross-site\r\n", "", 3},
		{"POST", "/v1/peer/entries", "", strings.Repeat("\x00", 20), 4},
		{"GET", "/v1/peer/snapshot", "", "", 4},
		{"GET", "/v1/peer/blobs/{digest}", "Range: bytes=10-\r\n", "", 4},
		{"GET", "/v1/peer/blobs/%2e%2e%2flog", "", "", 4},
		{"PUT", "/v1/peer/updates/{key}/c", `Fedmesh-Update: {"id":"z","weight":2,"base":"{digest}","base_round":0}` + "\r\n", string(file(3)), 4},
		{"DELETE", "/v1/peer/uploads/00000000000000000000000000000000", "", "", 4},
		{"POST", "/v1/peer/sessions/{key}?model={none}", "", "x", 4},
		{"POST", "/v1/peer/sums/{key}", "", "\x81\xa1a\x01", 4},
		{"GET", "//v1/../v1/sessions/%00", "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", 2},
		{"\x00", "*", "Expect: 100-continue\r\n", "x", 5},
	} {
		f.Add(seed.method, seed.path, seed.header, []byte(seed.body), seed.as, !strings.HasPrefix(seed.header, "Transfer-Encoding"))
	}
	s := newSurface(f)
	f.Fuzz(func(t *testing.T, method, path, header string, body []byte, as byte, length bool) {
		if s.ran%100 == 0 {
			s.beginUpload(t)
		}
		s.request(t, method, s.words.Replace(path), s.words.Replace(header), body, as, length)
		if line := s.alarm.line.Load(); line != nil {
			t.Fatal(*line)
		}
		if s.ran++; s.ran%500 == 0 {
			s.atRest(t)
		}
	})
}

// beginUpload begins another upload that {upload} stands for.
func (s *surface) beginUpload(t *testing.T) {
	_, header := s.ask(t, http.MethodPost, fmt.Sprintf("/v1/sessions/s/updates/u?weight=1&id=%d", s.ran), http.Header{
		"Authorization": {"Bearer " + s.tokens[1]}, "Tus-Resumable": {"1.0.0"}, "Upload-Length": {strconv.Itoa(len(file(4)))},
	})
	// It may be refused: the session may have been closed by now.
	s.words = strings.NewReplacer(append(s.known, "{upload}", strings.TrimPrefix(header.Get("Location"), "/v1/uploads/"))...)
}

// ask makes a good request, again when the peer was too busy to read it in the short time that it gives here.
func (s *surface) ask(t testing.TB, method, path string, header http.Header) (status int, answered http.Header) {
	t.Helper()
	var last error
	for end := time.Now().Add(surfacePatience()); time.Now().Before(end); {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header, r.Close = header.Clone(), true
		resp, err := http.DefaultClient.Do(r)
		if err == nil {
			resp.Body.Close()
			return resp.StatusCode, resp.Header
		}
		last = err
	}
	t.Fatal(last)
	return 0, nil
}

// request makes a request and reads the beginning of the answer.
func (s *surface) request(t *testing.T, method, path, header string, body []byte, as byte, length bool) {
	addr, err := net.ResolveTCPAddr("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTCP("tcp", nil, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetLinger(0) // or all ports are soon taken by connections of before
	_ = conn.SetDeadline(time.Now().Add(surfacePatience()))
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nFedmesh-Mesh: "+surfaceMesh+"\r\n", method, path)
	if token, ok := s.tokens[as]; ok {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", token)
	}
	b.WriteString(header)
	if length {
		b.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n")
	}
	b.WriteString("\r\n")
	b.Write(body)
	if _, err := conn.Write(b.Bytes()); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return // it refused before all was sent
	}
	_ = conn.CloseWrite()
	from := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(from, &http.Request{Method: method})
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("no answer to %q", b.Bytes())
			}
			return // net/http hangs up on what is no HTTP
		}
		if resp.StatusCode < 200 {
			continue
		}
		if resp.StatusCode == http.StatusInternalServerError {
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 512))
			t.Fatalf("%q is answered with %s: %s", b.Bytes(), resp.Status, text)
		}
		return
	}
}

// atRest waits until what requests began has ended.
func (s *surface) atRest(t *testing.T) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(surfacePatience()); runtime.NumGoroutine() > s.most; <-tick.C {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines are left:\n%s", runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}
