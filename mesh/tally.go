package mesh

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// tally counts what goes over the peer plane in requests of one kind, at both of its ends.
type tally struct {
	what      string
	in, out   prometheus.Counter
	callsMade *prometheus.CounterVec
}

func (p *Peer) tally(path string) tally {
	what := plane(path)
	m := p.metrics
	return tally{what: what, in: m.received.WithLabelValues(what), out: m.sent.WithLabelValues(what), callsMade: m.calls}
}

// called counts a call's result.
func (t tally) called(result string) { t.callsMade.WithLabelValues(t.what, result).Inc() }

// add counts bytes; there may be no counter.
func add(c prometheus.Counter, n int) {
	if c != nil && n > 0 {
		c.Add(float64(n))
	}
}

// requested returns a request of another peer's with the id of what it is made for, if it is made for a request.
func requested(w http.ResponseWriter, r *http.Request) *http.Request {
	id := r.Header.Get(api.HeaderRequest)
	if api.CheckRequestID(id) != nil {
		return r
	}
	w.Header().Set(api.HeaderRequest, id)
	return r.WithContext(api.WithRequest(r.Context(), id))
}
