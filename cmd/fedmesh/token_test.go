package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/access"
	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestTokenNew(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tokens")
	// Printed once; the line apart from it.
	r := shell{}.run(t, "token", "new", "--role", "reader", "--name", "grafana")
	token := strings.TrimSpace(r.out)
	h, err := access.HashOf(token)
	if r.code != exitOK || err != nil || strings.Contains(r.err, token) || !strings.Contains(r.err, `{"name":"grafana","role":"reader","sha256":"`+h.String()+`"}`) {
		t.Fatalf("%+v, %v", r, err)
	}
	// Appended, also to a file whose last line was not ended by hand.
	if err := os.WriteFile(file, []byte("# ours\n"+strings.Split(strings.TrimSpace(r.err), "\n")[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	out := shell{}.ok(t, "token", "new", "--role", "combiner", "--combiner", "c1", "--session", "digits", "--session", "s2", "--expires", "90d", "--name", "h1", "--file", file)
	made := fromJSON[madeToken](t, shell{}.ok(t, "token", "new", "--role", "peer", "--file", file, "--json"))
	if made.File != file || !strings.Contains(made.Line, `"role":"peer"`) {
		t.Errorf("%+v", made)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	set, err := access.Parse(b)
	if err != nil || set.Len() != 3 || strings.Contains(string(b), strings.TrimSpace(out)) || strings.Contains(string(b), made.Token) {
		t.Fatalf("%v in %s", err, b)
	}
	list := fromJSON[[]tokenInfo](t, shell{}.ok(t, "token", "list", file, "--json"))
	if len(list) != 3 || list[1].Name != "h1" || list[1].Combiner != "c1" || strings.Join(list[1].Sessions, " ") != "digits s2" || list[1].Expires == nil || list[1].Expired {
		t.Errorf("%+v", list)
	}
	text := shell{}.ok(t, "token", "list", file)
	checkWidth(t, text[:strings.Index(text, "\n")+1])
	for _, want := range []string{"reader   grafana, for ever\n", "combiner h1, until ", ", combiner c1, sessions digits, s2\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the list has no %q: %s", want, text)
		}
	}
	st, err := os.Stat(file)
	if err != nil || st.Mode().Perm()&0o077 != 0 {
		t.Errorf("others may read the file: %v, %v", st.Mode(), err)
	}
}

func TestTokenNewRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	shell{}.ok(t, "token", "new", "--role", "reader", "--name", "a", "--file", file)
	for args, says := range map[string]string{
		"":                                      "role",
		"--role admin":                          "combiner, reader, operator, peer",
		"--role reader --combiner c":            "only a combiner's",
		"--role combiner --combiner a/b":        "is no name",
		"--role combiner --session ../s":        "is no name",
		"--role reader --name a --file " + file: "already",
		"--role reader --expires soon":          "as 90d or 12h",
		"--role reader --expires -1h":           "as 90d or 12h",
		"--role reader --expires 0d":            "as 90d or 12h",
	} {
		checkError(t, shell{}.run(t, append([]string{"token", "new"}, strings.Fields(args)...)...), exitUsage, says)
	}
	if err := os.WriteFile(file, []byte("broken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	checkError(t, shell{}.run(t, "token", "new", "--role", "reader", "--file", file), exitFailure, "line 1: ", "nothing was added")
	if b, _ := os.ReadFile(file); string(b) != "broken\n" {
		t.Errorf("it was added to: %s", b)
	}
	checkError(t, shell{}.run(t, "token", "list", file), exitFailure, "line 1: ")
	checkError(t, shell{}.run(t, "token", "list", file+"none"), exitNotFound, "none")
}

// TestCommandsShowTheirToken: from the file or the environment, and each says what to do without.
func TestCommandsShowTheirToken(t *testing.T) {
	dir := t.TempDir()
	token := access.NewToken()
	h, err := access.HashOf(token)
	if err != nil {
		t.Fatal(err)
	}
	line, err := access.Line(access.Grant{Name: "op", Role: access.Operator}, h)
	if err != nil {
		t.Fatal(err)
	}
	set, err := access.Parse([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	p, sh := serve(t)
	s := api.NewServer(p, api.ServerOptions{Tokens: func() *access.Set { return set }})
	hs := httptest.NewServer(s)
	defer hs.Close()
	defer s.Close()
	sh.env["FEDMESH_PEERS"] = hs.URL
	checkError(t, sh.run(t, "session", "list"), exitDenied, "Unauthorized", "--token-file", "FEDMESH_TOKEN")
	good := filepath.Join(dir, "token")
	if err := os.WriteFile(good, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sh.ok(t, "session", "list", "--token-file", good)
	sh.env["FEDMESH_TOKEN_FILE"] = good
	sh.ok(t, "session", "list")
	delete(sh.env, "FEDMESH_TOKEN_FILE")
	sh.env["FEDMESH_TOKEN"] = token
	sh.ok(t, "session", "list")
	sh.env["FEDMESH_TOKEN"] = access.NewToken()
	r := sh.run(t, "session", "list")
	checkError(t, r, exitDenied, "does not know the token")
	if strings.Contains(r.err, sh.env["FEDMESH_TOKEN"]) {
		t.Error("the error has the token")
	}
	sh.env["FEDMESH_TOKEN"] = "hunter2"
	if r := sh.run(t, "session", "list"); r.code != exitUsage || strings.Contains(r.err, "hunter2") {
		t.Errorf("no token at all: %+v", r)
	}
	checkError(t, sh.run(t, "session", "list", "--token-file", filepath.Join(dir, "none")), exitNotFound, "--token-file", "none")
}

// TestNodeAccessFlags: all that is wrong with them is told before a peer runs.
func TestNodeAccessFlags(t *testing.T) {
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	if err := os.WriteFile(tokens, []byte("\n{\"name\":1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := []string{"node", "--data-dir", dir, "--name", "a"}
	checkError(t, shell{}.run(t, append(good, "--tokens-file", tokens, "--peer-token-file", tokens, "--max-body", "0", "--max-uploads", "-1", "--max-token-uploads", "-2", "--max-requests", "-3")...),
		exitUsage, "--tokens-file: ", "line 2: ", "--peer-token-file: ", "not a token", "--max-body", "--max-uploads", "--max-token-uploads", "--max-requests")
	f := accessFlags{maxBody: "1KB", maxUploads: 3, tokenUploads: 2, maxRequests: 1.5}
	var o api.ServerOptions
	if err := f.serverOptions(&o); err != nil || o.MaxBody != 1000 || o.Limits.Uploads != 3 || o.Limits.UploadsPerToken != 2 || o.Limits.Requests != 1.5 || o.Tokens != nil {
		t.Errorf("%+v, %v", o, err)
	}
	if fn, err := f.peerToken(o.Logger); fn != nil || err != nil {
		t.Errorf("a token from nowhere: %v", err)
	}
}
