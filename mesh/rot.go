package mesh

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

// Bytes on a disk may change by themselves. A blob is read at each start, and now and then while the peer runs; one that is not what its
// name says is set aside in the folder damaged, and had from another peer again. What this peer held and can no longer
// deliver it takes back.

// scrubRate is how many bytes a second are read to look for damage.
const scrubRate = 16 << 20

// inspect reports whether a blob is here and is what its name says. One that is damaged is set aside.
func (p *Peer) inspect(d model.Digest) error {
	err := p.dir.Blobs().Verify(p.ctx, d)
	if !errors.Is(err, store.ErrCorrupt) {
		return err
	}
	path, moved := p.dir.Blobs().SetAside(d)
	p.mu.Lock()
	p.replica.DropModel(d)
	p.mu.Unlock()
	p.metrics.damaged.Inc()
	p.events.warn("blob "+d.Short(), "its bytes on this disk have changed by themselves; it is fetched again")
	p.log.Error().Err(errors.Join(err, moved)).Stringer("model", d).Str("file", path).Msg("a blob is damaged and was set aside; look after this disk")
	p.wake()
	return err
}

// inspectModels looks at the models and states that the next rounds are made from.
func (p *Peer) inspectModels() {
	var ds []model.Digest
	p.mu.Lock()
	for _, s := range p.replica.Ledger().Sessions() {
		ds = append(ds, s.Seed())
		for n := s.Final(); n < s.Open(); n++ {
			if res, ok := p.replica.ResultOf(s, n); ok {
				ds = append(ds, res.Model, res.State)
			}
		}
	}
	p.mu.Unlock()
	seen := map[model.Digest]bool{}
	for _, d := range ds {
		if !seen[d] && p.dir.Blobs().Has(d) {
			_ = p.inspect(d) // it says what it finds
		}
		seen[d] = true
	}
}

// inspectUpdates looks at the updates that this peer holds for rounds that are not final, and their bases, and returns what is to be taken
// back.
func (p *Peer) inspectUpdates() []ledger.Body {
	var out []ledger.Body
	bases := map[model.Digest]error{}
	for _, u := range p.holdings(model.Digest{}) {
		err := p.inspect(u.Model)
		if err == nil {
			base, seen := bases[u.Base]
			if !seen {
				base = p.inspect(u.Base)
				bases[u.Base] = base
			}
			if err = base; err != nil {
				err = fmt.Errorf("its base: %w", err)
			}
		}
		if err == nil {
			continue
		}
		if p.ctx.Err() != nil {
			return nil
		}
		p.log.Warn().Err(err).Str("session", p.sessionName(u.Session)).Str("combiner", u.Combiner).Str("id", u.ID).Msg("an update is no longer here")
		out = append(out, dropped(u))
	}
	return out
}

func dropped(u *ledger.UpdateHeld) *ledger.UpdateDropped {
	return &ledger.UpdateDropped{Session: u.Session, Combiner: u.Combiner, ID: u.ID}
}

// holdings returns the updates that this peer says it holds, of rounds that are not final: those made of a blob, be it as their base, or all for the
// zero digest.
func (p *Peer) holdings(d model.Digest) []*ledger.UpdateHeld {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*ledger.UpdateHeld
	for _, s := range p.replica.Ledger().Sessions() {
		for _, key := range s.Keys() {
			holders, u := s.Holders(key)
			if slices.Contains(holders, p.self) && !isFinal(s, key) && (d == model.Digest{} || u.Model == d || u.Base == d) {
				out = append(out, u)
			}
		}
	}
	return out
}

// scrubLoop reads one blob after the other, slowly, for ever.
func (p *Peer) scrubLoop() {
	var last model.Digest
	wait := p.cfg.RepairEvery
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = p.cfg.RepairEvery
		if p.Ready() != nil {
			continue
		}
		d, ok := after(p.dir.Blobs().List(), last)
		if !ok {
			continue
		}
		last = d
		size, err := p.dir.Blobs().Size(d)
		if err != nil {
			continue
		}
		wait = max(wait, time.Duration(size)*time.Second/scrubRate)
		if !errors.Is(p.inspect(d), store.ErrCorrupt) {
			continue
		}
		if lost := p.holdings(d); len(lost) > 0 {
			err := p.say(p.ctx, func() ([]ledger.Body, error) {
				var out []ledger.Body
				for _, u := range lost {
					out = append(out, dropped(u))
				}
				return out, nil
			})
			if err != nil && p.ctx.Err() == nil {
				p.log.Error().Err(err).Msg("damaged updates could not be taken back")
			}
		}
		if err := p.fetchModel(p.ctx, d, p.others()); err != nil && p.ctx.Err() == nil {
			p.log.Warn().Err(err).Stringer("model", d).Msg("no peer in reach has what was damaged here")
		}
	}
}

// after returns the first of ascending digests that is beyond d, else the first.
func after(ds []model.Digest, d model.Digest) (model.Digest, bool) {
	if len(ds) == 0 {
		return d, false
	}
	for _, e := range ds {
		if slices.Compare(e[:], d[:]) > 0 {
			return e, true
		}
	}
	return ds[0], true
}
