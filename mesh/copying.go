package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// hedgeAfter is how long a copy may take beyond the own one before another peer is asked for one too: a peer that stands still
// delays an acknowledgement no longer than that.
const hedgeAfter = 300 * time.Millisecond

// copying has an update held by other peers, while it arrives or after.
type copying struct {
	p          *Peer
	ctx        context.Context //nolint:containedctx // of the copies, which end with it
	cancel     context.CancelFunc
	offer      offer
	copies     int      // wanted, the own one included
	candidates []target // not asked yet, best first
	inFlight   int
	results    chan copyResult
	want       model.Digest // of the own copy, once that is whole
	copied     []target
	failed     []error
	gone       map[ledger.LogID]bool // they hold nothing new, even if gossip takes them for alive: nobody listens there, or they are being stopped
	claimed    map[ledger.LogID]bool // they have said that they hold it: it is enough that they show it
}

type copyResult struct {
	to   target
	held model.Digest
	err  error
}

func (p *Peer) newCopying(ctx context.Context, o offer, copies int) *copying {
	candidates := p.candidates(o)
	c := &copying{
		p: p, offer: o, copies: copies, candidates: candidates, results: make(chan copyResult, len(candidates)),
		gone: map[ledger.LogID]bool{},
	}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// retry is newCopying for an update that is held here, and perhaps by others, who come first.
func (p *Peer) retry(ctx context.Context, o offer, copies int, u *ledger.UpdateHeld) *copying {
	c := p.newCopying(ctx, o, copies)
	c.claimed = map[ledger.LogID]bool{}
	p.mu.Lock()
	for _, log := range p.replica.Ledger().Session(u.Session).HoldersOf(u) {
		c.claimed[log] = true
	}
	p.mu.Unlock()
	slices.SortStableFunc(c.candidates, func(a, b target) int {
		switch {
		case c.claimed[a.log] == c.claimed[b.log]:
			return 0
		case c.claimed[a.log]:
			return -1
		}
		return 1
	})
	return c
}

// shows returns nil when a peer has a blob.
func (p *Peer) shows(ctx context.Context, t target, d model.Digest) error {
	resp, err := p.call(ctx, http.MethodHead, t, "blobs/"+d.String(), nil, nil)
	if err == nil {
		drain(resp.Body)
	}
	return err
}

// candidates returns the peers that may hold a copy of an update, in an order that spreads updates over them: by a hash of the
// update's key and the peer.
func (p *Peer) candidates(o offer) []target {
	type ranked struct {
		target
		rank model.Digest
	}
	var rs []ranked
	for _, t := range p.others() {
		rs = append(rs, ranked{t, model.Sum(fmt.Appendf(nil, "%s/%s/%s/%s", o.Session, o.Combiner, o.ID, t.log))})
	}
	slices.SortFunc(rs, func(a, b ranked) int { return compareText(string(a.rank[:]), string(b.rank[:])) })
	out := make([]target, 0, len(rs))
	for _, r := range rs {
		out = append(out, r.target)
	}
	return out
}

// need is how many others are to hold the update: as many as the session asks for, or as live.
func (c *copying) need() int {
	living := 0
	for _, t := range c.p.others() {
		if !c.gone[t.log] {
			living++
		}
	}
	return min(c.copies-1, living)
}

// begin runs a copy to the best peer not asked yet; false when there is none.
func (c *copying) begin(send func(t target) (model.Digest, error)) bool {
	if len(c.candidates) == 0 {
		return false
	}
	t := c.candidates[0]
	c.candidates = c.candidates[1:]
	c.inFlight++
	go func() {
		held, err := send(t)
		c.results <- copyResult{t, held, err}
	}()
	return true
}

// stream sends the update on while it arrives.
func (c *copying) stream(fan *fanout) {
	c.begin(fan.outlet(func(t target, body io.Reader) (model.Digest, error) {
		d, err := c.p.sendCopy(c.ctx, t, c.offer, body)
		if err != nil && c.offer.Upload != "" {
			c.p.disown(t, c.offer.Upload)
		}
		return d, err
	}))
}

// complete returns once enough peers hold the update. Further ones are asked when a copy fails or takes long.
func (c *copying) complete(ctx context.Context, u *ledger.UpdateHeld) error {
	c.want = u.Model
	o := offerOf(u)
	o.Upload, o.Length = c.offer.Upload, c.offer.Length
	send := func(t target) (model.Digest, error) {
		if c.claimed[t.log] && c.p.shows(c.ctx, t, u.Model) == nil {
			return u.Model, nil
		}
		return u.Model, c.p.sendHeld(c.ctx, t, o)
	}
	hedge := time.NewTicker(hedgeAfter)
	defer hedge.Stop()
	for {
		c.p.mu.Lock()
		changed := c.p.observe()
		c.p.mu.Unlock()
		missing := c.need() - len(c.copied)
		if missing <= 0 {
			return nil
		}
		for c.inFlight < missing && c.begin(send) {
			continue
		}
		if c.inFlight == 0 {
			return api.Unavailable(fmt.Sprintf("%d of %d copies could not be made: %v", missing, c.copies, errors.Join(c.failed...)), time.Second)
		}
		select {
		case r := <-c.results:
			c.note(r)
		case <-hedge.C:
			c.begin(send)
		case <-changed: // somebody may have died
		case <-ctx.Done():
			return api.Unavailable("the copies took too long", time.Second)
		}
	}
}

func (c *copying) note(r copyResult) {
	c.inFlight--
	if r.err == nil && r.held != c.want && c.want != (model.Digest{}) {
		c.p.log.Error().Str("peer", r.to.name).Stringer("model", c.want).Stringer("got", r.held).Msg("a peer holds other bytes than it was sent")
		r.err = fmt.Errorf("mesh: %s holds %s, it was sent %s", r.to.name, r.held.Short(), c.want.Short())
	}
	if r.err == nil {
		c.copied = append(c.copied, r.to)
		return
	}
	c.failed = append(c.failed, r.err)
	if takesNothing(r.err) {
		c.gone[r.to.log] = true
	}
}

// end breaks off the copies under way and waits for them.
func (c *copying) end() {
	c.cancel()
	for c.inFlight > 0 {
		c.note(<-c.results)
	}
}

// copyTo has another peer hold an update that is here.
func (p *Peer) copyTo(ctx context.Context, t target, u *ledger.UpdateHeld) error {
	return p.sendHeld(ctx, t, offerOf(u))
}

// offerOf is the offer of an update that is held.
func offerOf(u *ledger.UpdateHeld) offer {
	o := offer{
		Session: u.Session, Combiner: u.Combiner, ID: u.ID, Weight: u.Weight, Base: u.Base, BaseRound: u.BaseRound, Metrics: map[string]float64{}, Model: &u.Model,
	}
	for _, m := range u.Metrics {
		o.Metrics[m.Name] = m.Value
	}
	return o
}

// sendHeld is sendCopy for an update that is here.
func (p *Peer) sendHeld(ctx context.Context, t target, o offer) error {
	b, err := p.open(*o.Model)
	if err != nil {
		return err
	}
	defer b.Close()
	_, err = p.sendCopy(ctx, t, o, io.NewSectionReader(b, 0, b.Size()))
	return err
}

// sendCopy sends a body to a peer, which holds it, and returns what it holds.
func (p *Peer) sendCopy(ctx context.Context, t target, o offer, body io.Reader) (d model.Digest, err error) {
	header, err := json.Marshal(o)
	if err != nil {
		return d, fmt.Errorf("mesh: %w", err)
	}
	path := "updates/" + o.Session.String() + "/" + url.PathEscape(o.Combiner)
	resp, err := p.call(ctx, http.MethodPut, t, path, &watched{Reader: body}, func(r *http.Request) {
		r.Header.Set(headerUpdate, string(header))
		r.Header.Set("Content-Type", "application/octet-stream")
	})
	if err != nil {
		return d, err
	}
	defer drain(resp.Body)
	var h held
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4096)).Decode(&h); err != nil {
		return d, fmt.Errorf("mesh: %s: %w", t.name, err)
	}
	return h.Digest, nil
}
