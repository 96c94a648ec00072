package api_test

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// mesh is a memNet with named servers, for one bubble.
type mesh struct {
	*memNet
	t     *testing.T
	mu    sync.Mutex
	calls []string      // "host METHOD path" as they arrive
	over  chan struct{} // closed when the test ends
	once  sync.Once
}

// newMesh makes one; call it inside the bubble.
func newMesh(t *testing.T) *mesh {
	return &mesh{memNet: newMemNet(), t: t, over: make(chan struct{})}
}

// host serves h at name:80 until the bubble's test ends.
func (m *mesh) host(name string, h http.Handler) {
	stop := m.serve(name+":80", &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.calls = append(m.calls, name+" "+r.Method+" "+r.URL.Path)
		m.mu.Unlock()
		h.ServeHTTP(w, r)
	})})
	m.t.Cleanup(func() {
		m.once.Do(func() { close(m.over) })
		stop()
	})
}

func (m *mesh) peer(name string, f *fake) {
	f.changed = make(chan struct{})
	srv := api.NewServer(f, api.ServerOptions{Logger: zerolog.Nop()})
	m.host(name, srv)
	m.t.Cleanup(srv.Close)
}

func (m *mesh) client(o api.ClientOptions, peers ...string) *api.Client {
	o.DialContext = m.dial
	if o.Rand == nil {
		o.Rand = rand.NewPCG(1, 2)
	}
	for i := range peers {
		peers[i] += ":80"
	}
	return client(m.t, o, peers...)
}

// hosts lists who was asked, repeats and all.
func (m *mesh) hosts() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var b strings.Builder
	for _, c := range m.calls {
		host, _, _ := strings.Cut(c, " ")
		b.WriteString(host)
	}
	m.calls = nil
	return b.String()
}

func status(code int, header ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		http.Error(w, "from a proxy \x1b[31mred", code)
	})
}

// stall reads nothing and answers nothing until the client is seen to go.
func (m *mesh) stall(_ http.ResponseWriter, r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-m.over:
	}
	panic(http.ErrAbortHandler)
}
