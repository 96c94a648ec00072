package mesh

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// identity is kept in identity.json: which log is this peer's own.
type identity struct {
	Log  string `json:"log"`
	Mesh string `json:"mesh"`
}

// load rebuilds the ledger from the directory. All admitted entries, the own and the others', are in one log of records in the
// order of their admission, so that what an own entry names is durable before that entry is.
func (p *Peer) load() error {
	var id identity
	var self ledger.LogID
	err := p.dir.LoadJSON("identity", &id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if self, err = p.newIdentity(); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("mesh: %w", err)
	case id.Mesh != p.cfg.Mesh:
		return fmt.Errorf("mesh: data directory %s belongs to mesh %q, not %q; give this peer another one", p.cfg.DataDir, id.Mesh, p.cfg.Mesh)
	default:
		if self, err = ledger.ParseLogID(id.Log); err != nil {
			return fmt.Errorf("mesh: identity.json: %w", err)
		}
	}
	l := ledger.New()
	err = p.dir.Log().Replay(func(r io.Reader, _ uint64) error {
		n, err := ledger.DecodeSnapshot(r, maxSnapshot)
		if err != nil {
			return err
		}
		_, err = l.Merge(n)
		return err
	}, func(rec []byte) error {
		if bytes.Equal(rec, nothing) {
			return nil
		}
		e, err := ledger.DecodeEntry(append([]byte(nil), rec...))
		if err != nil {
			return err
		}
		_, err = l.Add(e)
		return err
	})
	if err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.adopt(l, self)
	return p.loadMade()
}

func (p *Peer) newIdentity() (ledger.LogID, error) {
	var self ledger.LogID
	if _, err := rand.Read(self[:]); err != nil {
		return self, fmt.Errorf("mesh: %w", err)
	}
	if err := p.dir.SaveJSON("identity", identity{Log: self.String(), Mesh: p.cfg.Mesh}); err != nil {
		return self, fmt.Errorf("mesh: %w", err)
	}
	return self, nil
}

// adopt makes self the log that this peer writes. It is called with p.mu held.
func (p *Peer) adopt(l *ledger.Ledger, self ledger.LogID) {
	p.self, p.own = self, l.Vector()[self]
	p.replica = ledger.NewReplica(l, self)
	for _, d := range p.dir.Blobs().List() {
		p.replica.HoldModel(d, false)
	}
}

// write appends admitted entries to the log of records and returns the number to wait for. It is called with p.mu held, so that
// records have the order of admissions.
func (p *Peer) write(es []*ledger.Entry) (uint64, error) {
	var pos uint64
	for _, e := range es {
		n, err := p.dir.Log().Append(e.Raw)
		if err != nil {
			p.breakDown(fmt.Errorf("mesh: %w", err))
			return 0, err
		}
		pos = n
		p.reactTo(e)
	}
	return pos, nil
}

// breakDown takes the peer out of service: it must not go on with a ledger that its disk does not follow. It is called with
// p.mu held.
func (p *Peer) breakDown(err error) {
	if p.broken == nil {
		p.broken = err
		p.log.Error().Err(err).Msg("this peer takes no part any more; repair the cause and start it again")
	}
}

// publish waits until own entries are durable and then shows them to the others.
func (p *Peer) publish(ctx context.Context, pos uint64, es []*ledger.Entry) error {
	if len(es) == 0 {
		return nil
	}
	began := time.Now()
	if err := p.dir.Log().Sync(ctx, pos); err != nil {
		if ctx.Err() == nil {
			p.mu.Lock()
			p.breakDown(fmt.Errorf("mesh: %w", err))
			p.show(p.own)
			p.mu.Unlock()
		}
		return fmt.Errorf("mesh: %w", err)
	}
	p.log.Debug().Int("entries", len(es)).Uint8("first", uint8(es[0].Body.Kind())).Dur("took", time.Since(began)).Msg("entries are durable")
	p.mu.Lock()
	g := p.gossip
	p.show(es[len(es)-1].Seq)
	p.timeWords(es)
	p.mu.Unlock()
	if g != nil {
		for _, e := range es {
			g.Broadcast(append([]byte{msgEntry}, e.Raw...))
		}
	}
	return nil
}

// show lets others see own entries up to seq, and wakes who waits for that. It is called with p.mu held.
func (p *Peer) show(seq uint64) {
	p.own = max(p.own, seq)
	if p.shown != nil {
		close(p.shown)
		p.shown = nil
	}
}

// say appends facts to the own log and returns when they are durable and shown, as are those that were said before. When ctx ends it returns
// earlier, and they are shown all the same. check, unless nil, is called first with p.mu held; its error is returned and nothing is said.
func (p *Peer) say(ctx context.Context, check func() ([]ledger.Body, error)) error {
	p.mu.Lock()
	if p.broken != nil {
		defer p.mu.Unlock()
		return api.NotReady(p.broken)
	}
	bodies, err := check()
	if err != nil {
		p.mu.Unlock()
		return err
	}
	var es []*ledger.Entry
	for _, b := range bodies {
		e, err := p.replica.Append(b)
		if err != nil {
			p.mu.Unlock()
			return err
		}
		es = append(es, e)
	}
	pos, err := p.write(es)
	if err != nil {
		p.mu.Unlock()
		return storageProblem(fmt.Errorf("mesh: %w", err))
	}
	if len(es) == 0 {
		err := p.awaitShown(ctx, p.replica.Ledger().Vector()[p.self])
		p.mu.Unlock()
		return storageProblem(err)
	}
	p.notify()
	done := make(chan error, 1)
	if p.ctx.Err() == nil { // not with ctx: what is appended must be shown, though the request that it is said for ends
		p.wg.Go(func() { done <- p.publish(p.ctx, pos, es) })
	} else {
		done <- api.NotReady(errClosed)
	}
	p.mu.Unlock()
	p.wake()
	select {
	case err = <-done:
	case <-ctx.Done():
		err = fmt.Errorf("mesh: %w", ctx.Err())
	}
	return storageProblem(err)
}

// awaitShown waits until own entries up to seq are shown. It is called with p.mu held, and gives it up meanwhile.
func (p *Peer) awaitShown(ctx context.Context, seq uint64) error {
	for p.own < seq {
		if p.broken != nil {
			return api.NotReady(p.broken)
		}
		if p.shown == nil {
			p.shown = make(chan struct{})
		}
		shown := p.shown
		p.mu.Unlock()
		var err error
		select {
		case <-shown:
		case <-ctx.Done():
			err = ctx.Err()
		case <-p.ctx.Done():
			err = api.NotReady(errClosed)
		}
		p.mu.Lock()
		if err != nil {
			return fmt.Errorf("mesh: %w", err)
		}
	}
	return nil
}

// errClosed is why a peer that was closed says nothing more.
var errClosed = errors.New("this peer has stopped")

// admit merges entries of other peers. What becomes admitted by them is written but not waited for.
func (p *Peer) admit(es []*ledger.Entry) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return p.broken
	}
	news := false
	for _, e := range es {
		if e.Log == p.self && e.Seq > p.replica.Ledger().Vector()[p.self] {
			// Somebody knows more of this peer's log than it does itself.
			if p.joined {
				p.breakDown(fmt.Errorf("mesh: entry %d of this peer's own log comes from outside: another process runs on a copy of %s; stop one of them and give it an empty data directory", e.Seq, p.cfg.DataDir))
				return p.broken
			}
			continue
		}
		admitted, err := p.replica.Ledger().Add(e)
		if _, werr := p.write(admitted); werr != nil {
			return werr
		}
		news = news || len(admitted) > 0
		if err != nil {
			p.forked(e, err)
		}
	}
	if news {
		p.notify()
		p.wake()
	}
	return nil
}

// forked reports an entry that contradicts the ledger. It is called with p.mu held.
func (p *Peer) forked(e *ledger.Entry, err error) {
	if !errors.Is(err, ledger.ErrForked) {
		p.refuseEntry(err)
		return
	}
	name := p.nameOf(e.Log)
	p.metrics.forks.Inc()
	p.log.Error().Err(err).Str("peer", name).Msg("a peer's log has two contents: its data directory was copied; it is refused")
	if e.Log == p.self {
		p.breakDown(err)
	}
}

// pin keeps a blob from being deleted until the returned function is called.
func (p *Peer) pin(ds ...model.Digest) (release func()) {
	p.mu.Lock()
	for _, d := range ds {
		p.pins[d]++
	}
	p.mu.Unlock()
	return func() {
		p.mu.Lock()
		for _, d := range ds {
			if p.pins[d]--; p.pins[d] == 0 {
				delete(p.pins, d)
			}
		}
		p.mu.Unlock()
	}
}
