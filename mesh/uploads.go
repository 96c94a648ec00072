package mesh

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/upload"
)

// Updates that come by resumable upload go the way of all others: what Push does is done once, by a goroutine of the upload's own, and reads
// from whichever connection brings the bytes. The copy that is streamed to another peer meanwhile carries the upload's name, so
// that the peer is where the client goes on when the acceptor dies: it keeps what it has read, as an upload of that name, and
// becomes the acceptor of the rest. An update that it already holds is acknowledged there without a further byte.

// patientUpload is how long the stream of an upload may bring nothing: as long as the upload itself may.
const patientUpload = 10 * time.Minute

// Uploads implements api.Uploader.
func (p *Peer) Uploads() api.Uploads { return p.uploads }

func (p *Peer) pushingUpload(name string, req api.PushRequest) upload.Work {
	return &pushing{p: p, req: req, upload: name}
}

// Owner implements upload.Owned.
func (g *pushing) Owner() (session, combiner string) { return g.req.Session, g.req.Combiner }

// passedOn is an upload that another peer passes on to this one. It implements upload.Work.
type passedOn struct {
	pushing
}

// Owner implements upload.Owned.
func (g *passedOn) Owner() (session, combiner string) {
	return g.offer.Session.String(), g.offer.Combiner
}

// A copy of what the sender holds has been heard of before, and is none the less the first that comes of the update.
func (p *Peer) passedOn(o offer) *passedOn {
	return &passedOn{pushing{p: p, offer: o, before: p.vector(), duplicate: o.Model == nil}}
}

// Take holds the update here, as a copy.
func (g *passedOn) Take(ctx context.Context, body io.Reader) (err error) {
	g.known, err = g.p.takeCopy(api.WithRequest(ctx, g.req.Request), g.offer, body)
	return err
}

// Finish makes this peer the acceptor, for a client that comes here for its receipt.
func (g *passedOn) Finish(ctx context.Context) (api.Receipt, error) {
	p := g.p
	if err := p.Ready(); err != nil {
		return api.Receipt{}, api.NotReady(err)
	}
	p.accept(g.offer, g.known.Model)
	p.mu.Lock()
	g.copies = int(p.replica.Ledger().Session(g.offer.Session).Config().Copies)
	p.mu.Unlock()
	return g.pushing.Finish(ctx)
}

// takeUpload is takeCopy for an update that comes by upload. When the stream breaks, what was read of it waits for the client.
func (p *Peer) takeUpload(r *http.Request, o offer) (*ledger.UpdateHeld, error) {
	ctx := r.Context()
	work := p.passedOn(o)
	work.req.Request = api.RequestOf(ctx)
	if o.Model != nil { // a copy of what the sender holds: other bytes than the client's
		u, err := p.takeCopy(ctx, o, r.Body)
		if err != nil {
			return nil, err
		}
		work.known = u
		p.uploads.Kept(o.Upload, o.Length, work)
		return u, nil
	}
	body, ok := r.Body.(*patient)
	if !ok {
		return p.takeCopy(ctx, o, r.Body)
	}
	body.after = patientUpload
	if _, err := p.uploads.Join(ctx, o.Upload, o.Length, work); errors.Is(err, upload.ErrFull) {
		return p.takeCopy(ctx, o, r.Body)
	} else if err != nil {
		return nil, err
	}
	whole, err := p.uploads.Pass(ctx, o.Upload, body)
	if err == nil && !whole {
		err = api.Unavailable("the update broke off", time.Second)
	}
	if err != nil {
		return nil, err
	}
	return work.known, nil
}

// disown tells a peer that the upload passed on to it will not be gone on with from here.
func (p *Peer) disown(t target, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil { // then clients go on there
		return
	}
	p.wg.Go(func() {
		resp, err := p.call(p.ctx, http.MethodDelete, t, "uploads/"+name, nil, nil)
		if err != nil {
			p.log.Debug().Err(err).Str("peer", t.name).Msg("a peer keeps what was passed on to it until it expires")
			return
		}
		drain(resp.Body)
	})
}

// serveDisown forgets an upload that no client has asked for here.
func (p *Peer) serveDisown(w http.ResponseWriter, r *http.Request) {
	p.uploads.Drop(r.PathValue("upload"))
	w.WriteHeader(http.StatusNoContent)
}
