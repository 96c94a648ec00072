package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestHealth(t *testing.T) {
	p, sh := serve(t)
	url := sh.env["FEDMESH_PEERS"]
	sh.env["FEDMESH_TIMEOUT"] = "1m"
	if out := sh.ok(t, "health", url); out != "ok\n" {
		t.Errorf("printed %q", out)
	}
	sh.ok(t, "health", "--ready", url)
	p.fail(errInternal) // sessions fail, which is not what is asked
	sh.ok(t, "health", url+"/")

	// Any certificate will do; a peer that is not ready runs none the less.
	sick := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer sick.Close()
	sh.ok(t, "health", sick.URL)
	checkError(t, sh.run(t, "health", "--ready", sick.URL), exitUnavailable, "/readyz", "503")
	sick.Close()
	checkError(t, sh.run(t, "health", sick.URL), exitUnavailable, "refused")
	for _, bad := range []string{"127.0.0.1:8080", "ftp://x", "http://"} {
		checkError(t, sh.run(t, "health", bad), exitUsage, bad)
	}
}
