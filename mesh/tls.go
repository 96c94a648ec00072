package mesh

import (
	"net/http"
	"sync"

	"github.com/fedmesh/fedmesh/mesh/certs"
)

// scheme is how peers of this mesh talk to each other.
func (p *Peer) scheme() string {
	if p.cfg.TLS != nil {
		return "https"
	}
	return "http"
}

// securely is plain where there are no certificates, else what goes over TLS with those that were read last.
func securely(store *certs.Store, plain *http.Transport) http.RoundTripper {
	if store == nil {
		return plain
	}
	return &renewing{store: store, plain: plain}
}

// renewing makes new connections when the certificates change. Those in use end with their requests; afterwards a peer might refuse them.
type renewing struct {
	store *certs.Store
	plain *http.Transport // what the others are made like

	mu         sync.Mutex
	generation uint64
	now        *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (r *renewing) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.transport().RoundTrip(req)
	return resp, certs.Explain(req.URL.Host, err)
}

// CloseIdleConnections is what http.Client's needs.
func (r *renewing) CloseIdleConnections() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now != nil {
		r.now.CloseIdleConnections()
	}
}

func (r *renewing) transport() *http.Transport {
	r.mu.Lock()
	defer r.mu.Unlock()
	generation := r.store.Generation()
	if r.now != nil && r.generation == generation {
		return r.now
	}
	if r.now != nil {
		r.now.CloseIdleConnections() // and what becomes idle later closes itself
	}
	r.now, r.generation = r.plain.Clone(), generation
	r.now.DialTLSContext = r.store.Dialer(r.plain.DialContext)
	return r.now
}
