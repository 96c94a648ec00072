package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// ClientAuth says what a server wants of those that connect. What peers need is VerifyPeer's matter, whatever this is.
type ClientAuth string

// What a server wants of clients. All but None need Files.CA.
const (
	None    ClientAuth = "none"    // no certificate; one that is shown is looked at only where peers talk
	Request ClientAuth = "request" // a certificate that is shown must be good
	Require ClientAuth = "require" // a good certificate
)

// Store is a certificate, its key and the trusted authorities, as the files hold them.
type Store struct {
	files Files
	log   zerolog.Logger
	now   atomic.Pointer[state]

	mu      sync.Mutex // one Reload at a time
	refused content    // what was last found broken, so that it is told once
	broken  error      // why
	reloads *prometheus.CounterVec
	expires prometheus.GaugeFunc
}

// state is immutable but for what it remembers.
type state struct {
	generation uint64
	content    content
	pair       *tls.Certificate // nil: none
	roots      *x509.CertPool   // nil: the system's
	servers    map[ClientAuth]*tls.Config

	mu    sync.Mutex
	peers map[[32]byte]verdict // certificates of peers by digest
}

// Open reads the files. It lists all that is wrong with them. A certificate that has expired, or is not valid yet, is taken and told of.
func Open(f Files, log zerolog.Logger) (*Store, error) {
	if err := f.validate(); err != nil {
		return nil, err
	}
	c, err := f.read()
	if err != nil {
		return nil, err
	}
	st, err := f.parse(c)
	if err != nil {
		return nil, err
	}
	s := &Store{files: f, log: log}
	s.now.Store(st)
	s.reloads = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "fedmesh", Subsystem: "tls", Name: "reloads_total", Help: "Times that changed certificate files were read, by result: ok or failed.",
	}, []string{"result"})
	for _, result := range []string{"ok", "failed"} {
		s.reloads.WithLabelValues(result)
	}
	s.expires = prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Namespace: "fedmesh", Subsystem: "tls", Name: "certificate_not_after_timestamp_seconds", Help: "When this peer's certificate expires; 0 without one.",
	}, func() float64 {
		if p := s.now.Load().pair; p != nil {
			return float64(p.Leaf.NotAfter.Unix())
		}
		return 0
	})
	if err := st.validAt(time.Now()); err != nil {
		log.Error().Err(err).Str("file", f.Cert).Msg("nobody will accept this certificate; it is read again when the file changes")
	}
	return s, nil
}

// Metrics are the store's, for a registry.
func (s *Store) Metrics() []prometheus.Collector { return []prometheus.Collector{s.reloads, s.expires} }

// Generation counts the changes that took effect.
func (s *Store) Generation() uint64 { return s.now.Load().generation }

// validAt says what is wrong with the own certificate's time.
func (st *state) validAt(t time.Time) error {
	if st.pair == nil {
		return nil
	}
	leaf := st.pair.Leaf
	switch {
	case t.After(leaf.NotAfter):
		return fmt.Errorf("certs: the certificate expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case t.Before(leaf.NotBefore):
		return fmt.Errorf("certs: the certificate is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// Reload reads the files and takes over what has changed. With an error everything stays as it was.
func (s *Store) Reload() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.now.Load()
	c, err := s.files.read()
	if err == nil && c.equal(old.content) {
		s.refused, s.broken = content{}, nil
		return nil
	}
	var st *state
	if err == nil {
		st, err = s.files.parse(c)
	}
	if err == nil && old.validAt(time.Now()) == nil {
		err = st.validAt(time.Now())
	}
	if err != nil {
		if s.broken == nil || s.broken.Error() != err.Error() || !c.equal(s.refused) {
			s.refused, s.broken = c, err
			s.reloads.WithLabelValues("failed").Inc()
			s.log.Error().Err(err).Msg("changed certificate files are not taken; those read before stay in use")
		}
		return err
	}
	st.generation = old.generation + 1
	s.now.Store(st)
	s.refused, s.broken = content{}, nil
	s.reloads.WithLabelValues("ok").Inc()
	e := s.log.Info()
	if st.pair != nil {
		e = e.Time("until", st.pair.Leaf.NotAfter)
	}
	e.Msg("changed certificate files were read")
	return nil
}

// Watch reloads every so often, and at every signal, until ctx ends. Signals may be nil.
func (s *Store) Watch(ctx context.Context, every time.Duration, signals <-chan os.Signal) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-signals:
		}
		_ = s.Reload() // told in the log
	}
}

// errNoCA is for what needs authorities of one's own.
var errNoCA = errors.New("certs: to judge certificates of clients, their authority's is needed (CA)")
