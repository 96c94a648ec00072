package mesh

import (
	"errors"
	"net/http"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// farewellTime is how long a peer that is closed after Drain takes at most to tell the others.
const farewellTime = time.Second

// typeStopping is what another peer answers that is being stopped. It is alive, so its word is waited for, but takes nothing new.
const typeStopping api.ProblemType = "stopping"

// Drain says that this peer is about to be closed: Ready fails from now on, and no new update or copy is taken. What is under way goes on, and so
// does the rest: the others still get from here what they need. Close then tells them that this peer stops, so that they need not find out.
func (p *Peer) Drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining = true
}

func stopping() error {
	return api.NewProblem(typeStopping, http.StatusServiceUnavailable, "Stopping", "this peer is being stopped")
}

// takesNothing reports whether a call failed because its peer holds nothing new for anybody: it was not reached, or is being stopped.
func takesNothing(err error) bool {
	return errors.Is(err, errGone) || typeStopping.Is(err)
}
