package reducer

import (
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

// again is how many rounds back is looked for what came once more: a push whose
// receipt was lost may bring its bytes after the round.
const again = 20

// prune deletes what no later round needs: the updates of closed rounds, and
// models that are older than those to be kept. The seed stays, since it says what
// models look like. n.mu must be held.
func (n *Node) prune() {
	closed := len(n.state.Rounds)
	for _, r := range last(n.state.Rounds, closed) {
		for _, u := range r.Updates {
			// The mean of one update is the same bytes.
			if _, isModel := n.state.made[u.Digest]; !isModel {
				n.drop(u.Digest)
			}
		}
	}
	if n.options.KeepModels == 0 {
		return
	}
	for _, r := range last(n.state.Rounds, closed-n.options.KeepModels) {
		n.drop(r.Model)
	}
}

// last are the last few of the first so many rounds.
func last(rounds []api.RoundInfo, many int) []api.RoundInfo {
	return rounds[max(0, many-again):max(0, many)]
}

func (n *Node) drop(digest string) {
	d, err := model.ParseDigest(digest)
	if err != nil || digest == n.state.Seed || !n.Blobs().Has(d) {
		return
	}
	if err := n.Blobs().Remove(d); err != nil {
		n.options.Logger.Warn().Err(err).Msg("what nobody needs could not be deleted")
	}
}
