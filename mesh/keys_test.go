package mesh_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/gossip"
)

// encrypted gives every peer of a cluster a file with the keys.
func (c *cluster) encrypted(keys ...gossip.Key) {
	c.t.Helper()
	tune := c.tune
	c.tune = func(cfg *mesh.Config) {
		if tune != nil {
			tune(cfg)
		}
		path := filepath.Join(c.dir, cfg.Name+".keys")
		if _, err := os.Stat(path); err != nil {
			var text string
			for _, k := range keys {
				text += k.Text() + "\n"
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				c.t.Fatal(err)
			}
		}
		var err error
		if cfg.Keyring, err = gossip.OpenKeyring(path, zerolog.Nop()); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) change(at, operation, key string) (api.KeyRing, error) {
	return c.ask(at).ChangeKeys(c.t.Context(), api.KeyChange{Operation: operation, Key: key})
}

// must changes a key, at all.
func (c *cluster) must(at, operation, key string) api.KeyRing {
	c.t.Helper()
	ring, err := c.change(at, operation, key)
	if err != nil || !ring.Complete {
		c.t.Fatalf("%s: %+v, %v", operation, ring, err)
	}
	return ring
}

// holds writes who has which key, as in "old:a*,b new:a".
func holds(ring api.KeyRing, names map[string]string) string {
	var out []string
	for _, k := range ring.Keys {
		var at []string
		for _, p := range k.Peers {
			if slices.Contains(k.Primary, p) {
				p += "*"
			}
			at = append(at, p)
		}
		name := names[k.Fingerprint]
		if name == "" {
			name = k.Fingerprint
		}
		out = append(out, name+":"+strings.Join(at, ","))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// A key is exchanged while a mesh trains, each step at another peer, and again by a peer that restarted.
func TestRotateKeys(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		old, fresh := gossip.NewKey(), gossip.NewKey()
		names := map[string]string{old.Fingerprint(): "old", fresh.Fingerprint(): "new"}
		c.encrypted(old)
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		round := 0
		work := func() {
			t.Helper()
			round++
			for i, at := range []string{"a", "c"} {
				if r := c.push(at, "s", weighted(combiner(i), 1), file(float32(round+i))); len(r.Copies) != 2 {
					t.Errorf("copies %v", r.Copies)
				}
			}
			c.final("s", round)
			for _, name := range c.running() {
				if seen := c.alive(name); len(seen) != 3 {
					t.Errorf("%s sees %v", name, seen)
				}
			}
		}
		see := func(at, want string) {
			t.Helper()
			ring, err := c.ask(at).Keys(t.Context())
			if err != nil || !ring.Complete || holds(ring, names) != want {
				t.Errorf("at %s: %q, %+v, %v; want %q", at, holds(ring, names), ring.Peers, err, want)
			}
			for _, p := range ring.Peers {
				if p.Result != api.KeyOK {
					t.Errorf("%+v", p)
				}
			}
		}
		see("a", "old:a*,b*,c*")
		work()
		c.must("a", api.KeyInstall, fresh.Text())
		see("b", "new:a,b,c old:a*,b*,c*")
		work()
		c.must("b", api.KeyUse, fresh.Fingerprint())
		see("c", "new:a*,b*,c* old:a,b,c")
		work()
		c.kill("b")
		c.up("b")
		c.must("c", api.KeyRemove, old.Text())
		see("a", "new:a*,b*,c*")
		work()
		c.kill("a")
		c.up("a")
		see("a", "new:a*,b*,c*")
		work()
		c.counted("s", c.agree("s"))
		for _, name := range c.running() {
			b, err := os.ReadFile(filepath.Join(c.dir, name+".keys"))
			if err != nil || string(b) != fresh.Text()+"\n" {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
	})
}

// What would cut a peer off is refused, and nothing has changed; who cannot be reached, or cannot do it, is named.
func TestKeyFaults(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		one, two, three := gossip.NewKey(), gossip.NewKey(), gossip.NewKey()
		names := map[string]string{one.Fingerprint(): "1", two.Fingerprint(): "2", three.Fingerprint(): "3"}
		c.encrypted(one)
		c.up("a", "b", "c")
		refused := func(want api.ProblemType, operation, key string, says ...string) {
			t.Helper()
			ring, err := c.change("a", operation, key)
			if !want.Is(err) {
				t.Errorf("%s: %+v, %v; want %s", operation, ring, err, want)
				return
			}
			for _, s := range says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%s: %v does not say %q", operation, err, s)
				}
			}
			if strings.Contains(err.Error(), key) && len(key) > 16 {
				t.Errorf("%s: the key is in the error: %v", operation, err)
			}
		}
		refused(api.TypePrimaryKey, api.KeyRemove, one.Text(), "peers a, b, c encrypt")
		refused(api.TypeUnknownKey, api.KeyUse, two.Text(), two.Fingerprint())
		refused(api.TypeUnknownKey, api.KeyRemove, two.Fingerprint())
		refused(api.TypeInvalidRequest, api.KeyInstall, two.Fingerprint())
		refused(api.TypeInvalidRequest, api.KeyInstall, "AAAA")
		refused(api.TypeInvalidRequest, api.KeyUse, "no key of any kind")
		refused(api.TypeInvalidRequest, "burn", one.Text())

		// c is dead: the others change, and the answer says that it has not.
		c.kill("c")
		c.eventually(time.Minute, func() error {
			if seen := c.alive("a"); len(seen) != 2 {
				return fmt.Errorf("a sees %v", seen)
			}
			return nil
		})
		ring, err := c.change("a", api.KeyInstall, two.Text())
		if err != nil || ring.Complete || holds(ring, names) != "1:a*,b* 2:a,b" || len(ring.Peers) != 3 || ring.Peers[2].Result != api.KeyNotReached || !strings.Contains(ring.Peers[2].Detail, "dead") {
			t.Errorf("%q %+v, %v", holds(ring, names), ring, err)
		}
		c.up("c")
		refused(api.TypeKeyMissing, api.KeyUse, two.Text(), "at c;")
		if ring := c.must("b", api.KeyInstall, two.Text()); holds(ring, names) != "1:a*,b*,c* 2:a,b,c" { // again, for c
			t.Error(holds(ring, names))
		}

		// b cannot write its file.
		if err := os.Remove(filepath.Join(c.dir, "b.keys")); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(c.dir, "b.keys", "in", "the way"), 0o700); err != nil {
			t.Fatal(err)
		}
		ring, err = c.change("c", api.KeyInstall, three.Text())
		if err != nil || ring.Complete || holds(ring, names) != "1:a*,b*,c* 2:a,b,c 3:a,c" || ring.Peers[1].Result != api.KeyFailed || !strings.Contains(ring.Peers[1].Detail, "could not be rewritten") {
			t.Errorf("%q %+v, %v", holds(ring, names), ring, err)
		}
	})
}

// Without keys there is nothing to change.
func TestNoKeys(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a")
		if _, err := c.ask("a").Keys(t.Context()); !api.TypeNotEncrypted.Is(err) || !strings.Contains(err.Error(), "--keyring-file") {
			t.Error(err)
		}
		if _, err := c.change("a", api.KeyInstall, gossip.NewKey().Text()); !api.TypeNotEncrypted.Is(err) {
			t.Error(err)
		}
		status, body := c.rawKeys(t, http.MethodGet, nil)
		if status != http.StatusConflict || !strings.Contains(body, "not-encrypted") {
			t.Error(status, body)
		}
	})
}

// rawKeys asks peer a on the peer plane.
func (c *cluster) rawKeys(t *testing.T, method string, body []byte) (int, string) {
	t.Helper()
	transport := &http.Transport{DialContext: c.dialer("client")}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequest(method, "http://a:80/v1/peer/keys", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Fedmesh-Mesh", "fedmesh/1")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, readAll(t, resp.Body)
}

// An order about keys is taken only from who has a key, for whom it was meant, and once.
func TestKeyOrders(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		own, extra := gossip.NewKey(), gossip.NewKey()
		c.encrypted(own)
		c.up("a", "b")
		logs := map[string][]byte{}
		for _, p := range c.nodes["a"].peer.Mesh().Peers {
			id, err := hex.DecodeString(p.Log)
			if err != nil {
				t.Fatal(err)
			}
			logs[p.Name] = id
		}
		ask := func() []byte {
			status, body := c.rawKeys(t, http.MethodGet, nil)
			var a struct {
				Keys      []string
				Challenge []byte
			}
			if err := json.Unmarshal([]byte(body), &a); err != nil || status != http.StatusOK || !slices.Equal(a.Keys, []string{own.Fingerprint()}) || strings.Contains(body, own.Text()) {
				t.Fatal(status, body, err)
			}
			return a.Challenge
		}
		order := func(key gossip.Key, to string, challenge []byte) []byte {
			ring, err := gossip.NewKeyring(key)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := json.Marshal(map[string]string{"operation": "install", "fingerprint": extra.Fingerprint(), "key": extra.Text()})
			context := append(append([]byte("fedmesh key order\x00fedmesh/1\x00"), logs[to]...), challenge...)
			sealed, err := ring.Seal(b, context)
			if err != nil {
				t.Fatal(err)
			}
			return append(bytes.Clone(challenge), sealed...)
		}
		has := func() bool {
			ring, err := c.nodes["a"].peer.Keys(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return len(ring.Keys) > 1
		}
		late := ask()
		time.Sleep(2 * time.Minute)
		good := order(own, "a", ask())
		altered := bytes.Clone(good)
		altered[len(altered)-1] ^= 1
		for name, b := range map[string][]byte{
			"nothing": nil, "noise": bytes.Repeat([]byte("x"), 100), "another key": order(gossip.NewKey(), "a", ask()), "for b": order(own, "b", ask()),
			"no challenge": order(own, "a", make([]byte, 16)), "too late": order(own, "a", late), "altered": altered, "too long": make([]byte, 5000),
		} {
			if status, body := c.rawKeys(t, http.MethodPost, b); status/100 != 4 || has() {
				t.Errorf("%s: %d %s", name, status, body)
			}
		}
		if status, body := c.rawKeys(t, http.MethodPost, good); status != http.StatusNoContent || !has() {
			t.Errorf("a good one: %d %s", status, body)
		}
		if _, err := c.change("a", api.KeyRemove, extra.Fingerprint()); err != nil || has() {
			t.Error(err)
		}
		if status, body := c.rawKeys(t, http.MethodPost, good); status != http.StatusForbidden || !strings.Contains(body, "given before") || has() {
			t.Errorf("again: %d %s", status, body)
		}
	})
}
