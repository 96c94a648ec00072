package reducer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

// SpecOf reads what a session's models look like from its seed.
func SpecOf(seed io.ReaderAt, size int64) (*aggregate.Spec, error) {
	layout, err := safetensors.ReadLayout(seed, size)
	if err != nil {
		return nil, fmt.Errorf("reducer: seed: %w", err)
	}
	scales, err := aggregate.ScanScales(layout, seed)
	if err != nil {
		return nil, fmt.Errorf("reducer: seed: %w", err)
	}
	return aggregate.NewSpec(layout, scales)
}

// retryIn is what combiners are told with a 503.
const retryIn = 100 * time.Millisecond

// unavailable is an error of the coordinator as combiners see it.
func unavailable(err error) error {
	return api.Unavailable(err.Error(), retryIn)
}

// session returns the session if it goes by that name or key.
func (n *Node) session(name string) (api.SessionInfo, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state.Phase == "" || name != n.state.Name && name != n.state.Key {
		return api.SessionInfo{}, api.UnknownSession(name)
	}
	return n.state.Info(), nil
}

// OpenSession implements api.Backend. There can be one session.
func (n *Node) OpenSession(ctx context.Context, name string, cfg api.SessionConfig, seed io.Reader) (api.SessionInfo, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d, err := n.receive(ctx, seed, nil)
	if err != nil {
		return api.SessionInfo{}, false, err
	}
	if _, err := n.coord.Spread(ctx, d, true); err != nil {
		return api.SessionInfo{}, false, unavailable(err)
	}
	r, err := n.coord.Propose(ctx, Command{Kind: KindOpen, Name: name, Config: &cfg, Digest: d.String()})
	if err != nil {
		return api.SessionInfo{}, false, unavailable(err)
	}
	if r.Outcome == OutcomeConflict {
		return api.SessionInfo{}, false, api.SessionConflict(name, "this reducer has one session at a time, of the seed "+r.Digest)
	}
	if err := n.until(ctx, func(s *State) bool { return s.Phase != "" }); err != nil {
		return api.SessionInfo{}, false, unavailable(err)
	}
	info, err := n.session(name)
	return info, r.Outcome == "", err
}

// CloseSession implements api.Backend.
func (n *Node) CloseSession(ctx context.Context, session string) (api.SessionInfo, error) {
	if _, err := n.session(session); err != nil {
		return api.SessionInfo{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := n.coord.Propose(ctx, Command{Kind: KindEnd}); err != nil {
		return api.SessionInfo{}, unavailable(err)
	}
	return n.session(session)
}

// Sessions implements api.Backend.
func (n *Node) Sessions() []api.SessionInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state.Phase == "" {
		return []api.SessionInfo{}
	}
	return []api.SessionInfo{n.state.Info()}
}

// Session implements api.Backend.
func (n *Node) Session(name string) (api.SessionInfo, error) { return n.session(name) }

// Push implements api.Backend: the update is stored here, brought to as many as
// need it, and then decided.
func (n *Node) Push(ctx context.Context, req api.PushRequest) (api.Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := n.coord.Ready(); err != nil {
		return api.Receipt{}, api.NotReady(err)
	}
	info, err := n.session(req.Session)
	if err != nil {
		return api.Receipt{}, err
	}
	if req.Base == "" {
		req.Base = info.Model
	}
	known := func(s *State) bool { _, ok := s.RoundOf(req.Base); return ok }
	if err := n.until(ctx, known); err != nil { // it may be news that is still to come here
		return api.Receipt{}, api.UnknownBase(req.Base, retryIn)
	}
	spec, err := n.layout(ctx)
	if err != nil {
		return api.Receipt{}, unavailable(err)
	}
	d, err := n.receive(ctx, req.Body, spec)
	if err != nil {
		return api.Receipt{}, err
	}
	u := api.UpdateInfo{Combiner: req.Combiner, ID: req.ID, Digest: d.String(), Weight: req.Weight, Base: req.Base}
	if u.ID == "" {
		u.ID = d.String()
	}
	if u.Copies, err = n.coord.Spread(ctx, d, false); err != nil {
		return api.Receipt{}, unavailable(err)
	}
	r, err := n.coord.Propose(ctx, Command{Kind: KindUpdate, Update: &u})
	switch {
	case err != nil:
		return api.Receipt{}, unavailable(err)
	case r.Outcome == OutcomeClosed:
		return api.Receipt{}, api.ClosedSession(req.Session, api.SessionClosed)
	case r.Outcome == OutcomeConflict:
		return api.Receipt{}, api.UpdateConflict(u.Combiner, u.ID, r.Digest, "other bytes, weight or base")
	case r.Update == nil:
		return api.Receipt{}, fmt.Errorf("reducer: outcome %q of an update", r.Outcome)
	}
	return api.Receipt{
		Session: info.Key, Combiner: u.Combiner, ID: u.ID, Digest: u.Digest, Base: u.Base,
		BaseRound: r.Update.BaseRound, Copies: r.Update.Copies, Duplicate: r.Outcome == OutcomeDuplicate,
	}, nil
}

// Model implements api.Backend.
func (n *Node) Model(ctx context.Context, session string, which api.ModelRef) (api.Model, error) {
	if _, err := n.session(session); err != nil {
		return api.Model{}, err
	}
	n.mu.Lock()
	digest, round := n.state.Latest()
	ok := true
	switch which.Kind {
	case api.RefDigest:
		digest = which.Digest.String()
		round, ok = n.state.RoundOf(digest)
	case api.RefRound:
		switch {
		case which.Round == 0:
			digest, round = n.state.Seed, 0
		case which.Round <= uint64(len(n.state.Rounds)):
			digest, round = n.state.Rounds[which.Round-1].Model, which.Round
		default:
			ok = false
		}
	}
	n.mu.Unlock()
	if !ok {
		return api.Model{}, api.UnknownModel(session, which)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d, err := model.ParseDigest(digest)
	if err != nil {
		return api.Model{}, fmt.Errorf("reducer: %w", err)
	}
	spec, err := n.layout(ctx)
	if err != nil {
		return api.Model{}, unavailable(err)
	}
	if err := n.need(ctx, d); err != nil {
		return api.Model{}, unavailable(err)
	}
	b, err := n.Blobs().Open(d)
	if err != nil {
		return api.Model{}, unavailable(err)
	}
	return api.Model{Digest: d, Round: round, Layout: spec.Layout(), Blob: b, Size: b.Size()}, nil
}

// WaitModel implements api.Backend.
func (n *Node) WaitModel(ctx context.Context, session, after string) error {
	if _, err := n.session(session); err != nil {
		return err
	}
	return n.until(ctx, func(s *State) bool {
		digest, round := s.Latest()
		if r, err := strconv.ParseUint(after, 10, 64); err == nil && len(after) < 2*len(model.Digest{}) {
			return round > r
		}
		return digest != after
	})
}

// until waits until something is so.
func (n *Node) until(ctx context.Context, so func(*State) bool) error {
	for {
		n.mu.Lock()
		yes, changed := so(n.state), n.changed
		n.mu.Unlock()
		if yes {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Rounds implements api.Backend.
func (n *Node) Rounds(session string, from uint64, limit int) ([]api.RoundInfo, error) {
	if _, err := n.session(session); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.List(from, limit), nil
}

// Round implements api.Backend.
func (n *Node) Round(session string, number uint64) (api.RoundInfo, error) {
	if number > 0 {
		list, err := n.Rounds(session, number, 1)
		if err != nil {
			return api.RoundInfo{}, err
		}
		if len(list) > 0 {
			return list[0], nil
		}
	}
	return api.RoundInfo{}, api.UnknownRound(session, number)
}

// Mesh implements api.Backend: this process alone.
func (n *Node) Mesh() api.MeshInfo {
	return api.MeshInfo{Self: n.options.Name, Peers: []api.PeerInfo{{Name: n.options.Name, State: api.PeerAlive, API: n.options.API}}, Agreed: true}
}

// Subscribe implements api.Backend: there are no events.
func (n *Node) Subscribe(ctx context.Context) <-chan api.Event {
	events := make(chan api.Event)
	context.AfterFunc(ctx, func() { close(events) })
	return events
}

// Ready implements api.Backend.
func (n *Node) Ready() error { return n.coord.Ready() }

// Leave implements api.Backend: nobody does.
func (n *Node) Leave(context.Context) error {
	return errors.New("reducer: leaving is not part of what is compared")
}

// Forget implements api.Backend: nobody is.
func (n *Node) Forget(context.Context, []string) (api.Forgetting, error) {
	return api.Forgetting{}, errors.New("reducer: forgetting is not part of what is compared")
}
