package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// memNet is a network of pipes: it works inside synctest bubbles, where real sockets do not.
type memNet struct {
	mu    sync.Mutex
	hosts map[string]*memListener
}

type memListener struct {
	addr  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newMemNet() *memNet { return &memNet{hosts: map[string]*memListener{}} }

func (n *memNet) listen(addr string) *memListener {
	l := &memListener{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[addr] = l
	return l
}

func (n *memNet) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.hosts[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.done:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *memListener) Addr() net.Addr { return memAddr(l.addr) }

type memAddr string

func (memAddr) Network() string  { return "mem" }
func (a memAddr) String() string { return string(a) }

// serve runs a handler at addr until the returned function stops it.
func (n *memNet) serve(addr string, hs *http.Server) (stop func()) {
	l := n.listen(addr)
	var wg sync.WaitGroup
	wg.Go(func() { _ = hs.Serve(l) })
	return func() {
		_ = hs.Close()
		wg.Wait()
	}
}

// start serves a backend on a real socket.
func start(t testing.TB, b api.Backend, o api.ServerOptions) (*api.Server, string) {
	t.Helper()
	if testing.Verbose() && !o.Logger.Debug().Enabled() {
		o.Logger = zerolog.New(zerolog.NewTestWriter(t))
	}
	srv := api.NewServer(b, o)
	ts := httptest.NewUnstartedServer(nil)
	ts.Config = srv.HTTPServer(srv)
	ts.Start()
	t.Cleanup(func() {
		srv.Close()
		ts.Close()
	})
	return srv, ts.URL
}

// do makes a request on a connection of its own.
func do(t testing.TB, method, url string, body io.Reader, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// problem reads an answer that must be a problem.
func problem(t testing.TB, resp *http.Response) *api.Problem {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
		t.Fatalf("status %d, content type %q, body %.300s; want a problem", resp.StatusCode, ct, b)
	}
	var p api.Problem
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	if p.Status != resp.StatusCode || p.Title == "" || !strings.HasPrefix(p.Type, "urn:fedmesh:problem:") {
		t.Fatalf("status %d with problem %s", resp.StatusCode, b)
	}
	if (p.Status == 503) != (resp.Header.Get("Retry-After") != "") {
		t.Fatalf("status %d with Retry-After %q", p.Status, resp.Header.Get("Retry-After"))
	}
	return &p
}

// exchange writes raw bytes to a connection and reads one answer.
func exchange(t testing.TB, conn net.Conn, raw string) *http.Response {
	t.Helper()
	go func() { _, _ = io.WriteString(conn, raw) }()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp
}

func client(t testing.TB, o api.ClientOptions, peers ...string) *api.Client {
	t.Helper()
	c, err := api.NewClient(peers, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// ample is time for what must happen, on real sockets and however slow the machine is.
const ample = 5 * time.Minute

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// logTo is a server's logger whose lines a test can read.
type logTo struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logTo) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logTo) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func form(parts ...string) (body, contentType string) {
	var b strings.Builder
	for i := 0; i < len(parts); i += 2 {
		fmt.Fprintf(&b, "--xx\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", parts[i], parts[i+1])
	}
	return b.String() + "--xx--\r\n", "multipart/form-data; boundary=xx"
}
