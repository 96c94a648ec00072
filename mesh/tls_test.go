package mesh_test

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/certs"
	"github.com/fedmesh/fedmesh/mesh/certs/certtest"
)

// secured gives every peer of a cluster a certificate of one authority. It returns how to issue them anew, and before a peer starts, and a client's store.
func (c *cluster) secured() (issue, first func(name string, what certtest.Cert), client *certs.Store) {
	c.t.Helper()
	ca, err := certtest.NewCA("mesh")
	if err != nil {
		c.t.Fatal(err)
	}
	stores := map[string]*certs.Store{}
	write := func(name string, what certtest.Cert) certs.Files {
		c.t.Helper()
		if what.Hosts == nil {
			what.Hosts = []string{name}
		}
		pair, err := ca.Issue(what)
		if err != nil {
			c.t.Fatal(err)
		}
		f, err := pair.Write(c.dir, name)
		if err != nil {
			c.t.Fatal(err)
		}
		return f
	}
	store := func(name string, what certtest.Cert) *certs.Store {
		c.t.Helper()
		s, err := certs.Open(write(name, what), zerolog.Nop())
		if err != nil {
			c.t.Fatal(err)
		}
		return s
	}
	c.tune = func(cfg *mesh.Config) {
		if stores[cfg.Name] == nil {
			stores[cfg.Name] = store(cfg.Name, certtest.Cert{})
		}
		cfg.TLS = stores[cfg.Name]
	}
	client = store("client", certtest.Cert{ClientOnly: true})
	c.client.Close()
	c.client, err = api.NewClient([]string{"a:80"}, api.ClientOptions{Passes: 1, DialContext: c.dialer("client"), ResponseTimeout: 2 * time.Minute, TLS: client.Client()})
	if err != nil {
		c.t.Fatal(err)
	}
	issue = func(name string, what certtest.Cert) {
		c.t.Helper()
		write(name, what)
		if err := stores[name].Reload(); err != nil {
			c.t.Fatal(err)
		}
	}
	first = func(name string, what certtest.Cert) { stores[name] = store(name, what) }
	return issue, first, client
}

// Rounds go on over TLS, also when a peer has a new certificate, and when a new peer comes.
func TestPeersOverTLS(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		issue, _, _ := c.secured()
		defer c.client.Close()
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		for round := range 3 {
			for i, name := range []string{"a", "b"} {
				if r := c.push(name, "s", weighted(combiner(i), 1), file(float32(round+i))); len(r.Copies) != 2 {
					t.Errorf("round %d: copies %v", round, r.Copies)
				}
			}
			c.final("s", round+1)
			for _, name := range c.running() {
				issue(name, certtest.Cert{})
			}
		}
		c.up("d")
		c.counted("s", c.agree("s"))
	})
}

// What is served to peers is served to nobody else, whatever certificate they show.
func TestPeerPlaneIsForPeers(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		_, _, client := c.secured()
		defer c.client.Close()
		c.up("a", "b")
		foreign, err := certtest.NewCA("other")
		if err != nil {
			t.Fatal(err)
		}
		pair, err := foreign.Issue(certtest.Cert{})
		if err != nil {
			t.Fatal(err)
		}
		own, err := pair.Write(c.dir, "foreign")
		if err != nil {
			t.Fatal(err)
		}
		own.CA = filepath.Join(c.dir, "client-ca.pem")
		stranger, err := certs.Open(own, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		nobody, err := certs.Open(certs.Files{CA: own.CA}, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		for says, s := range map[string]*certs.Store{"good for servers and for clients": client, "unknown authority": stranger, "none was shown": nobody} {
			transport := &http.Transport{DialTLSContext: s.Dialer(c.dialer("client"))}
			hc := &http.Client{Transport: transport}
			for _, path := range []string{"GET /v1/peer/snapshot", "POST /v1/peer/entries", "GET /v1/peer/blobs/x", "GET /v1/peer/nothing"} {
				method, path, _ := strings.Cut(path, " ")
				req, err := http.NewRequest(method, "https://a:80"+path, strings.NewReader("x"))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Fedmesh-Mesh", "fedmesh/1")
				resp, err := hc.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				problem := readAll(t, resp.Body)
				if resp.StatusCode != http.StatusForbidden || !strings.Contains(problem, says) {
					t.Errorf("%s: %d %s, want %q", path, resp.StatusCode, problem, says)
				}
			}
			if resp, err := hc.Get("https://a:80/v1/mesh"); err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("what is for all is not served: %v", err)
			} else {
				readAll(t, resp.Body)
			}
			transport.CloseIdleConnections()
		}
	})
}

// With a peer whose certificate is bad the others go on, and a good one heals it.
func TestPeerWithBadCertificate(t *testing.T) {
	for name, what := range map[string]certtest.Cert{
		"expired": {From: -2 * time.Hour, To: -time.Hour}, "later": {From: time.Hour, To: 2 * time.Hour}, "of another host": {Hosts: []string{"elsewhere"}}, "for clients only": {ClientOnly: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				issue, first, _ := c.secured()
				defer c.client.Close()
				c.up("a", "b")
				c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
				first("c", what)
				c.start("c")
				time.Sleep(10 * time.Second)
				if err := c.nodes["a"].peer.Ready(); err != nil {
					t.Error(err)
				}
				for i, at := range []string{"a", "b"} {
					if r := c.push(at, "s", weighted(combiner(i), 1), file(float32(i))); len(r.Copies) != 2 || r.Copies[0] != "a" || r.Copies[1] != "b" {
						t.Errorf("copies %v", r.Copies)
					}
				}
				c.settles("s", 1, "a", "b")
				issue("c", certtest.Cert{})
				c.together()
				c.eventually(time.Minute, func() error {
					_, err := c.nodes["c"].peer.Session("s")
					return err
				})
				c.counts()
				c.counted("s", c.agree("s"))
			})
		})
	}
}

// Peers of which one speaks TLS and the other does not ignore each other, and say why.
func TestPlainPeerAmongSecure(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.secured()
		defer c.client.Close()
		secure := c.tune
		logs := map[string]*lines{"a": {}, "b": {}}
		c.tune = func(cfg *mesh.Config) {
			if cfg.Name == "a" {
				secure(cfg)
			}
			cfg.Logger = zerolog.New(logs[cfg.Name])
		}
		c.start("a", "b")
		time.Sleep(20 * time.Second)
		for name, log := range logs {
			if !strings.Contains(log.String(), "one speaks TLS and the other does not") {
				t.Errorf("%s does not say why:\n%s", name, log)
			}
			if seen := c.alive(name); len(seen) != 1 {
				t.Errorf("%s sees %v", name, seen)
			}
		}
	})
}

// lines is a log that tests read.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func readAll(t *testing.T, body io.ReadCloser) string {
	t.Helper()
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
