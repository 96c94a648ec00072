package main

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/gossip"
)

// keyed is a fake peer that keeps keys.
type keyed struct {
	*peer
	ring  api.KeyRing
	fail  error
	asked []api.KeyChange
}

func (k *keyed) Keys(context.Context) (api.KeyRing, error) { return k.ring, k.fail }

func (k *keyed) ChangeKeys(_ context.Context, change api.KeyChange) (api.KeyRing, error) {
	k.asked = append(k.asked, change)
	return k.ring, k.fail
}

func serveKeys(t *testing.T) (*keyed, shell) {
	t.Helper()
	p, _ := serve(t)
	k := &keyed{peer: p, ring: api.KeyRing{
		Complete: true,
		Keys:     []api.KeyInfo{{Fingerprint: "0011223344556677", Peers: []string{"a", "b"}, Primary: []string{"b"}}, {Fingerprint: "8899aabbccddeeff", Peers: []string{"a"}, Primary: []string{"a"}}},
		Peers:    []api.KeyPeer{{Name: "a", Result: api.KeyOK}, {Name: "b", Result: api.KeyOK}},
	}}
	s := api.NewServer(k, api.ServerOptions{})
	hs := httptest.NewServer(s)
	t.Cleanup(func() {
		s.Close()
		hs.Close()
	})
	return k, shell{env: map[string]string{"FEDMESH_PEERS": hs.URL, "FEDMESH_TRIES": "1"}}
}

func TestKeys(t *testing.T) {
	k, sh := serveKeys(t)
	const table = "KEY               AT   PEERS\n0011223344556677  2/2  a b*\n8899aabbccddeeff  1/2  a*\n"
	if out := sh.ok(t, "keys", "list"); out != table {
		t.Errorf("%q", out)
	}
	if ring := fromJSON[api.KeyRing](t, sh.ok(t, "keys", "list", "--json")); len(ring.Keys) != 2 || !ring.Complete {
		t.Errorf("%+v", ring)
	}
	key := gossip.NewKey()
	if out := sh.ok(t, "keys", "install", key.Text()); out != table {
		t.Errorf("%q", out)
	}
	sh.stdin = key.Text() + "\n"
	sh.ok(t, "keys", "install", "-")
	sh.ok(t, "keys", "use", "0011223344556677")
	sh.ok(t, "keys", "remove", "8899aabbccddeeff")
	want := []api.KeyChange{
		{Operation: "install", Key: key.Text()},
		{Operation: "install", Key: key.Text()},
		{Operation: "use", Key: "0011223344556677"},
		{Operation: "remove", Key: "8899aabbccddeeff"},
	}
	if len(k.asked) != len(want) {
		t.Fatalf("%+v", k.asked)
	}
	for i, w := range want {
		if k.asked[i] != w {
			t.Errorf("asked for %+v, not %+v", k.asked[i], w)
		}
	}

	// Not everywhere is not done, and what was done is shown.
	k.ring.Complete = false
	k.ring.Peers = append(k.ring.Peers, api.KeyPeer{Name: "c", Result: api.KeyNotReached, Detail: "it is taken for dead"})
	r := sh.run(t, "keys", "use", "0011223344556677")
	if r.code != exitUnavailable || !strings.Contains(r.out, "2/3") || !strings.Contains(r.out, "c  not reached  it is taken for dead") || !strings.Contains(r.err, "use is not done at c") || !strings.Contains(r.err, "next: see to these peers") {
		t.Errorf("%+v", r)
	}
	if r := sh.run(t, "keys", "list"); r.code != exitOK || !strings.Contains(r.out, "not reached") {
		t.Errorf("%+v", r)
	}
	for _, c := range []struct {
		err  error
		code int
		says []string
	}{
		{api.NotEncrypted(), exitRefused, []string{"has no keys", "next: fedmesh keygen"}},
		{api.UnknownKey("0011223344556677"), exitNotFound, []string{"0011223344556677", "keys list"}},
		{api.PrimaryKey("0011223344556677", []string{"b"}), exitRefused, []string{"peer b encrypts", "keys list"}},
		{api.KeyMissing("0011223344556677", []string{"b", "c"}), exitRefused, []string{"not installed at b, c", "keys list"}},
	} {
		k.fail = c.err
		checkError(t, sh.run(t, "keys", "use", "0011223344556677"), c.code, c.says...)
	}
	checkError(t, sh.run(t, "keys", "install"), exitUsage)
	sh.stdin = " \n"
	checkError(t, sh.run(t, "keys", "install", "-"), exitUsage, "no key")
	_, plain := serve(t)
	checkError(t, plain.run(t, "keys", "list"), exitRefused, "has no keys")
}

func TestKeygen(t *testing.T) {
	first, second := shell{}.ok(t, "keygen"), shell{}.ok(t, "keygen")
	key, err := gossip.ParseKey(first)
	if err != nil || len(key) != 32 || first == second || strings.Count(first, "\n") != 1 {
		t.Errorf("%q, %q, %v", first, second, err)
	}
	path := filepath.Join(t.TempDir(), "keyring")
	out := shell{}.ok(t, "keygen", "--out", path)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = gossip.ParseKey(string(b)); err != nil || !strings.Contains(out, key.Fingerprint()) || strings.Contains(out, key.Text()) {
		t.Errorf("%q, %v", out, err)
	}
	if st, _ := os.Stat(path); runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	checkError(t, shell{}.run(t, "keygen", "--out", path), exitFailure, "next: name a file")
	if again, _ := os.ReadFile(path); string(again) != string(b) {
		t.Error("a key was overwritten")
	}
}
