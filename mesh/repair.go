package mesh

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// repairLoop looks now and then for updates with too few living holders, and for bytes and entries that
// nobody needs any more.
func (p *Peer) repairLoop() {
	for {
		timer := time.NewTimer(p.cfg.RepairEvery/2 + rand.N(p.cfg.RepairEvery))
		select {
		case <-p.ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		if p.Ready() != nil {
			continue
		}
		p.fetchSeeds()
		for _, c := range p.thin() {
			if p.ctx.Err() != nil {
				return
			}
			p.mend(c)
		}
		p.collect()
		p.compact()
	}
}

// fetchSeeds gets the seeds of sessions that were opened while this peer was away; the replica asks for them too, but only where
// it has work.
func (p *Peer) fetchSeeds() {
	p.mu.Lock()
	var want []model.Digest
	for _, s := range p.replica.Ledger().Sessions() {
		if !p.dir.Blobs().Has(s.Seed()) {
			want = append(want, s.Seed())
		}
	}
	p.mu.Unlock()
	for _, d := range want {
		if err := p.fetchModel(p.ctx, d, p.others()); err != nil && p.ctx.Err() == nil {
			p.log.Debug().Err(err).Msg("a seed is not to be had")
		}
	}
}

// thinUpdate is an update that is here and has too few living holders.
type thinUpdate struct {
	update *ledger.UpdateHeld
	to     []target // who could hold it; empty: this peer itself does not say yet that it does
}

// thin finds the updates of rounds that are not final which this peer has to copy: the first living holder copies, and a peer that
// kept the bytes for computing becomes a holder itself.
func (p *Peer) thin() []thinUpdate {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []thinUpdate
	living := p.living()
	for _, s := range p.replica.Ledger().Sessions() {
		want := min(int(s.Config().Copies), len(living)+1)
		for _, key := range s.Keys() {
			u := s.Known(key)
			if isFinal(s, key) || !p.dir.Blobs().Has(u.Model) || !p.dir.Blobs().Has(u.Base) {
				continue
			}
			holders := slices.DeleteFunc(s.HoldersOf(u), func(log ledger.LogID) bool { return !p.replica.Alive(log) })
			if len(holders) >= want {
				continue
			}
			if !slices.Contains(holders, p.self) {
				out = append(out, thinUpdate{update: u})
				continue
			}
			if holders[0] != p.self {
				continue
			}
			c := thinUpdate{update: u}
			for _, t := range living {
				if !slices.Contains(holders, t.log) {
					c.to = append(c.to, t)
				}
			}
			out = append(out, c)
		}
	}
	return out
}

func (p *Peer) mend(c thinUpdate) {
	var err error
	if len(c.to) == 0 {
		_, _, err = p.hold(p.ctx, nil, c.update, true)
	}
	for _, t := range c.to {
		if err = p.copyTo(p.ctx, t, c.update); err == nil {
			break
		}
	}
	if err != nil && p.ctx.Err() == nil {
		p.log.Debug().Err(err).Str("combiner", c.update.Combiner).Str("id", c.update.ID).Msg("an update could not be copied")
		return
	}
	p.metrics.repaired.Inc()
}

// needed returns the blobs that must stay: models as Config.KeepModels says, the server states from the last final round on, and the updates of
// rounds that are not final, with their bases. It is called with p.mu held.
func (p *Peer) needed() map[model.Digest]bool {
	out := map[model.Digest]bool{}
	for d, m := range p.made {
		out[d], out[m.State] = true, true
	}
	for _, s := range p.replica.Ledger().Sessions() {
		for _, d := range p.keptModels(s) {
			out[d] = true
		}
		final := p.finalHere(s)
		for n := final; n < s.Open(); n++ { // computed here, and perhaps not said yet
			if res, ok := p.replica.ResultOf(s, n); ok {
				out[res.Model], out[res.State] = true, true
			}
		}
		for _, res := range s.Results(final) {
			out[res.State] = true
		}
		for _, key := range s.Keys() {
			if n, placed := s.PlacedIn(key); placed && p.replica.Done(s, n) {
				continue
			}
			for _, u := range s.Versions(key) {
				out[u.Model], out[u.Base] = true, true
			}
		}
	}
	return out
}

// collect deletes what is needed no longer.
func (p *Peer) collect() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.synced {
		return
	}
	for session, keys := range p.accepted {
		s := p.replica.Ledger().Session(session)
		maps.DeleteFunc(keys, func(key ledger.Key, _ bool) bool { return s == nil || isFinal(s, key) })
	}
	needed := p.needed()
	for _, d := range p.dir.Blobs().List() {
		if needed[d] || p.pins[d] > 0 {
			continue
		}
		if err := p.dir.Blobs().Remove(d); err != nil {
			if skipped, due := p.said.again("delete"); due {
				p.log.Warn().Err(err).Stringer("model", d).Int("skipped", skipped).Msg("a file could not be deleted")
			}
			continue
		}
		p.replica.DropModel(d)
	}
}
