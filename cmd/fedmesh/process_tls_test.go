//go:build unix

package main_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/certs"
	"github.com/fedmesh/fedmesh/mesh/certs/certtest"
	"github.com/fedmesh/fedmesh/mesh/gossip"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// secureMesh is real peers with certificates and keys.
type secureMesh struct {
	t       *testing.T
	dir     string
	binary  string
	cluster *process.Cluster
	client  *certs.Store
	files   certs.Files // of the client's
}

func authority(t *testing.T, name string) *certtest.CA {
	t.Helper()
	ca, err := certtest.NewCA(name)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// issue writes a certificate by from, and the authorities trusted.
func (m *secureMesh) issue(name string, from *certtest.CA, what certtest.Cert, trusted ...*certtest.CA) certs.Files {
	m.t.Helper()
	what.Name = name
	pair, err := from.Issue(what)
	if err != nil {
		m.t.Fatal(err)
	}
	pair.CA = nil
	for _, ca := range trusted {
		pair.CA = append(pair.CA, ca.PEM...)
	}
	f, err := pair.Write(m.dir, name)
	if err != nil {
		m.t.Fatal(err)
	}
	return f
}

// run runs the command as an operator and returns what it prints.
func (m *secureMesh) run(ctx context.Context, stdin string, args ...string) string {
	m.t.Helper()
	cmd := exec.CommandContext(ctx, m.binary, append(args, "--ca", m.files.CA, "--cert", m.files.Cert, "--key", m.files.Key, "--peers", strings.TrimPrefix(m.cluster.URLs()[0], "https://"))...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatalf("fedmesh %s: %v: %s%s", strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

// takenOver waits until every peer shows the certificate that was issued to it last, and trusts those authorities and no others. It may have read its files
// more than once for that: they are written one after the other.
func (m *secureMesh) takenOver(ctx context.Context, issued map[string]certs.Files, trusted map[*certtest.CA]bool) {
	m.t.Helper()
	callers := map[*http.Client]bool{}
	for ca, want := range trusted {
		f := m.issue("caller", ca, certtest.Cert{}, ca)
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			m.t.Fatal(err)
		}
		callers[&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			InsecureSkipVerify:   true, // it is compared with what was issued
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
		}}}] = want
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for _, p := range m.cluster.Peers() {
		shown, err := os.ReadFile(issued[p.Name].Cert)
		if err != nil {
			m.t.Fatal(err)
		}
		block, _ := pem.Decode(shown)
		all := func() bool {
			for caller, want := range callers {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/v1/peer/keys", nil)
				if err != nil {
					m.t.Fatal(err)
				}
				resp, err := caller.Do(req)
				if err != nil {
					m.t.Fatal(err)
				}
				_ = resp.Body.Close()
				// A peer of an authority that is trusted gets further, and is told that it named no mesh.
				if !bytes.Equal(resp.TLS.PeerCertificates[0].Raw, block.Bytes) || (resp.StatusCode == http.StatusMisdirectedRequest) != want {
					return false
				}
			}
			return true
		}
		for !all() {
			select {
			case <-tick.C:
			case <-ctx.Done():
				m.t.Fatalf("%s does not take over what was issued to it", p.Name)
			}
		}
	}
}

// TestRotationOfEverything gives three real peers certificates of another authority and another key for the gossip while combiners push all the time, each at
// its own peer: no push fails, none is lost, and what was before is worth nothing afterwards.
func TestRotationOfEverything(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	m := &secureMesh{t: t, dir: t.ArtifactDir()}
	old, next := authority(t, "old"), authority(t, "next")
	oldKey, newKey := gossip.NewKey(), gossip.NewKey()
	m.files = m.issue("client", next, certtest.Cert{ClientOnly: true}, old, next)
	var err error
	if m.client, err = certs.Open(m.files, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	if m.binary, err = process.Build(ctx, "../..", m.dir, buildArgs()...); err != nil {
		t.Fatal(err)
	}
	m.cluster, err = process.NewCluster(process.Options{
		Binary: m.binary, N: 3, Dir: m.dir, TLS: m.client.Client(), ReadyTimeout: 2 * time.Minute,
		NodeArgs: func(name string) []string {
			f := m.issue(name, old, certtest.Cert{}, old)
			keyring := filepath.Join(m.dir, name+".keyring")
			if err := os.WriteFile(keyring, []byte(oldKey.Text()+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			return []string{"--tls-cert", f.Cert, "--tls-key", f.Key, "--tls-ca", f.CA, "--keyring-file", keyring}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.cluster.Close(); err != nil {
			t.Error(err)
		}
		checkLogs(t, m.cluster)
	})
	if err := errors.Join(m.cluster.Start(ctx), m.cluster.Together(ctx, "")); err != nil {
		t.Fatal(err)
	}
	names := m.cluster.Names()

	client, err := api.NewClient(m.cluster.URLs(), api.ClientOptions{TLS: m.client.Client()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	layout, err := smallLayout()
	if err != nil {
		t.Fatal(err)
	}
	config := api.DefaultSessionConfig()
	config.TargetCombiners = 3
	seed, _ := drawUpdate(1, "nobody", "seed")
	info, _, err := client.CreateSession(ctx, "s", config, api.Bytes(seed.encode(layout)))
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu       sync.Mutex
		receipts []api.Receipt
		wg       sync.WaitGroup
	)
	pushing, stop := context.WithCancel(ctx)
	defer wg.Wait()
	defer stop()
	for i, url := range m.cluster.URLs() {
		wg.Go(func() {
			c, err := api.NewClient([]string{url}, api.ClientOptions{TLS: m.client.Client(), Passes: 1})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-tick.C:
				case <-pushing.Done():
					return
				}
				u, weight := drawUpdate(1, names[i], strconv.Itoa(n))
				r, err := c.Push(ctx, info.Key, api.PushOptions{Combiner: names[i], ID: strconv.Itoa(n), Weight: weight}, api.Bytes(u.encode(layout)))
				if err != nil {
					t.Errorf("a push at %s: %v", names[i], err)
					return
				}
				mu.Lock()
				receipts = append(receipts, r)
				mu.Unlock()
			}
		})
	}
	pushed := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(receipts)
	}
	steps := []struct {
		what string
		keys []string
		cert *certtest.CA
		ca   []*certtest.CA
	}{
		{"both authorities", []string{"install", "-"}, old, []*certtest.CA{old, next}},
		{"new certificates", []string{"use", newKey.Fingerprint()}, next, []*certtest.CA{old, next}},
		{"the new authority alone", []string{"remove", oldKey.Fingerprint()}, next, []*certtest.CA{next}},
	}
	for _, s := range steps {
		before := pushed()
		issued := map[string]certs.Files{}
		for _, name := range names {
			issued[name] = m.issue(name, s.cert, certtest.Cert{}, s.ca...)
		}
		m.takenOver(ctx, issued, map[*certtest.CA]bool{old: slices.Contains(s.ca, old), next: slices.Contains(s.ca, next)})
		m.run(ctx, newKey.Text(), append([]string{"keys"}, s.keys...)...)
		t.Logf("%s, and the key: %s; %d pushes meanwhile", s.what, s.keys[0], pushed()-before)
	}
	var ring api.KeyRing
	if err := json.Unmarshal([]byte(m.run(ctx, "", "keys", "list", "--json")), &ring); err != nil {
		t.Fatal(err)
	}
	if len(ring.Keys) != 1 || ring.Keys[0].Fingerprint != newKey.Fingerprint() || len(ring.Keys[0].Primary) != 3 || !ring.Complete {
		t.Errorf("keys: %+v", ring)
	}
	t.Logf("keys list:\n%s", m.run(ctx, "", "keys", "list"))

	// A peer that restarts comes back with what it has now.
	stop()
	wg.Wait()
	if err := m.cluster.Kill("b"); err != nil {
		t.Fatal(err)
	}
	if err := m.cluster.Restart(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	m.strangers(ctx, old, next)
	if _, err := client.CloseSession(ctx, info.Key); err != nil {
		t.Fatal(err)
	}
	verdict, err := process.Check(ctx, process.CheckOptions{Session: info.Key, Peers: m.cluster.Peers(), Receipts: receipts, TLS: m.client.Client()})
	if err != nil {
		t.Fatal(err)
	}
	if err := verdict.Err(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d updates acknowledged, each of them in one round, the same at all peers", verdict.Acknowledged)
}

// strangers try the peer plane with what is not good for it, or not any more.
func (m *secureMesh) strangers(ctx context.Context, old, next *certtest.CA) {
	m.t.Helper()
	for name, c := range map[string]struct {
		files certs.Files
		want  int
		says  string
	}{
		"a client":                 {m.issue("x1", next, certtest.Cert{ClientOnly: true}, next), http.StatusForbidden, "good for servers and for clients"},
		"of the old authority":     {m.issue("x2", old, certtest.Cert{}, next), http.StatusForbidden, "unknown authority"},
		"an expired peer":          {m.issue("x3", next, certtest.Cert{From: -2 * time.Hour, To: -time.Hour}, next), http.StatusForbidden, "expired"},
		"nobody":                   {certs.Files{CA: m.issue("x4", next, certtest.Cert{}, next).CA}, http.StatusForbidden, "none was shown"},
		"a peer, of another mesh":  {m.issue("x5", next, certtest.Cert{}, next), http.StatusMisdirectedRequest, "the request is for"},
		"a client that trusts old": {m.issue("x6", next, certtest.Cert{}, old), 0, "not accepted"},
	} {
		s, err := certs.Open(c.files, zerolog.Nop())
		if err != nil {
			m.t.Fatal(err)
		}
		transport := &http.Transport{DialTLSContext: s.Dialer(nil)}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.cluster.URLs()[0]+"/v1/peer/keys", nil)
		if err != nil {
			m.t.Fatal(err)
		}
		status, said := 0, ""
		if resp, err := (&http.Client{Transport: transport}).Do(req); err != nil {
			said = err.Error()
		} else {
			b, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			status, said = resp.StatusCode, string(b)
		}
		transport.CloseIdleConnections()
		if status != c.want || !strings.Contains(said, c.says) {
			m.t.Errorf("%s: %d %s", name, status, said)
		}
	}
}
