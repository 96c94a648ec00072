package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"github.com/fedmesh/fedmesh/mesh/certs"
	"github.com/fedmesh/fedmesh/mesh/certs/certtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func authority(t *testing.T, name string) *certtest.CA {
	t.Helper()
	ca, err := certtest.NewCA(name)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func issue(t *testing.T, ca *certtest.CA, c certtest.Cert) certtest.Pair {
	t.Helper()
	p, err := ca.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func files(t *testing.T, p certtest.Pair) certs.Files {
	t.Helper()
	f, err := p.Write(t.TempDir(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func open(t *testing.T, f certs.Files) *certs.Store {
	t.Helper()
	s, err := certs.Open(f, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// buffer is a log that tests read.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// server answers whether VerifyPeer takes a request. What goes wrong before is in its log.
type server struct {
	addr string
	log  buffer
}

func serve(t *testing.T, s *certs.Store, auth certs.ClientAuth) *server {
	t.Helper()
	config, err := s.Server(auth)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &server{addr: ln.Addr().String()}
	hs := &http.Server{
		ErrorLog: log.New(&srv.log, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ProtoMajor != 1 {
				w.WriteHeader(http.StatusHTTPVersionNotSupported)
			}
			if err := s.VerifyPeer(r); err != nil {
				http.Error(w, err.Error(), http.StatusForbidden)
			}
		}),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = hs.Serve(tls.NewListener(ln, config))
	}()
	t.Cleanup(func() {
		_ = hs.Close()
		<-done
	})
	return srv
}

// get asks a server and returns what it says, "" when all is well.
func get(t *testing.T, s *certs.Store, addr string) (string, error) {
	t.Helper()
	transport := &http.Transport{DialTLSContext: s.Dialer(nil)}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, Timeout: ample}
	resp, err := c.Get("https://" + addr)
	if err != nil {
		return "", certs.Explain(addr, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusForbidden {
		err = errors.New(resp.Status)
	}
	return string(b), err
}

// ample is time for what must happen, however slow the machine is.
const ample = 2 * time.Minute

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(ample)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not in time: ", what)
		}
	}
}

func TestPeers(t *testing.T) {
	mesh, other := authority(t, "mesh"), authority(t, "other")
	good := issue(t, mesh, certtest.Cert{Name: "good"})
	foreign := issue(t, other, certtest.Cert{Name: "foreign"})
	foreign.CA = mesh.PEM
	bad := map[string]struct {
		pair           certtest.Pair
		client, server string // what is said of it as a client's and as a server's certificate
		alert          string // what a client is told by the handshake
	}{
		"expired":       {issue(t, mesh, certtest.Cert{From: -48 * time.Hour, To: -time.Hour}), "expired", "expired", "expired certificate"},
		"not yet valid": {issue(t, mesh, certtest.Cert{From: time.Hour, To: 2 * time.Hour}), "not yet valid", "not yet valid", "expired certificate"},
		"foreign":       {foreign, "unknown authority", "unknown authority", "unknown certificate authority"},
		"wrong host":    {issue(t, mesh, certtest.Cert{Hosts: []string{"10.1.2.3", "peer.example"}}), "", "valid for 10.1.2.3, not 127.0.0.1", ""},
		"client only":   {issue(t, mesh, certtest.Cert{ClientOnly: true}), "good for servers and for clients", "incompatible key usage", ""},
	}
	peer := open(t, files(t, good))
	for _, auth := range []certs.ClientAuth{certs.None, certs.Request, certs.Require} {
		srv := serve(t, peer, auth)
		for range 2 { // the second time it is remembered
			if said, err := get(t, peer, srv.addr); said != "" || err != nil {
				t.Errorf("%s: a good certificate: %q, %v", auth, said, err)
			}
		}
		for name, c := range bad {
			said, err := get(t, open(t, files(t, c.pair)), srv.addr)
			switch {
			case auth == certs.None || c.alert == "": // judged by VerifyPeer, which says all
				if err != nil || c.client != "" && !strings.Contains(said, c.client) || c.client == "" && said != "" {
					t.Errorf("%s, %s: the client hears %q, %v; want %q", auth, name, said, err, c.client)
				}
			case err == nil || !strings.Contains(err.Error(), "does not accept") || !strings.Contains(err.Error(), c.alert):
				t.Errorf("%s, %s: the client hears %q, %v; want %q", auth, name, said, err, c.alert)
			default:
				await(t, name+": the server's log says so", func() bool { return strings.Contains(srv.log.String(), c.client) })
			}
		}
		// Somebody without a certificate.
		said, err := get(t, open(t, certs.Files{CA: files(t, good).CA}), srv.addr)
		if auth == certs.Require {
			if err == nil || !strings.Contains(err.Error(), "certificate required") {
				t.Errorf("require: without a certificate %q, %v", said, err)
			}
		} else if !strings.Contains(said, "none was shown") {
			t.Errorf("%s: without a certificate %q, %v", auth, said, err)
		}
	}
	for name, c := range bad {
		srv := serve(t, open(t, files(t, c.pair)), certs.None)
		_, err := get(t, peer, srv.addr)
		if err == nil || !strings.Contains(err.Error(), "the certificate of "+srv.addr+" is not accepted") || !strings.Contains(err.Error(), c.server) {
			t.Errorf("%s server: the client says %v, want %q", name, err, c.server)
		}
		await(t, name+" server says why in its log", func() bool {
			return strings.Contains(srv.log.String(), "TLS handshake error from 127.0.0.1") && strings.Contains(srv.log.String(), "remote error: tls: ")
		})
	}
}

// TestPlain: what happens when one side speaks no TLS.
func TestPlain(t *testing.T) {
	s := open(t, files(t, issue(t, authority(t, "mesh"), certtest.Cert{})))
	srv := serve(t, s, certs.None)
	resp, err := http.Get("http://" + srv.addr)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if !strings.Contains(string(b), "HTTP request to an HTTPS server") {
		t.Errorf("%q", b)
	}
	http.DefaultClient.CloseIdleConnections()

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	hs := &http.Server{Handler: http.NotFoundHandler()}
	done := make(chan struct{})
	go func() { defer close(done); _ = hs.Serve(ln) }()
	_, err = get(t, s, ln.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "does not speak TLS") {
		t.Error(err)
	}
	_ = hs.Close()
	<-done

	// Old versions are refused.
	_, err = tls.Dial("tcp", srv.addr, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10, InsecureSkipVerify: true})
	if err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Error("TLS 1.1:", err)
	}
}

func TestFaults(t *testing.T) {
	ca := authority(t, "mesh")
	p, q := issue(t, ca, certtest.Cert{}), issue(t, ca, certtest.Cert{})
	swapped := p
	swapped.Key = q.Key
	f := files(t, p)
	for _, c := range []struct {
		files certs.Files
		says  string
	}{
		{certs.Files{}, "no files"},
		{certs.Files{Cert: f.Cert}, "needs its key"},
		{certs.Files{Key: f.Key}, "needs its certificate"},
		{certs.Files{CA: f.CA + "x"}, "no such file"},
		{files(t, swapped), "private key does not match"},
		{files(t, certtest.Pair{Cert: p.Cert, Key: p.Key, CA: []byte("nothing")}), "no certificate of an authority"},
		{files(t, certtest.Pair{Cert: p.Cert, Key: p.Key, CA: []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}), "certificate 1"},
		{files(t, certtest.Pair{Cert: p.Cert, Key: p.Key, CA: bytes.Repeat([]byte("x"), 5<<20)}), "more than"},
		{files(t, certtest.Pair{Cert: []byte("x"), Key: p.Key, CA: p.CA}), "PEM"},
	} {
		if _, err := certs.Open(c.files, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v does not say %q", err, c.says)
		}
	}
	both := files(t, certtest.Pair{Cert: []byte("x"), Key: p.Key, CA: []byte("x")})
	if _, err := certs.Open(both, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), both.Cert) || !strings.Contains(err.Error(), both.CA) {
		t.Errorf("not all faults: %v", err)
	}
	if _, err := open(t, certs.Files{Cert: f.Cert, Key: f.Key}).Server(certs.Require); err == nil {
		t.Error("clients are judged without a CA")
	}
	if _, err := open(t, certs.Files{CA: f.CA}).Server(certs.None); err == nil {
		t.Error("a server without a certificate")
	}
	if _, err := open(t, f).Server("maybe"); err == nil {
		t.Error("an unknown authentication")
	}
}

// names of the certificate that a server shows.
func shown(t *testing.T, addr string) string {
	t.Helper()
	c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestRenewal(t *testing.T) {
	ca, next := authority(t, "mesh"), authority(t, "next")
	dir := t.TempDir()
	write := func(p certtest.Pair) certs.Files {
		t.Helper()
		f, err := p.Write(dir, "a")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	first := issue(t, ca, certtest.Cert{Name: "first"})
	var logged buffer
	s, err := certs.Open(write(first), zerolog.New(&logged))
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.Metrics()...)
	reloads := func(result string) float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "fedmesh_tls_reloads_total" && m.GetLabel()[0].GetValue() == result {
					return m.GetCounter().GetValue()
				}
			}
		}
		return -1
	}
	srv := serve(t, s, certs.None)
	ctx, cancel := context.WithCancel(t.Context())
	hup := make(chan os.Signal, 1)
	var wg sync.WaitGroup
	wg.Go(func() { s.Watch(ctx, time.Hour, hup) })
	defer wg.Wait()
	defer cancel()
	write(issue(t, ca, certtest.Cert{Name: "second"}))
	if got := shown(t, srv.addr); got != "first" {
		t.Errorf("%s before anybody looked", got)
	}
	hup <- os.Interrupt
	await(t, "a signal", func() bool { return reloads("ok") > 0 }) // the last thing that comes of it
	if got := shown(t, srv.addr); got != "second" || reloads("ok") != 1 || s.Generation() != 1 {
		t.Errorf("%s is shown after %v reloads, generation %d", got, reloads("ok"), s.Generation())
	}

	// What is broken, or worse than what is there, is told once and changes nothing.
	third := issue(t, ca, certtest.Cert{Name: "third"})
	for i, p := range []certtest.Pair{
		{Cert: third.Cert, Key: first.Key, CA: ca.PEM},
		{Cert: third.Cert, Key: third.Key, CA: []byte("broken")},
		{Cert: third.Cert[:100], Key: third.Key, CA: ca.PEM},
		issue(t, ca, certtest.Cert{Name: "expired", From: -2 * time.Hour, To: -time.Hour}),
		issue(t, ca, certtest.Cert{Name: "later", From: time.Hour, To: 2 * time.Hour}),
	} {
		write(p)
		for range 3 {
			if s.Reload() == nil {
				t.Errorf("files %d were taken", i)
			}
		}
		if got := shown(t, srv.addr); got != "second" {
			t.Errorf("files %d: now %s", i, got)
		}
		if n := strings.Count(logged.String(), "are not taken"); n != i+1 || reloads("failed") != float64(i+1) {
			t.Errorf("files %d: told %d times, counted %v", i, n, reloads("failed"))
		}
	}
	if err := os.Remove(filepath.Join(dir, "a.key")); err != nil {
		t.Fatal(err)
	}
	if s.Reload() == nil || shown(t, srv.addr) != "second" {
		t.Error("a key that is gone")
	}
	// The next authority: first both, then it alone.
	client := open(t, files(t, issue(t, next, certtest.Cert{Name: "client"})))
	asks := func() string {
		said, err := get(t, client, srv.addr)
		if err != nil {
			return err.Error()
		}
		return said
	}
	fourth := issue(t, next, certtest.Cert{Name: "fourth"})
	fourth.CA = append(bytes.Clone(ca.PEM), next.PEM...)
	write(third)
	if err := s.Reload(); err != nil || !strings.Contains(asks(), "not accepted") {
		t.Error(err, asks())
	}
	write(fourth)
	if err := s.Reload(); err != nil || asks() != "" {
		t.Error(err, asks())
	}
	fourth.CA = ca.PEM
	write(fourth)
	if err := s.Reload(); err != nil || !strings.Contains(asks(), "unknown authority") {
		t.Error("who was remembered is still taken:", err, asks())
	}
}

// TestWatch: without a signal too.
func TestWatch(t *testing.T) {
	ca := authority(t, "mesh")
	dir := t.TempDir()
	f, err := issue(t, ca, certtest.Cert{}).Write(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { s.Watch(ctx, time.Millisecond, nil) })
	defer wg.Wait()
	defer cancel()
	if _, err := issue(t, ca, certtest.Cert{}).Write(dir, "a"); err != nil {
		t.Fatal(err)
	}
	await(t, "a change is seen", func() bool { return s.Generation() > 0 })
}

// TestExpired: a peer starts with an expired certificate, says so, and is healed by a new one.
func TestExpired(t *testing.T) {
	ca := authority(t, "mesh")
	dir := t.TempDir()
	f, err := issue(t, ca, certtest.Cert{From: -2 * time.Hour, To: -time.Hour}).Write(dir, "a")
	if err != nil {
		t.Fatal(err)
	}
	var logged buffer
	s, err := certs.Open(f, zerolog.New(&logged))
	if err != nil || !strings.Contains(logged.String(), "expired at") {
		t.Fatal(err, logged.String())
	}
	if _, err := issue(t, ca, certtest.Cert{}).Write(dir, "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	srv := serve(t, s, certs.Require)
	if said, err := get(t, s, srv.addr); said != "" || err != nil {
		t.Error(said, err)
	}
}
