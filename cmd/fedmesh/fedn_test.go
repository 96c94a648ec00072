package main

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/fedn"
	"github.com/fedmesh/fedmesh/mesh/fedn/fednpb"
)

// The command serves a combiner, and stops without an error.
func TestFednServes(t *testing.T) {
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := api.NewClient([]string{"127.0.0.1:1"}, api.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var log lockedBuffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	cfg := fedn.Config{Combiner: "north", Session: "s", Open: api.DefaultSessionConfig(), Dir: filepath.Join(t.TempDir(), "north"), Logger: zerolog.New(&log)}
	go func() { done <- runFedn(ctx, ln, cfg, c, zerolog.New(&log)) }()
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
