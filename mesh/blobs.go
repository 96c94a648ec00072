package mesh

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
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

// errNoHolder is returned when no peer in reach delivers a blob, errAbsent when all of them say that they do not have it.
var (
	errNoHolder = errors.New("mesh: no peer in reach delivers it")
	errAbsent   = errors.New("mesh: no peer in reach has it")
)

// fetch makes sure that a blob is here, taking it from the first of the peers that delivers it; a transfer that breaks off goes on
// at the next. One fetch of a blob runs at a time.
func (p *Peer) fetch(ctx context.Context, d model.Digest, from []target) error {
	for {
		if p.dir.Blobs().Has(d) {
			return nil
		}
		p.mu.Lock()
		other, busy := p.fetching[d]
		if !busy {
			p.fetching[d] = make(chan struct{})
		}
		p.mu.Unlock()
		if !busy {
			break
		}
		select {
		case <-other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() {
		p.mu.Lock()
		close(p.fetching[d])
		delete(p.fetching, d)
		p.mu.Unlock()
	}()
	w, err := p.dir.Blobs().Create()
	if err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	defer func() { w.Abort() }()
	h, have := model.NewHash(), int64(0)
	last, absent := errNoHolder, len(from) > 0
	for _, t := range from {
		n, err := p.download(ctx, d, t, w, h, have)
		have += n
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var refusal *api.Problem
			absent = absent && errors.As(err, &refusal) && refusal.Status == http.StatusNotFound
			last = err
			continue
		}
		if got := model.Digest(h.Sum(nil)); got != d {
			p.log.Error().Str("peer", t.name).Stringer("blob", d).Stringer("got", got).Msg("a peer delivered other bytes than it was asked for")
			last = fmt.Errorf("mesh: %s delivered %s for %s", t.name, got.Short(), d.Short())
			// What there is may be of several peers: all again, from the next.
			w.Abort()
			if w, err = p.dir.Blobs().Create(); err != nil {
				return fmt.Errorf("mesh: %w", err)
			}
			h.Reset()
			have, absent = 0, false
			continue
		}
		if err := w.Commit(ctx, d, false); err != nil {
			return fmt.Errorf("mesh: %w", err)
		}
		p.metrics.bytesIn.Add(float64(have))
		return nil
	}
	if absent {
		last = errAbsent
	}
	return fmt.Errorf("mesh: blob %s: %w", d.Short(), last)
}

// download appends what a peer has of a blob from have on, and returns how much that was; nil when that was all.
func (p *Peer) download(ctx context.Context, d model.Digest, t target, w *store.Writer, h hash.Hash, have int64) (int64, error) {
	resp, err := p.call(ctx, http.MethodGet, t, "blobs/"+d.String(), nil, func(r *http.Request) {
		if have > 0 {
			r.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		}
	})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if have > 0 && resp.StatusCode != http.StatusPartialContent {
		return 0, fmt.Errorf("mesh: %s does not resume", t.name)
	}
	return io.CopyBuffer(io.MultiWriter(w, h), struct{ io.Reader }{resp.Body}, make([]byte, copyBuffer))
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
