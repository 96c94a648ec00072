package mesh

import (
	"fmt"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// reserve makes sure that an update of this many bytes fits under Config.MaxDisk, with those that are arriving too. release is called when
// it has arrived or is refused. Models that the peer itself makes or takes are never refused: rounds must go on for space to come
// back. Nor is what it holds already and somebody tries again. Where the bytes must tell whether that is so, since the update goes by
// their digest, full is the refusal for the case that it is not.
func (p *Peer) reserve(o offer, size int64) (release func(), full, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.ID != "" && p.holds(o.Session, ledger.Key{Combiner: o.Combiner, ID: o.ID}) {
		return func() {}, nil, nil
	}
	used := p.dir.Blobs().Usage() + p.reserved
	if most := p.cfg.MaxDisk; most > 0 && used+size > most {
		full := api.StorageFull(fmt.Sprintf("an update takes %d bytes, and %d of at most %d are used; there will be room when rounds become final",
			size, used, most), 5*time.Second)
		if o.ID == "" && p.mayRetry(o) {
			return func() {}, full, nil
		}
		return nil, nil, full
	}
	p.reserved += size
	return func() {
		p.mu.Lock()
		p.reserved -= size
		p.mu.Unlock()
	}, nil, nil
}

// holds reports whether this peer says that it holds an update. It is called with p.mu held.
func (p *Peer) holds(session ledger.SessionKey, key ledger.Key) bool {
	holders, _ := p.replica.Ledger().Session(session).Holders(key)
	return slices.Contains(holders, p.self)
}

// mayRetry reports whether this peer holds an update of the same combiner from the same base. It is called with p.mu held.
func (p *Peer) mayRetry(o offer) bool {
	s := p.replica.Ledger().Session(o.Session)
	return slices.ContainsFunc(s.Keys(), func(key ledger.Key) bool {
		return key.Combiner == o.Combiner && s.Known(key).Base == o.Base && p.holds(o.Session, key)
	})
}
