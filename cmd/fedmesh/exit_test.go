package main

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestExitCodesAreInOneTable(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(exitCodes, "\n") {
		if !strings.Contains(string(doc), "//\t"+strings.TrimPrefix(line, "  ")+"\n") {
			t.Errorf("doc.go lacks %q", line)
		}
	}
	if out := (shell{}).ok(t, "help", "exit-codes"); !strings.Contains(out, exitCodes) {
		t.Errorf("%q", out)
	}
	if out := (shell{}).ok(t, "help", "output"); !strings.Contains(out, "standard error") {
		t.Errorf("%q", out)
	}
	if out := (shell{}).ok(t); !strings.Contains(out, "exit-codes") {
		t.Errorf("the help does not lead there: %q", out)
	}
}

// TestNextSteps has peers answer in every way that has a step of its own.
func TestNextSteps(t *testing.T) {
	p, sh := serve(t)
	file := filepath.Join(t.TempDir(), "u.safetensors")
	write(t, file, f32(t, 1, 2, 3))
	for _, c := range []struct {
		problem *api.Problem
		code    int
		next    string
	}{
		{api.UnknownSession("s"), exitNotFound, "session list"},
		{api.UnknownRound("s", 7), exitNotFound, "fedmesh rounds"},
		{api.WrongLayout("w", os.ErrInvalid), exitRefused, "model diff"},
		{api.UnreadableModel(os.ErrInvalid), exitRefused, "model inspect"},
		{api.InvalidValue("w", 1, "NaN", ""), exitRefused, "NaN"},
		{api.SessionConflict("s", "x"), exitRefused, "another name"},
		{api.ClosedSession("s", api.SessionClosed), exitRefused, "session create"},
		{api.UpdateConflict("c", "i", "d", "x"), exitRefused, "--id"},
		{api.TooLarge(5), exitRefused, "smaller"},
		{api.NewProblem(api.TypeUnauthorized, 401, "Unauthorized", "no token"), exitDenied, "token"},
		{api.NewProblem(api.TypeForbidden, 403, "Forbidden", "a reader may not push"), exitDenied, "role"},
		{api.NewProblem("x", 429, "Too many", "slow down"), exitUnavailable, "wait"},
		{api.NotReady(os.ErrInvalid), exitUnavailable, "catch up"},
		{api.StorageFull("full", 0), exitUnavailable, "--max-disk"},
		{api.NewProblem(api.TypeInternal, 500, "Internal error", ""), exitFailure, "logs"},
	} {
		p.fail(c.problem)
		checkError(t, sh.run(t, "session", "show", "s"), c.code, "next: ", c.next)
	}
}

func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := ln.Addr().String() // takes connections and says nothing
	defer ln.Close()
	run := func(args ...string) result {
		return shell{env: map[string]string{"FEDMESH_TRIES": "1"}}.run(t, append([]string{"status"}, args...)...)
	}
	checkError(t, run("--peers", "http://127.0.0.1:1"), exitUnavailable, "refused", "nothing listens there")
	checkError(t, run("--peers", "http://"+silent, "--timeout", "50ms"), exitTimeout, "gave up after 50ms", "--timeout")

	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	secure := httptest.NewUnstartedServer(hello)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewServer(hello)
	defer plain.Close()
	checkError(t, run("--peers", secure.URL), exitDenied, "certificate", "authority")
	checkError(t, run("--peers", "http://"+secure.Listener.Addr().String()), exitRefused, "https://")
	checkError(t, run("--peers", "https://"+plain.Listener.Addr().String()), exitUnavailable, "speaks no TLS")
}
