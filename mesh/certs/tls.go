package certs

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

const (
	// handshake bounds how long the two sides may take to agree.
	handshake = 5 * time.Second
	// maxPeers bounds how many peers' certificates are remembered as good.
	maxPeers = 1024
)

// base is what every connection has in common.
func (st *state) base() *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if st.pair != nil {
		c.Certificates = []tls.Certificate{*st.pair}
	}
	return c
}

func (st *state) server(auth ClientAuth) *tls.Config {
	c := st.base()
	c.SessionTicketsDisabled = true // each connection is judged by what is in force
	if st.roots == nil {
		return c
	}
	c.ClientCAs = st.roots
	switch auth {
	case Require:
		c.ClientAuth = tls.RequireAndVerifyClientCert
	case Request:
		c.ClientAuth = tls.VerifyClientCertIfGiven
	default:
		c.ClientAuth = tls.RequestClientCert
	}
	return c
}

// Server is the configuration of a listener. It needs a certificate, and a CA for all but None.
func (s *Store) Server(auth ClientAuth) (*tls.Config, error) {
	switch auth {
	case None, Request, Require:
	default:
		return nil, fmt.Errorf("certs: client authentication %q; it must be none, request or require", string(auth))
	}
	if s.files.Cert == "" {
		return nil, errors.New("certs: a server needs a certificate and its key")
	}
	if s.files.CA == "" && auth != None {
		return nil, errNoCA
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return s.now.Load().servers[auth], nil },
	}, nil
}

// Client is the configuration of a client, of what was read last. It does not follow changes; Dialer does.
func (s *Store) Client() *tls.Config {
	st := s.now.Load()
	c := st.base()
	c.RootCAs = st.roots
	if st.pair != nil {
		// Also to a server that does not trust who issued it: then it can say so.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return st.pair, nil }
	}
	return c
}

// A DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// Dialer opens TLS over what dial opens, nil being TCP. The server must be named in its certificate by the host of the address.
func (s *Store) Dialer(dial DialFunc) DialFunc {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("certs: %w", err)
		}
		raw, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		config := s.Client()
		config.ServerName = host
		conn := tls.Client(raw, config)
		ctx, cancel := context.WithTimeout(ctx, handshake)
		defer cancel()
		if err := conn.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, Explain(addr, err)
		}
		return conn, nil
	}
}

// Explain says in words what a failed connection to addr means when certificates are the cause; other errors it returns as they are.
func Explain(addr string, err error) error {
	var (
		verify *tls.CertificateVerificationError
		remote *net.OpError
		record tls.RecordHeaderError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &verify):
		return fmt.Errorf("the certificate of %s is not accepted: %w", addr, err)
	case errors.As(err, &remote) && remote.Op == "remote error": // an alert
		return fmt.Errorf("%s does not accept this side's certificate, or wants one: %w", addr, err)
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("%s does not speak TLS: %w", addr, err)
	case strings.Contains(err.Error(), "malformed HTTP response \"\\x15\\x03"):
		return fmt.Errorf("%s speaks TLS: use https: %w", addr, err)
	}
	return err
}

// What VerifyPeer finds wrong.
var (
	ErrNoCertificate = errors.New("certs: between peers a client certificate by the mesh's authority is needed, and none was shown")
	ErrCertificate   = errors.New("certs: the client certificate is not one of a peer")
)

// VerifyPeer says whether a request comes from who has a peer's certificate; see the package's text. Without a CA everybody passes.
func (s *Store) VerifyPeer(r *http.Request) error {
	_, err := s.now.Load().peer(r)
	return err
}

// PeersOnly lets through to h who has a peer's certificate. Their chain then is the request's only verified one, whatever the handshake has
// looked at. Others are refused with the error. Without a CA everybody passes, and nobody is verified.
func (s *Store) PeersOnly(h http.Handler, refuse func(http.ResponseWriter, *http.Request, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		chains, err := s.now.Load().peer(r)
		if err != nil {
			refuse(w, r, err)
			return
		}
		if r.TLS != nil {
			verified := *r.TLS
			verified.VerifiedChains = chains
			r = r.WithContext(r.Context())
			r.TLS = &verified
		}
		h.ServeHTTP(w, r)
	})
}

func (st *state) peer(r *http.Request) ([][]*x509.Certificate, error) {
	if st.roots == nil {
		return nil, nil
	}
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, ErrNoCertificate
	}
	leaf := r.TLS.PeerCertificates[0]
	id := sha256.Sum256(leaf.Raw)
	now := time.Now()
	if v, ok := st.known(id); ok && now.Before(v.until) {
		return v.chains, nil
	}
	more := x509.NewCertPool()
	for _, c := range r.TLS.PeerCertificates[1:] {
		more.AddCert(c)
	}
	v := verdict{until: leaf.NotAfter}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		chains, err := leaf.Verify(x509.VerifyOptions{Roots: st.roots, Intermediates: more, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		if err != nil {
			if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage {
				err = errors.New("it must be good for servers and for clients, and this one is not good for both")
			}
			return nil, fmt.Errorf("%w (%s): %w", ErrCertificate, subject(leaf), err)
		}
		v.chains = chains
		for _, c := range chains[0] {
			if c.NotAfter.Before(v.until) {
				v.until = c.NotAfter
			}
		}
	}
	st.remember(id, v)
	return v.chains, nil
}

// subject names a certificate, briefly: it may be a stranger's.
func subject(c *x509.Certificate) string {
	name := fmt.Sprintf("%q", c.Subject.String())
	return name[:min(len(name), 200)]
}

// verdict is what was found out of a peer's certificate.
type verdict struct {
	chains [][]*x509.Certificate
	until  time.Time
}

func (st *state) known(id [32]byte) (verdict, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	v, ok := st.peers[id]
	return v, ok
}

func (st *state) remember(id [32]byte, v verdict) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if len(st.peers) >= maxPeers {
		clear(st.peers)
	}
	st.peers[id] = v
}
