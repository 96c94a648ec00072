package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/certs"
	"github.com/fedmesh/fedmesh/mesh/gossip"
)

// lookAtFiles is how often the files of certificates and keys are looked at.
const lookAtFiles = 3 * time.Second

// tlsFlags are what encrypts that a peer sends, and whether it must.
type tlsFlags struct {
	keyringFile string
	tls         certs.Files
	clientAuth  string
	insecure    bool

	store *certs.Store    // set by open
	ring  *gossip.Keyring // too
}

func (f *tlsFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.keyringFile, "keyring-file", "", "`file` with the keys that encrypt the gossip, the same at all peers; read again when it changes, and rewritten by fedmesh keys")
	fs.StringVar(&f.tls.Cert, "tls-cert", "", "`file` with this peer's certificate, for --advertise-api; read again when it changes, and on SIGHUP")
	fs.StringVar(&f.tls.Key, "tls-key", "", "`file` with the certificate's private key")
	fs.StringVar(&f.tls.CA, "tls-ca", "", "`file` with the authorities of the peers' certificates; with it, peers talk only to who has one")
	fs.StringVar(&f.clientAuth, "tls-client-auth", "none", "certificates of clients that are no peers: none, request (one that is shown must be good) or require")
	fs.BoolVar(&f.insecure, "insecure", false, "listen to other machines without TLS or without keys")
}

// complete returns all that is wrong. Listen and gossip are the addresses listened on.
func (f *tlsFlags) complete(bad func(format string, args ...any), listen, gossipAddr string) {
	if f.clientAuth == "" {
		f.clientAuth = string(certs.None)
	}
	switch certs.ClientAuth(f.clientAuth) {
	case certs.None:
	case certs.Request, certs.Require:
		if f.tls.CA == "" {
			bad("--tls-client-auth %s needs --tls-ca, whose certificates clients show", f.clientAuth)
		}
	default:
		bad("--tls-client-auth is %q; it must be none, request or require", f.clientAuth)
	}
	switch {
	case f.tls.Cert != "" && f.tls.Key == "":
		bad("--tls-cert needs --tls-key, the certificate's private key")
	case f.tls.Cert == "" && f.tls.Key != "":
		bad("--tls-key needs --tls-cert, the key's certificate")
	case f.tls.Cert == "" && f.tls.CA != "":
		bad("--tls-ca needs --tls-cert and --tls-key: peers show a certificate to each other")
	case f.tls.Cert != "":
		if _, err := certs.Open(f.tls, zerolog.Nop()); err != nil {
			bad("--tls-cert, --tls-key, --tls-ca: %w", err)
		}
	}
	if f.keyringFile != "" {
		if _, err := gossip.OpenKeyring(f.keyringFile, zerolog.Nop()); err != nil {
			bad("--keyring-file: %w", err)
		}
	}
	if !f.insecure {
		for _, missing := range f.missing(listen, gossipAddr) {
			bad("%s; or, where the network is trusted, --insecure", missing)
		}
	}
}

// missing says what other machines reach and nothing encrypts.
func (f *tlsFlags) missing(listen, gossipAddr string) []string {
	var out []string
	if f.tls.Cert == "" && !loopback(listen) {
		out = append(out, fmt.Sprintf("--listen %s is open to other machines and not encrypted: give --tls-cert and --tls-key, and --tls-ca so that peers know each other", listen))
	}
	if f.keyringFile == "" && !loopback(gossipAddr) {
		out = append(out, fmt.Sprintf("--gossip %s is open to other machines and not encrypted: give --keyring-file, with a key that fedmesh keygen makes", gossipAddr))
	}
	return out
}

// loopback says whether only this machine reaches an address. One that makes no sense is told of elsewhere.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err != nil || host == "localhost" || net.ParseIP(host).IsLoopback()
}

// open reads the keys, and the certificates for the listener and the peer, and warns of what is not encrypted.
func (f *tlsFlags) open(listen, gossipAddr string, log zerolog.Logger, registry prometheus.Registerer) error {
	for _, missing := range f.missing(listen, gossipAddr) {
		log.Warn().Msg("insecure: " + missing)
	}
	var err error
	if f.keyringFile != "" {
		if f.ring, err = gossip.OpenKeyring(f.keyringFile, log); err != nil {
			return fmt.Errorf("--keyring-file: %w", err)
		}
	}
	if f.tls.Cert == "" {
		return nil
	}
	if f.store, err = certs.Open(f.tls, log); err != nil {
		return fmt.Errorf("--tls-cert, --tls-key, --tls-ca: %w", err)
	}
	for _, c := range f.store.Metrics() {
		if err := registry.Register(c); err != nil {
			return fmt.Errorf("metrics of certificates: %w", err)
		}
	}
	return nil
}

// apply tells the peer of its certificates and keys.
func (f *tlsFlags) apply(cfg *mesh.Config, log zerolog.Logger) error {
	var err error
	if cfg.Keyring = f.ring; cfg.Keyring == nil && f.keyringFile != "" { // it is only checked
		if cfg.Keyring, err = gossip.OpenKeyring(f.keyringFile, log); err != nil {
			return fmt.Errorf("--keyring-file: %w", err)
		}
	}
	if cfg.TLS = f.store; cfg.TLS == nil && f.tls.Cert != "" {
		if cfg.TLS, err = certs.Open(f.tls, log); err != nil {
			return fmt.Errorf("--tls-cert, --tls-key, --tls-ca: %w", err)
		}
	}
	return nil
}

// scheme of the URLs under which the peer is reached.
func (f *tlsFlags) scheme() string {
	if f.store != nil {
		return "https"
	}
	return "http"
}

// wrap makes a listener speak TLS, if this peer does.
func (f *tlsFlags) wrap(ln net.Listener) (net.Listener, error) {
	if f.store == nil {
		return ln, nil
	}
	config, err := f.store.Server(certs.ClientAuth(f.clientAuth))
	if err != nil {
		return nil, err
	}
	return tls.NewListener(ln, config), nil
}

// peersOnly guards the peer plane by certificates, if there are authorities for them.
func (f *tlsFlags) peersOnly(h http.Handler, log zerolog.Logger) http.Handler {
	if f.store == nil {
		return h
	}
	log = log.Sample(&zerolog.BurstSampler{Burst: 3, Period: time.Minute})
	return f.store.PeersOnly(h, func(w http.ResponseWriter, r *http.Request, err error) {
		log.Warn().Err(err).Str("remote", r.RemoteAddr).Msg("a request of the peer plane was refused")
		p := api.NewProblem(api.TypeForbidden, http.StatusForbidden, "Forbidden", strings.TrimPrefix(err.Error(), "certs: "))
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Connection", "close") // the next may show a newer certificate
		w.WriteHeader(p.Status)
		_ = json.NewEncoder(w).Encode(p)
	})
}

// watch reads certificates and keys again when they change, until the function it returns is called.
func (f *tlsFlags) watch(ctx context.Context) (stop func()) {
	if f.store == nil && f.ring == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(lookAtFiles)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			case <-hup:
			}
			// What goes wrong is in the log.
			if f.store != nil {
				_ = f.store.Reload()
			}
			if f.ring != nil {
				_ = f.ring.Reload()
			}
		}
	})
	return func() {
		signal.Stop(hup)
		cancel()
		wg.Wait()
	}
}

// serverLog takes the lines of net/http's server: of handshakes that failed, mostly. Strangers cause them.
func serverLog(l zerolog.Logger) *log.Logger {
	return log.New(serverLines{l.Sample(&zerolog.BurstSampler{Burst: 10, Period: 10 * time.Second})}, "", 0)
}

type serverLines struct{ log zerolog.Logger }

func (s serverLines) Write(b []byte) (int, error) {
	line := bytes.TrimPrefix(bytes.TrimSpace(b), []byte("http: "))
	e := s.log.Warn()
	if bytes.HasSuffix(line, []byte(": EOF")) { // who only looked whether the port is open
		e = s.log.Debug()
	}
	e.Msg(string(line[:min(len(line), 1024)]))
	return len(b), nil
}

// clientTLS are a client command's certificate and authorities.
type clientTLS struct{ files certs.Files }

func (f *clientTLS) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.files.CA, "ca", "", "`file` with the authorities of the peers' certificates (default the system's)")
	fs.StringVar(&f.files.Cert, "cert", "", "`file` with a certificate to show")
	fs.StringVar(&f.files.Key, "key", "", "`file` with the private key of --cert")
}

// config is for api.ClientOptions; nil when no flag was given.
func (f *clientTLS) config() (*tls.Config, error) {
	switch {
	case f.files == certs.Files{}:
		return nil, nil
	case (f.files.Cert == "") != (f.files.Key == ""):
		return nil, &usageError{errors.New("--cert and --key belong together")}
	}
	s, err := certs.Open(f.files, zerolog.Nop())
	if err != nil {
		return nil, hint(err, "see that --ca, --cert and --key name PEM files, and that the key is the certificate's")
	}
	return s.Client(), nil
}
