package mesh

import (
	"fmt"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// reserve makes sure that an update of this many bytes fits under Config.MaxDisk, with those that are arriving too. release is called when
// it has arrived or is refused. Models that the peer itself makes or takes are never
// refused: rounds must go on for space to come back.
func (p *Peer) reserve(size int64) (release func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	used := p.dir.Blobs().Usage() + p.reserved
	if most := p.cfg.MaxDisk; most > 0 && used+size > most {
		return nil, api.StorageFull(fmt.Sprintf("an update takes %d bytes, and %d of at most %d are used; there will be room when rounds become final",
			size, used, most), 5*time.Second)
	}
	p.reserved += size
	return func() {
		p.mu.Lock()
		p.reserved -= size
		p.mu.Unlock()
	}, nil
}
