package mesh

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"time"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

const copyBuffer = 512 << 10

// serveBlob sends a model file.
func (p *Peer) serveBlob(w http.ResponseWriter, r *http.Request) {
	d, err := model.ParseDigest(r.PathValue("digest"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	b, err := p.dir.Blobs().Open(d)
	if err != nil {
		refuse(w, http.StatusNotFound, fmt.Errorf("mesh: no blob %s here", d.Short()))
		return
	}
	defer b.Close()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+d.String()+`"`)
	http.ServeContent(w, r, "", time.Time{}, b)
}

// fetchModel makes sure that a model of a session is here and lets the replica know.
func (p *Peer) fetchModel(ctx context.Context, d model.Digest, from []target) error {
	if err := p.fetch(ctx, d, from); err != nil {
		return err
	}
	p.mu.Lock()
	p.replica.HoldModel(d, false)
	p.mu.Unlock()
	p.syncModel(d)
	p.wake()
	return nil
}

// fetchResult is fetchModel for a model and the server state that goes with it.
func (p *Peer) fetchResult(ctx context.Context, res ledger.Result, from []target) error {
	release := p.pin(res.State, res.Model)
	defer release()
	if !res.State.IsZero() {
		if err := p.fetchModel(ctx, res.State, from); err != nil {
			return err
		}
	}
	return p.fetchModel(ctx, res.Model, from)
}

// syncResult is syncModel for a model and the server state that goes with it.
func (p *Peer) syncResult(res ledger.Result) {
	if !res.State.IsZero() {
		p.syncModel(res.State)
	}
	p.syncModel(res.Model)
}

// syncAll makes blobs durable. One that is not here is not needed any more.
func (p *Peer) syncAll(ctx context.Context, ds []model.Digest) error {
	for _, d := range ds {
		if err := p.dir.Blobs().Sync(ctx, d); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("mesh: %w", err)
		}
	}
	return nil
}

// syncModel makes a model durable in the background; only then does the replica give its word for it.
func (p *Peer) syncModel(d model.Digest) {
	p.mu.Lock()
	known := p.syncing[d]
	p.syncing[d] = true
	closed := p.ctx.Err() != nil
	if !known && !closed {
		p.wg.Go(func() { p.makeDurable(d) })
	}
	p.mu.Unlock()
}

func (p *Peer) makeDurable(d model.Digest) {
	err := p.dir.Blobs().Sync(p.ctx, d)
	p.mu.Lock()
	delete(p.syncing, d)
	if err == nil {
		p.replica.HoldModel(d, true)
		if m, ok := p.made[d]; ok {
			m.durable = true
			p.made[d] = m
		}
	}
	p.mu.Unlock()
	switch {
	case err == nil:
		p.wake()
	case p.ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist):
		p.log.Error().Err(err).Stringer("model", d).Msg("a model could not be made durable")
	}
}

// open opens a blob that must be here.
func (p *Peer) open(d model.Digest) (*store.Blob, error) {
	b, err := p.dir.Blobs().Open(d)
	if err != nil {
		return nil, fmt.Errorf("mesh: model %s: %w", d.Short(), err)
	}
	return b, nil
}
