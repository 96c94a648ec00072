//go:build unix

package main_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// TestTokensProcess runs three real peers with tokens: they take each other in, no one else gets to the peer plane, and a token that is taken from the file is
// refused soon after.
func TestTokensProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := t.ArtifactDir()
	binary, err := process.Build(ctx, "../..", dir, buildArgs()...)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "tokens")
	tokens := map[string]string{"": ""}
	files := map[string]string{}
	for _, args := range []string{"combiner --combiner c1 --session s", "reader", "operator", "peer"} {
		role, _, _ := strings.Cut(args, " ")
		out, err := exec.CommandContext(ctx, binary, append([]string{"token", "new", "--name", role, "--file", file, "--role"}, strings.Fields(args)...)...).Output()
		if err != nil {
			t.Fatal(err)
		}
		tokens[role] = strings.TrimSpace(string(out))
		files[role] = filepath.Join(dir, role+".token")
		if err := os.WriteFile(files[role], out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cluster, err := process.NewCluster(process.Options{
		Binary: binary, N: 3, Dir: dir, ReadyTimeout: 2 * time.Minute, ExtraArgs: []string{"--tokens-file", file, "--peer-token-file", files["peer"], "--log-level", "debug"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
		for _, name := range cluster.Names() {
			b, err := os.ReadFile(cluster.LogFile(name))
			if err != nil {
				t.Error(err)
			}
			for role, token := range tokens {
				if token != "" && strings.Contains(string(b), token) {
					t.Errorf("the log of %s has the token of role %s", name, role)
				}
			}
		}
	})
	if err := errors.Join(cluster.Start(ctx), cluster.Together(ctx, tokens["reader"])); err != nil {
		t.Fatal(err)
	}

	asRole := func(role string) *api.Client {
		c, err := api.NewClient(cluster.URLs(), api.ClientOptions{Token: tokens[role]})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	layout, err := smallLayout()
	if err != nil {
		t.Fatal(err)
	}
	config := api.DefaultSessionConfig()
	config.Copies, config.TargetCombiners = 3, 5
	seed, _ := drawUpdate(1, "nobody", "seed")
	if _, _, err := asRole("combiner").CreateSession(ctx, "s", config, api.Bytes(seed.encode(layout))); !api.TypeForbidden.Is(err) {
		t.Errorf("a combiner opened a session: %v", err)
	}
	if _, _, err := asRole("operator").CreateSession(ctx, "s", config, api.Bytes(seed.encode(layout))); err != nil {
		t.Fatal(err)
	}
	// Three copies: all three let each other in.
	u, weight := drawUpdate(1, "c1", "1")
	push := func(combiner, id string) (api.Receipt, error) {
		return asRole("combiner").Push(ctx, "s", api.PushOptions{Combiner: combiner, ID: id, Weight: weight}, api.Bytes(u.encode(layout)))
	}
	r, err := push("c1", "1")
	if err != nil || len(r.Copies) != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	// Rounds tell everybody the digests of updates; the updates themselves are nobody's to read.
	for _, role := range []string{"combiner", "reader", "operator"} {
		if status := ask(ctx, t, http.MethodGet, cluster.URLs()[0]+"/v1/sessions/s/models/"+r.Digest, tokens[role]); status != http.StatusNotFound {
			t.Errorf("an update is read as %s: %d", role, status)
		}
	}
	if _, err := push("c2", "1"); !api.TypeForbidden.Is(err) {
		t.Errorf("a token bound to c1 pushed as c2: %v", err)
	}
	// A resumable upload goes its own way through the interface, and to the next peer.
	up, err := api.NewClient(cluster.URLs(), api.ClientOptions{Token: tokens["combiner"], ResumeFrom: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if r, err := up.Push(ctx, "s", api.PushOptions{Combiner: "c1", ID: "2", Weight: weight}, api.Bytes(u.encode(layout))); err != nil || len(r.Copies) != 3 {
		t.Errorf("by upload: %+v, %v", r, err)
	}

	t.Run("peer plane", func(t *testing.T) {
		key := strings.Repeat("0", 64)
		for _, route := range []string{
			"POST entries", "GET snapshot", "PUT updates/" + key + "/c", "DELETE uploads/" + key[:32], "POST sessions/" + key, "GET blobs/" + r.Digest, "POST sums/" + key,
			"GET keys", "POST keys", "GET nothing", "HEAD blobs/" + r.Digest, "OPTIONS entries", "GET ", "GET blobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "GET blobs/..%00", "PUT updates/%2e%2e/%2e%2e",
			"DELETE uploads/%2e%2e%2fx",
		} {
			method, path, _ := strings.Cut(route, " ")
			for _, role := range []string{"", "combiner", "reader", "operator", "peer"} {
				status := ask(ctx, t, method, cluster.URLs()[0]+"/v1/peer/"+path, tokens[role])
				switch {
				case role == "" && status != 401, slices.Contains([]string{"combiner", "reader", "operator"}, role) && status != 403:
					t.Errorf("%s as %q: %d", route, role, status)
				case role == "peer" && (status == 401 || status == 403 || status == 500):
					t.Errorf("%s as a peer: %d", route, status)
				}
			}
		}
	})

	// The token goes from the file; what replaces the file is whole at any time.
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\n")
	if err := errors.Join(os.WriteFile(file+".new", []byte(rest), 0o600), os.Rename(file+".new", file)); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, url := range cluster.URLs() {
		for ask(ctx, t, http.MethodGet, url+"/v1/sessions/s", tokens["combiner"]) != http.StatusUnauthorized {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatal("the token is still let in")
			}
		}
		if status := ask(ctx, t, http.MethodGet, url+"/v1/sessions/s", tokens["reader"]); status != http.StatusOK {
			t.Errorf("the other token: %d", status)
		}
	}
}

func ask(ctx context.Context, t *testing.T, method, url, token string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Fedmesh-Mesh", fmt.Sprintf("%s/%d", "test", 1))
	r.Close = true
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	_ = resp.Body.Close()
	return resp.StatusCode
}
