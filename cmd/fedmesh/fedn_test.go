package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fedmesh/fedmesh/mesh/access"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/certs"
	"github.com/fedmesh/fedmesh/mesh/certs/certtest"
	"github.com/fedmesh/fedmesh/mesh/fedn"
	"github.com/fedmesh/fedmesh/mesh/fedn/fednpb"
)

// The command serves a combiner, and stops without an error.
func TestFednServes(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := (&clientFlags{peers: []string{"127.0.0.1:1"}}).lasting("", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var out lockedBuffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	cfg := fedn.Config{Combiner: "north", Session: "s", Open: api.DefaultSessionConfig(), Dir: filepath.Join(t.TempDir(), "north"), Logger: zerolog.New(&out)}
	go func() { done <- runFedn(ctx, ln, cfg, c, zerolog.New(&out)) }()
	conn, err := grpc.NewClient(ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stub := fednpb.NewFunctionServiceClient(conn)
	functions, err := stub.HandleProvidedFunctions(t.Context(), &fednpb.ProvidedFunctionsRequest{})
	if err != nil || !functions.GetAvailableFunctions()["aggregate"] {
		t.Errorf("%v, %v", functions, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What is wrong with the command line is said before anything is made.
func TestFednUsage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	good := map[string]string{"combiner": "north", "session": "s", "data-dir": dir, "listen": "127.0.0.1:0"}
	for name, bad := range map[string]struct{ flag, value, says string }{
		"combiner": {"combiner", "a/b", "a/b"},
		"session":  {"session", "", "session"},
		"patience": {"patience", "0s", "--patience is 0s"},
		"pending":  {"max-pending", "much", "--max-pending"},
		"nothing":  {"max-pending", "0", "--max-pending"},
		"strategy": {"strategy", "guess", "guess"},
		"level":    {"log-level", "loud", "--log-level"},
		"open":     {"listen", "0.0.0.0:0", "--insecure"},
	} {
		args := []string{"fedn"}
		for flag, value := range good {
			if flag != bad.flag {
				args = append(args, "--"+flag, value)
			}
		}
		r := shell{}.run(t, append(args, "--"+bad.flag, bad.value)...)
		if r.code != exitUsage || !strings.Contains(r.err, bad.says) {
			t.Errorf("%s: exit code %d, %q", name, r.code, r.err)
		}
	}
	if files, _ := filepath.Glob(dir); len(files) > 0 {
		t.Errorf("made %v", files)
	}
}

// A client that lasts takes over another token, and other certificates and authorities, while it runs.
func TestFednFilesAreReadAgain(t *testing.T) {
	shown := make(chan string, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown <- r.Header.Get("Authorization") + " " + r.TLS.PeerCertificates[0].Subject.CommonName
		http.Error(w, "no", http.StatusBadRequest)
	})
	dir := t.TempDir()
	put := func(ca *certtest.CA, name string) certs.Files {
		pair, err := ca.Issue(certtest.Cert{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		f, err := pair.Write(dir, "c")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	serve := func(ca *certtest.CA, addr string) *httptest.Server {
		store, err := certs.Open(issued(t, ca, certtest.Cert{}), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(h)
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		_ = s.Listener.Close()
		s.Listener = ln
		if s.TLS, err = store.Server(certs.Require); err != nil {
			t.Fatal(err)
		}
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	old, fresh := newAuthority(t, "old"), newAuthority(t, "fresh")
	server := serve(old, "127.0.0.1:0")
	addr := server.Listener.Addr().String()
	files := put(old, "first")
	secret := filepath.Join(dir, "token")
	tokens := []string{access.NewToken(), access.NewToken()}
	write(t, secret, []byte(tokens[0]))
	c, err := (&clientFlags{peers: []string{addr}, token: secret, tls: clientTLS{files}}).lasting("", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask := func() string {
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Session(short, "s")
		select {
		case s := <-shown:
			return s
		default:
			return err.Error()
		}
	}
	if got := ask(); got != "Bearer "+tokens[0]+" first" {
		t.Fatal(got)
	}
	server.Close()
	serve(fresh, addr)
	put(fresh, "second")
	write(t, secret, []byte(tokens[1]))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	got, start := "", time.Now()
	for got != "Bearer "+tokens[1]+" second" {
		if time.Since(start) > 20*time.Second {
			t.Fatal(got)
		}
		<-tick.C
		got = ask()
	}
}
