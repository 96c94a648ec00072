package mesh

import (
	"context"
	"slices"
)

// meet hears of the peers that live and whose entries are not here yet, as after a start: a session that is opened without them would close
// a round without content to take note of them. Those that do not answer soon come in that way.
func (p *Peer) meet(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstByte)
	defer cancel()
	p.askAround(ctx, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return !slices.ContainsFunc(p.living(), func(t target) bool {
			_, known := p.replica.Ledger().Peer(t.log)
			return !known
		})
	})
}
