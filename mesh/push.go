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
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

// Push implements api.Backend: it accepts an update once as many peers hold it as the session asks for, or as are alive.
//
// While the body arrives it is sent on to the other holders; all of them read, check and store it for themselves, and their logs
// are synced in parallel.
func (p *Peer) Push(ctx context.Context, req api.PushRequest) (api.Receipt, error) {
	receipt, err := p.push(ctx, req)
	switch {
	case err != nil:
		p.metrics.updates.WithLabelValues("refused").Inc()
	case receipt.Duplicate:
		p.metrics.updates.WithLabelValues("duplicate").Inc()
	default:
		p.metrics.updates.WithLabelValues("accepted").Inc()
	}
	return receipt, err
}

func (p *Peer) push(ctx context.Context, req api.PushRequest) (api.Receipt, error) {
	var none api.Receipt
	if err := p.Ready(); err != nil {
		return none, api.NotReady(err)
	}
	o, copies, err := p.offer(ctx, req)
	if err != nil {
		return none, err
	}
	st, err := p.prepare(o.Session)
	if err != nil {
		return none, api.Unavailable(err.Error(), time.Second)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	candidates := p.candidates(o)
	want := min(copies-1, len(candidates))
	fan := &fanout{Reader: req.Body, stall: p.cfg.StallAfter}
	for _, t := range candidates[:want] {
		fan.add(p, ctx, t, o)
	}
	w, d, err := p.receive(st, fan)
	if err == nil {
		_, err = io.Copy(io.Discard, fan) // the end of the body, for the others
	}
	fan.finish(err)
	if err != nil {
		fan.wait()
		return none, err
	}
	defer w.Abort()
	return p.accept(ctx, w, o.update(d, st.spec.Layout().Size()), o, want, candidates, fan)
}

// offer checks what a push says of itself, and finds its base.
func (p *Peer) offer(ctx context.Context, req api.PushRequest) (o offer, copies int, err error) {
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
	if o.BaseRound, err = p.findBase(ctx, s, o.Base); err != nil {
		return o, 0, err
	}
	if o.ID == "" {
		o.ID = api.DefaultID(o.BaseRound, o.Base)
	}
	return o, copies, nil
}

// findBase returns the round that made a base and makes sure that the base is here.
func (p *Peer) findBase(ctx context.Context, s *ledger.Session, d model.Digest) (uint64, error) {
	find := func() (uint64, bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return s.RoundOf(d)
	}
	round, ok := find()
	for _, t := range p.others() {
		if ok {
			break
		}
		p.tryExchange(t)
		round, ok = find()
	}
	if !ok {
		return 0, api.UnknownBase(d.String(), time.Second)
	}
	if err := p.fetchModel(ctx, d, p.others()); err != nil {
		return 0, api.UnknownBase(d.String(), time.Second)
	}
	return round, nil
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

// accept holds a received update here and, where a copy on the way failed, at further peers.
func (p *Peer) accept(ctx context.Context, w *store.Writer, u *ledger.UpdateHeld, o offer, want int, candidates []target, fan *fanout) (api.Receipt, error) {
	known, duplicate, err := p.hold(ctx, w, u, want == 0)
	copied, failed := fan.wait()
	if err != nil {
		return api.Receipt{}, err
	}
	for _, t := range candidates[min(want, len(candidates)):] {
		if len(copied) >= want {
			break
		}
		if err := p.copyTo(ctx, t, known); err != nil {
			failed = append(failed, err)
			continue
		}
		copied = append(copied, t)
	}
	if len(copied) < want {
		// Who cannot be reached at all is dead, even if gossip has not noticed: fewer copies are enough then.
		for _, err := range failed {
			if !errors.Is(err, errGone) {
				return api.Receipt{}, api.Unavailable(fmt.Sprintf("%d of %d copies could not be made: %v", want-len(copied), want+1, err), time.Second)
			}
		}
		if err := errors.Join(p.dir.Blobs().Sync(ctx, known.Model), p.dir.Blobs().Sync(ctx, known.Base)); err != nil {
			return api.Receipt{}, storageProblem(err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.accepted[u.Session] == nil {
		p.accepted[u.Session] = map[ledger.Key]bool{}
	}
	p.accepted[u.Session][u.Key()] = true
	s := p.replica.Ledger().Session(u.Session)
	logs := []ledger.LogID{p.self}
	for _, t := range copied {
		logs = append(logs, t.log)
	}
	for _, log := range s.HoldersOf(known) {
		if !slices.Contains(logs, log) && p.replica.Alive(log) {
			logs = append(logs, log)
		}
	}
	return api.Receipt{
		Session: s.Name(), Combiner: known.Combiner, ID: known.ID, Digest: known.Model.String(),
		Base: known.Base.String(), BaseRound: known.BaseRound, Copies: p.names(logs), Duplicate: duplicate,
	}, nil
}

// copyTo has another peer hold an update that is here.
func (p *Peer) copyTo(ctx context.Context, t target, u *ledger.UpdateHeld) error {
	b, err := p.open(u.Model)
	if err != nil {
		return err
	}
	defer b.Close()
	o := offer{Session: u.Session, Combiner: u.Combiner, ID: u.ID, Weight: u.Weight, Base: u.Base, BaseRound: u.BaseRound, Metrics: map[string]float64{}}
	for _, m := range u.Metrics {
		o.Metrics[m.Name] = m.Value
	}
	return p.sendCopy(ctx, t, o, io.NewSectionReader(b, 0, b.Size()))
}

// sendCopy sends a body to a peer, which holds it.
func (p *Peer) sendCopy(ctx context.Context, t target, o offer, body io.Reader) error {
	header, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	path := "updates/" + o.Session.String() + "/" + url.PathEscape(o.Combiner)
	resp, err := p.call(ctx, http.MethodPut, t, path, &watched{Reader: body}, func(r *http.Request) {
		r.Header.Set(headerUpdate, string(header))
		r.Header.Set("Content-Type", "application/octet-stream")
	})
	if err != nil {
		return err
	}
	defer drain(resp.Body)
	var h held
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4096)).Decode(&h); err != nil {
		return fmt.Errorf("mesh: %s: %w", t.name, err)
	}
	return nil
}
