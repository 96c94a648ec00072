package main

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
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
	// One server all the time, so that its port stays its own.
	var config atomic.Pointer[tls.Config]
	serve := func(ca *certtest.CA) {
		store, err := certs.Open(issued(t, ca, certtest.Cert{}), zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		c, err := store.Server(certs.Require)
		if err != nil {
			t.Fatal(err)
		}
		config.Store(c)
	}
	old, fresh := newAuthority(t, "old"), newAuthority(t, "fresh")
	serve(old)
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) { return config.Load().GetConfigForClient(hello) }}
	server.StartTLS()
	t.Cleanup(server.Close)
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
	ask := func(within time.Duration) string {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		_, err := c.Session(ctx, "s") // to the end with the authorities that it began with
		select {
		case s := <-shown:
			return s
		default:
			return err.Error()
		}
	}
	if got := ask(time.Minute); got != "Bearer "+tokens[0]+" first" {
		t.Fatal(got)
	}
	serve(fresh)
	server.CloseClientConnections()
	put(fresh, "second")
	write(t, secret, []byte(tokens[1]))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	start := time.Now()
	for got := ""; got != "Bearer "+tokens[1]+" second"; got = ask(2 * time.Second) {
		if time.Since(start) > 2*time.Minute {
			t.Fatal(got)
		}
		<-tick.C
	}
}
