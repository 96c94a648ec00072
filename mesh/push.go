package mesh

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// Push implements api.Backend: it accepts an update once as many peers hold it as the session asks for, or as are alive.
//
// While the body arrives it is sent on to the other holders; all of them read, check and store it for themselves, and their logs
// are synced in parallel.
func (p *Peer) Push(ctx context.Context, req api.PushRequest) (api.Receipt, error) {
	g := &pushing{p: p, req: req}
	if err := g.Take(ctx, req.Body); err != nil {
		return api.Receipt{}, err
	}
	return g.Finish(ctx)
}

// pushing is an update on its way. It implements upload.Work.
type pushing struct {
	p      *Peer
	req    api.PushRequest
	upload string // name of the upload it comes by, if it does

	offer     offer
	copies    int
	before    ledger.Vector      // what was held here before it
	copying   *copying           // begun while it arrived; nil once it has ended
	known     *ledger.UpdateHeld // once it is held here
	duplicate bool
	durable   bool // whatever becomes of the others

	began, whole time.Time // when it began to come, and when its last byte was here; zero where it came from another peer
}

// Take holds the update here. Copies at other peers are under way then, until Finish.
func (g *pushing) Take(ctx context.Context, body io.Reader) error {
	ctx = api.WithRequest(ctx, g.req.Request)
	g.began = time.Now()
	err := g.take(ctx, body)
	if err != nil {
		g.refused(ctx, err)
	}
	return err
}

func (g *pushing) take(ctx context.Context, body io.Reader) error {
	p := g.p
	if err := p.Ready(); err != nil {
		return api.NotReady(err)
	}
	var err error
	if g.offer, g.copies, err = p.offer(g.req); err != nil {
		return err
	}
	o := &g.offer
	if g.upload != "" {
		o.Upload, o.Length = g.upload, g.req.Length
	}
	release := p.pin(o.Base)
	defer release()
	if p.counted(*o) {
		g.copies = 1 // nobody needs its bytes any more, nor its base
	} else if err := p.fetchBase(ctx, *o); err != nil {
		return err
	}
	st, err := p.prepare(o.Session)
	if err != nil {
		return api.Unavailable(err.Error(), time.Second)
	}
	g.before = p.vector()

	c := p.newCopying(ctx, *o, g.copies)
	others := min(c.need(), len(c.candidates))
	fan := &fanout{Reader: body, start: func(fan *fanout) {
		for range others {
			c.stream(fan)
		}
	}}
	g.durable = others == 0
	w, d, err := p.receive(st, *o, fan, g.durable)
	if err == nil {
		_, err = io.Copy(io.Discard, fan) // the end of the body, for the others
	}
	fan.finish(err)
	if err == nil {
		g.whole = time.Now()
		p.metrics.push.WithLabelValues("receive").Observe(g.whole.Sub(g.began).Seconds())
		defer w.Abort()
		p.accept(*o, d)
		g.known, g.duplicate, err = p.hold(ctx, w, o.update(d, st.spec.Layout().Size()), g.durable)
	}
	if err != nil {
		c.end()
		return err
	}
	p.metrics.push.WithLabelValues("sync").Observe(time.Since(g.whole).Seconds())
	g.copying = c
	return nil
}

// Finish sees to the copies and returns the receipt. After a failure it may be called again.
func (g *pushing) Finish(ctx context.Context) (api.Receipt, error) {
	p, c := g.p, g.copying
	ctx = api.WithRequest(ctx, g.req.Request)
	if c == nil {
		c = p.retry(ctx, g.offer, g.copies, g.known)
	}
	g.copying = nil
	var err error
	over := p.isOver(g.known)
	if !over {
		err = c.complete(ctx, g.known)
	}
	if err == nil && len(c.copied) > 0 {
		g.lap("copy")
	}
	c.end()
	if err == nil && len(c.copied) == 0 && !g.durable && !over {
		// The only holder after all: then the bytes must outlive a power cut.
		err = storageProblem(p.syncAll(p.ctx, []model.Digest{g.known.Model, g.known.Base}))
	}
	if err != nil {
		g.refused(ctx, err)
		return api.Receipt{}, err
	}
	r := p.receipt(g.known, c.copied, g.duplicate && p.heldWithin(g.known, g.before))
	result := "accepted"
	if r.Duplicate {
		result = "duplicate"
	}
	p.metrics.updates.WithLabelValues(result).Inc()
	g.lap("acknowledge")
	e := p.log.Debug().Str("request", api.RequestOf(ctx)).Str("session", r.Session).Str("combiner", r.Combiner).Str("id", r.ID).
		Str("model", r.Digest).Uint64("bytes", g.known.Bytes).Strs("copies", r.Copies).Bool("duplicate", r.Duplicate)
	if !g.began.IsZero() {
		e = e.Dur("took", time.Since(g.began))
	}
	e.Msg("an update was accepted")
	return r, nil
}

// lap notes how long after its last byte an update that came to this peer is as far as a phase says.
func (g *pushing) lap(phase string) {
	if !g.whole.IsZero() {
		g.p.metrics.push.WithLabelValues(phase).Observe(time.Since(g.whole).Seconds())
	}
}

// refused counts an update that is not accepted. Why is the client's to know, and what it could not know the server logs.
func (g *pushing) refused(ctx context.Context, err error) {
	g.p.metrics.updates.WithLabelValues("refused").Inc()
	g.p.log.Debug().Err(err).Str("request", api.RequestOf(ctx)).Str("session", g.req.Session).Str("combiner", g.req.Combiner).Str("id", g.req.ID).
		Msg("an update was refused")
}

// isOver reports whether an update is in a final round: its bytes are not needed any more, and may be gone.
func (p *Peer) isOver(u *ledger.UpdateHeld) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return isFinal(p.replica.Ledger().Session(u.Session), u.Key())
}

// vector is what this peer holds now.
func (p *Peer) vector() ledger.Vector {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.replica.Ledger().Vector().Clone()
}

// heldWithin tells an update that is pushed again from one whose copies were faster than this peer itself: another peer may hold,
// and say so, what is streamed to it before the push's own bytes are committed here.
func (p *Peer) heldWithin(u *ledger.UpdateHeld, cut ledger.Vector) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.replica.Ledger().Session(u.Session).HeldWithin(u.Key(), cut)
}

// offer checks what a push says of itself, and finds the round of its base.
func (p *Peer) offer(req api.PushRequest) (o offer, copies int, err error) {
	p.mu.Lock()
	s, _, err := p.resolve(req.Session)
	if err != nil {
		p.mu.Unlock()
		return o, 0, err
	}
	o = offer{Session: s.Key(), Combiner: req.Combiner, ID: req.ID, Weight: uint64(req.Weight), Metrics: req.Metrics}
	copies = int(s.Config().Copies)
	known := s.Known(ledger.Key{Combiner: o.Combiner, ID: o.ID})
	if known == nil && !p.replica.Accepting(s) {
		p.mu.Unlock()
		return o, 0, api.ClosedSession(s.Name(), api.SessionClosed)
	}
	if req.Base == "" {
		var ok bool
		if o.BaseRound, o.Base, ok = p.replica.Current(s); !ok {
			p.mu.Unlock()
			return o, 0, api.Unavailable("this peer does not hold the session's model yet", time.Second)
		}
		p.mu.Unlock()
		return o, copies, nil
	}
	p.mu.Unlock()
	if o.Base, err = model.ParseDigest(req.Base); err != nil {
		return o, 0, api.InvalidRequest("base", err)
	}
	if o.BaseRound, err = p.roundOfBase(s, o.Base); err != nil {
		return o, 0, err
	}
	if o.ID == "" {
		o.ID = api.DefaultID(o.BaseRound, o.Base)
	}
	return o, copies, nil
}

// counted reports whether an update is known to be in a final round.
func (p *Peer) counted(o offer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return o.ID != "" && isFinal(p.replica.Ledger().Session(o.Session), ledger.Key{Combiner: o.Combiner, ID: o.ID})
}

// roundOfBase returns the round that made a base.
func (p *Peer) roundOfBase(s *ledger.Session, d model.Digest) (uint64, error) {
	var round uint64
	if !p.askAround(p.ctx, func() (ok bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		round, ok = p.roundOf(s, d)
		return ok
	}) {
		return 0, api.UnknownBase(d.String(), time.Second)
	}
	return round, nil
}

// fetchBase makes sure that an offer's base is here.
func (p *Peer) fetchBase(ctx context.Context, o offer) error {
	err := p.fetchModel(ctx, o.Base, p.others())
	switch {
	case err == nil:
		return nil
	case p.isGone(o.Session, o.BaseRound, err):
		return api.BaseGone(o.Base.String())
	default:
		return api.UnknownBase(o.Base.String(), time.Second)
	}
}

// accept notes that a combiner pushed an update to this very peer, before anybody hears of it: the peer's seal may follow at once, and with it
// the sum of what it accepted.
func (p *Peer) accept(o offer, d model.Digest) {
	key := ledger.Key{Combiner: o.Combiner, ID: o.ID}
	if key.ID == "" {
		key.ID = d.String()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.accepted[o.Session] == nil {
		p.accepted[o.Session] = map[ledger.Key]bool{}
	}
	p.accepted[o.Session][key] = true
}

// receipt tells who holds an update that was just accepted.
func (p *Peer) receipt(u *ledger.UpdateHeld, copied []target, duplicate bool) api.Receipt {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.replica.Ledger().Session(u.Session)
	logs := []ledger.LogID{p.self}
	for _, t := range copied {
		logs = append(logs, t.log)
	}
	for _, log := range s.HoldersOf(u) {
		if !slices.Contains(logs, log) && p.replica.Alive(log) {
			logs = append(logs, log)
		}
	}
	return api.Receipt{
		Session: s.Name(), Combiner: u.Combiner, ID: u.ID, Digest: u.Model.String(),
		Base: u.Base.String(), BaseRound: u.BaseRound, Copies: p.names(logs), Duplicate: duplicate,
	}
}
