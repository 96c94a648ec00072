package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

// madeModel is a model that this peer computed and serves. Combiners may train from it at once, but the others hear of it only with
// the peer's word, which waits for the disk; and when the round is amended meanwhile, the replica has no word to give for the older
// version. So the peer keeps in made.json what it served, also over a restart, and says so late (lateWords): an update that was
// trained from it finds its base. The file need not outlive a loss of power, as the model itself does not.
type madeModel struct {
	Session ledger.SessionKey `json:"session"`
	Round   uint64            `json:"round"`
	Inputs  model.Digest      `json:"inputs"`
	Model   model.Digest      `json:"model"`
	State   model.Digest      `json:"state"`
	Most    uint64            `json:"most"`

	durable bool
}

// loadMade is called with p.mu held.
func (p *Peer) loadMade() error {
	var list []madeModel
	switch err := p.dir.LoadJSON("made", &list); {
	case errors.Is(err, store.ErrCorrupt): // after a loss of power, which takes such models too
		p.log.Warn().Err(err).Msg("which models were served last is not known any more")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("mesh: %w", err)
	}
	for _, m := range list {
		if p.dir.Blobs().Has(m.Model) {
			p.made[m.Model] = m
		}
	}
	return nil
}

// noteMade remembers a model that is about to be served.
func (p *Peer) noteMade(m madeModel) error {
	p.notes.Lock()
	defer p.notes.Unlock()
	p.mu.Lock()
	p.made[m.Model] = m
	list := p.madeModels()
	p.mu.Unlock()
	if err := p.dir.SaveHint("made", list); err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	return nil
}

// madeModels returns them in order. It is called with p.mu held.
func (p *Peer) madeModels() []madeModel {
	return slices.SortedFunc(maps.Values(p.made), func(a, b madeModel) int { return bytes.Compare(a.Model[:], b.Model[:]) })
}

// lateWords appends this peer's word for models that it served as versions of rounds which have been amended since, and forgets the
// models that the ledger knows. It is called with p.mu held.
func (p *Peer) lateWords() []*ledger.Entry {
	var es []*ledger.Entry
	for _, m := range p.madeModels() {
		s := p.replica.Ledger().Session(m.Session)
		if s == nil || m.Round >= s.Open() {
			continue
		}
		if _, known := s.RoundOf(m.Model); known {
			delete(p.made, m.Model)
			continue
		}
		if s.Round(m.Round).Inputs == m.Inputs || !m.durable {
			continue
		}
		e, err := p.replica.Append(&ledger.RoundComputed{
			Session: m.Session, Round: m.Round, Inputs: m.Inputs, Result: ledger.Result{Model: m.Model, State: m.State}, Most: m.Most, Seen: p.replica.Ledger().Vector().Clone(),
		})
		if err != nil { // the log has ended: the peer is leaving
			return es
		}
		delete(p.made, m.Model)
		es = append(es, e)
	}
	return es
}
