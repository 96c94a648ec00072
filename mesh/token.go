package mesh

import (
	"net/http"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// introduce shows another peer the token that this one has for them.
func (p *Peer) introduce(r *http.Request) {
	if p.cfg.Token == nil {
		return
	}
	if token := p.cfg.Token(); token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
}

// denied says in the log that another peer does not take this one for a peer: a mesh in which that happens falls apart, and nobody else tells why.
func (p *Peer) denied(t target, problem *api.Problem) {
	if problem.Status == http.StatusUnauthorized || problem.Status == http.StatusForbidden {
		p.denials.Error().Str("peer", t.name).Str("detail", problem.Detail).Msg("a peer does not let this one in; its tokens and certificates must know this one's")
	}
}
