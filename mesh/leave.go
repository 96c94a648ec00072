package mesh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// leaveRetry is how often a leaving peer looks whether everything is handed over.
const leaveRetry = 200 * time.Millisecond

// Leave implements api.Backend: this peer takes no more updates, hands over the copies that nobody else alive has, says PeerLeft, makes
// sure that somebody heard it, and is done. A later start on the same directory joins as a new peer.
func (p *Peer) Leave(ctx context.Context) error {
	p.mu.Lock()
	switch {
	case p.broken != nil:
		defer p.mu.Unlock()
		return p.broken
	case p.leaving:
		defer p.mu.Unlock()
		return api.Unavailable("this peer is leaving already", time.Second)
	case len(p.living()) == 0:
		defer p.mu.Unlock()
		return api.LastMember()
	}
	p.leaving = true
	p.mu.Unlock()
	err := p.handOver(ctx)
	if err == nil {
		err = p.say(ctx, func() ([]ledger.Body, error) {
			if !p.replica.MayLeave() {
				return nil, errLastVoice
			}
			return []ledger.Body{&ledger.PeerLeft{}}, nil
		})
	}
	if err == nil {
		err = p.farewell(ctx)
	}
	if err != nil {
		p.mu.Lock()
		p.leaving = p.ended()
		p.mu.Unlock()
		return fmt.Errorf("mesh: not left: %w", err)
	}
	p.log.Info().Msg("left the mesh")
	if err := p.gossip.Leave(5 * time.Second); err != nil {
		p.log.Warn().Err(err).Msg("gossip could not say farewell; the others will take this peer for dead until they read its log")
	}
	close(p.left)
	return nil
}

var errLastVoice = errors.New("mesh: of those who are alive, nobody else has a say yet in a session")

// ended reports whether the own log says PeerLeft. It is called with p.mu held.
func (p *Peer) ended() bool {
	peer, _ := p.replica.Ledger().Peer(p.self)
	return peer.Left
}

// handOver returns once every update of a round that is not final, and every model that is current, is held by another living peer.
func (p *Peer) handOver(ctx context.Context) error {
	for {
		left, err := p.handOverOnce(ctx)
		if left == 0 && err == nil {
			return nil
		}
		select {
		case <-time.After(leaveRetry):
		case <-ctx.Done():
			return fmt.Errorf("%d updates or models are nowhere else yet: %w", left, errors.Join(ctx.Err(), err))
		}
	}
}

func (p *Peer) handOverOnce(ctx context.Context) (left int, err error) {
	updates, results, err := p.onlyHere()
	if err != nil {
		return 1, err
	}
	for _, u := range updates {
		done := false
		for _, t := range p.others() {
			if e := p.copyTo(ctx, t, u); e != nil {
				err = e
				continue
			}
			done = true
			break
		}
		if !done {
			left++
		}
	}
	for key, res := range results {
		if e := p.giveResult(ctx, key, res); e != nil {
			left++
			err = e
		}
	}
	if left == 0 {
		err = nil
	}
	return left, err
}

// onlyHere returns the updates that no other living peer holds, and every session's current model and state; an error while
// nobody who is alive would have a say in some session.
func (p *Peer) onlyHere() ([]*ledger.UpdateHeld, map[ledger.SessionKey]ledger.Result, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.replica.MayLeave() {
		return nil, nil, errLastVoice
	}
	var updates []*ledger.UpdateHeld
	current := map[ledger.SessionKey]ledger.Result{}
	for _, s := range p.replica.Ledger().Sessions() {
		for _, key := range s.Keys() {
			u := s.Known(key)
			holders := s.HoldersOf(u)
			if isFinal(s, key) || !slices.Contains(holders, p.self) {
				continue
			}
			if !slices.ContainsFunc(holders, func(log ledger.LogID) bool { return log != p.self && p.replica.Alive(log) }) {
				updates = append(updates, u)
			}
		}
		if n, _, ok := p.replica.Current(s); ok {
			current[s.Key()], _ = p.replica.ResultOf(s, n)
		}
	}
	return updates, current, nil
}

// giveResult makes sure that another peer has a session's seed, current model and state.
func (p *Peer) giveResult(ctx context.Context, key ledger.SessionKey, res ledger.Result) error {
	last := errNoHolder
	path := "sessions/" + key.String() + "?model=" + res.Model.String()
	if !res.State.IsZero() {
		path += "&model=" + res.State.String()
	}
	for _, t := range p.others() {
		resp, err := p.call(ctx, http.MethodPost, t, path, bytes.NewReader(nil), nil)
		if err != nil {
			last = err
			continue
		}
		drain(resp.Body)
		return nil
	}
	return last
}

// farewell returns once another peer holds the whole of this peer's log.
func (p *Peer) farewell(ctx context.Context) error {
	for {
		p.mu.Lock()
		own, state := p.own, encodeState(p.self, p.visible())
		p.mu.Unlock()
		for _, t := range p.others() {
			// Asking tells the other what this peer has; it comes for it, and the next answer shows that it did.
			if a, err := p.ask(ctx, t, state); err == nil && a.vector[p.self] >= own {
				return nil
			}
		}
		select {
		case <-time.After(leaveRetry):
		case <-ctx.Done():
			return fmt.Errorf("nobody has heard the farewell: %w", ctx.Err())
		}
	}
}
