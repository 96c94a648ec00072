package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/certs"
	"github.com/fedmesh/fedmesh/mesh/certs/certtest"
	"github.com/fedmesh/fedmesh/mesh/gossip"
)

// issued writes a new certificate of an authority.
func issued(t *testing.T, ca *certtest.CA, c certtest.Cert) certs.Files {
	t.Helper()
	pair, err := ca.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	f, err := pair.Write(t.TempDir(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func newAuthority(t *testing.T, name string) *certtest.CA {
	t.Helper()
	ca, err := certtest.NewCA(name)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// Other machines are listened to only with encryption, or when that is said to be all right.
func TestInsecure(t *testing.T) {
	f := issued(t, newAuthority(t, "mesh"), certtest.Cert{})
	keyring := filepath.Join(t.TempDir(), "keyring")
	write(t, keyring, []byte(gossip.NewKey().Text()))
	for _, c := range []struct {
		name           string
		listen, gossip string
		flags          tlsFlags
		missing        []string // flags named
	}{
		{"loopback", "127.0.0.1:1", "127.0.0.1:2", tlsFlags{}, nil},
		{"other loopbacks", "localhost:1", "[::1]:2", tlsFlags{}, nil},
		{"the whole net", "127.9.9.9:1", "127.1.2.3:2", tlsFlags{}, nil},
		{"listen", "10.0.0.1:1", "127.0.0.1:2", tlsFlags{}, []string{"--tls-cert"}},
		{"gossip", "127.0.0.1:1", "10.0.0.1:2", tlsFlags{}, []string{"--keyring-file"}},
		{"all", "0.0.0.0:1", "[::]:2", tlsFlags{}, []string{"--tls-cert", "--keyring-file"}},
		{"no host", ":1", ":2", tlsFlags{}, []string{"--tls-cert", "--keyring-file"}},
		{"names", "peer.example:1", "localhost.example:2", tlsFlags{}, []string{"--tls-cert", "--keyring-file"}},
		{"TLS alone", ":1", ":2", tlsFlags{tls: f}, []string{"--keyring-file"}},
		{"keys alone", ":1", ":2", tlsFlags{keyringFile: keyring}, []string{"--tls-cert"}},
		{"both", ":1", ":2", tlsFlags{tls: f, keyringFile: keyring}, nil},
		{"without a CA", ":1", ":2", tlsFlags{tls: certs.Files{Cert: f.Cert, Key: f.Key}, keyringFile: keyring}, nil},
	} {
		for _, insecure := range []bool{false, true} {
			flags := c.flags
			flags.insecure = insecure
			var faults []string
			flags.complete(func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...).Error()) }, c.listen, c.gossip)
			if want := len(c.missing); insecure && len(faults) != 0 || !insecure && len(faults) != want {
				t.Errorf("%s, insecure %v: %q", c.name, insecure, faults)
				continue
			}
			for i, fault := range faults {
				if !strings.Contains(fault, c.missing[i]) || !strings.Contains(fault, "--insecure") {
					t.Errorf("%s: %q does not name %s and --insecure", c.name, fault, c.missing[i])
				}
			}
			// When it starts all the same, the log warns of each lack.
			var log lockedBuffer
			if err := flags.open(c.listen, c.gossip, zerolog.New(&log), prometheus.NewRegistry()); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			if n := strings.Count(log.b.String(), `"warn"`); n != len(c.missing) {
				t.Errorf("%s: %d warnings: %s", c.name, n, log.b.String())
			}
		}
	}
	checkError(t, shell{}.run(t, "node", "--data-dir", t.TempDir(), "--listen", "0.0.0.0:0", "--advertise-api", "x:1"), exitUsage, "--listen 0.0.0.0:0", "--tls-cert", "--insecure")
}

func TestTLSFlags(t *testing.T) {
	f := issued(t, newAuthority(t, "mesh"), certtest.Cert{})
	other := issued(t, newAuthority(t, "other"), certtest.Cert{})
	bad := filepath.Join(t.TempDir(), "keyring")
	write(t, bad, []byte("no key"))
	for says, flags := range map[string]tlsFlags{
		"must be none, request or require":            {clientAuth: "maybe"},
		"--tls-client-auth require needs --tls-ca":    {tls: certs.Files{Cert: f.Cert, Key: f.Key}, clientAuth: "require"},
		"--tls-client-auth request needs --tls-ca":    {clientAuth: "request"},
		"--tls-cert needs --tls-key":                  {tls: certs.Files{Cert: f.Cert}},
		"--tls-key needs --tls-cert":                  {tls: certs.Files{Key: f.Key}},
		"--tls-ca needs --tls-cert":                   {tls: certs.Files{CA: f.CA}},
		"private key does not match":                  {tls: certs.Files{Cert: f.Cert, Key: other.Key}},
		"no such file":                                {tls: certs.Files{Cert: f.Cert + "x", Key: f.Key}},
		"--keyring-file: gossip: a key is not base64": {keyringFile: bad},
		"--keyring-file: gossip: keyring":             {keyringFile: bad + "x"},
	} {
		var faults []string
		flags.complete(func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...).Error()) }, "127.0.0.1:1", "127.0.0.1:2")
		if len(faults) != 1 || !strings.Contains(faults[0], says) {
			t.Errorf("%q, want %q", faults, says)
		}
	}
}

// A node serves over TLS and tells why it lets nobody but peers to the peer plane.
func TestNodeOverTLS(t *testing.T) {
	ca := newAuthority(t, "mesh")
	f, client := issued(t, ca, certtest.Cert{}), issued(t, ca, certtest.Cert{ClientOnly: true})
	p, _ := serve(t)
	fake := &nodeFake{peer: p}
	var log lockedBuffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- runNode(ctx, nodeFlags{name: "a", listen: "127.0.0.1:0", tlsFlags: tlsFlags{tls: f, clientAuth: "none"}}, zerolog.New(&log),
			func(nodeFlags, zerolog.Logger, *prometheus.Registry) (nodePeer, error) { return fake, nil })
	}()
	url := log.waitServing(t)
	if !strings.HasPrefix(url, "https://") {
		t.Errorf("others are told %s", url)
	}
	sh := shell{env: map[string]string{"FEDMESH_PEERS": url, "FEDMESH_TRIES": "1"}}
	checkError(t, sh.run(t, "status"), exitDenied, "certificate", "not accepted")
	sh.env["FEDMESH_CA"] = f.CA
	sh.ok(t, "status")
	sh.env["FEDMESH_PEERS"] = strings.TrimPrefix(url, "https://") // with --ca it is https
	sh.ok(t, "status")
	checkError(t, sh.run(t, "status", "--cert", client.Cert), exitUsage, "--key")
	checkError(t, sh.run(t, "status", "--cert", client.Cert, "--key", f.Key), exitFailure, "does not match", "next: see that --ca")
	sh.ok(t, "status", "--cert", client.Cert, "--key", client.Key)
	checkError(t, shell{env: map[string]string{"FEDMESH_PEERS": strings.Replace(url, "https", "http", 1), "FEDMESH_TRIES": "1"}}.run(t, "status"), exitRefused, "HTTPS server")

	for cert, want := range map[certs.Files]string{client: "good for servers and for clients", f: "418"} {
		s, err := certs.Open(certs.Files{Cert: cert.Cert, Key: cert.Key, CA: f.CA}, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		if got := askPeerPlane(t, s, url); !strings.Contains(got, want) {
			t.Errorf("the peer plane says %q, want %q", got, want)
		}
	}
	// The log says who was refused, in its own time.
	log.wait(t, "handshake error")
	log.wait(t, "a request of the peer plane was refused")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A client that asks for https where http is spoken is told.
func TestClientOverTLSToPlain(t *testing.T) {
	_, sh := serve(t)
	f := issued(t, newAuthority(t, "mesh"), certtest.Cert{})
	sh.env["FEDMESH_PEERS"] = strings.Replace(sh.env["FEDMESH_PEERS"], "http", "https", 1)
	checkError(t, sh.run(t, "status", "--ca", f.CA), exitUnavailable, "does not speak TLS")
	checkError(t, sh.run(t, "status", "--ca", f.CA+"x"), exitNotFound, "no such file")
}

// Certificates that are no good are named with the reason, on the client's side and, where clients must show one, in the answer.
func TestBadCertificates(t *testing.T) {
	ca := newAuthority(t, "mesh")
	p, _ := serve(t)
	for says, cert := range map[string]certtest.Cert{
		"expired":           {From: -2e12, To: -1e12},
		"not yet valid":     {From: 1e13, To: 2e13},
		"not 127.0.0.1":     {Hosts: []string{"10.0.0.1"}},
		"incompatible key":  {ClientOnly: true},
		"unknown authority": {Name: "foreign"},
	} {
		from := ca
		if cert.Name == "foreign" {
			from = newAuthority(t, "other")
		}
		f := issued(t, from, cert)
		store, err := certs.Open(f, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		config, err := store.Server(certs.None)
		if err != nil {
			t.Fatal(err)
		}
		s := api.NewServer(p, api.ServerOptions{})
		hs := httptest.NewUnstartedServer(s)
		hs.Config.ErrorLog = serverLog(zerolog.Nop())
		hs.Listener = tls.NewListener(hs.Listener, config)
		hs.Start()
		url := strings.Replace(hs.URL, "http", "https", 1)
		trust := issued(t, ca, certtest.Cert{}).CA
		checkError(t, shell{env: map[string]string{"FEDMESH_PEERS": url, "FEDMESH_TRIES": "1"}}.run(t, "status", "--ca", trust), exitDenied, "the certificate of", says)
		s.Close()
		hs.Close()
	}
}

// askPeerPlane returns the status and text of an answer.
func askPeerPlane(t *testing.T, s *certs.Store, url string) string {
	t.Helper()
	transport := &http.Transport{DialTLSContext: s.Dialer(nil)}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(url + "/v1/peer/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Status + " " + string(b)
}
