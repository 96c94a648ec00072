package mesh

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/gossip"
	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// askKeys bounds how long a peer may take to answer about keys.
const askKeys = 5 * time.Second

// A keyHolder is a peer whose keys are asked for.
type keyHolder struct {
	target
	self  bool
	alive bool

	keys      []string // fingerprints, the primary first; nil: not known
	challenge []byte
	result    api.KeyPeer
}

func (h *keyHolder) failed(err error) {
	h.result.Result, h.result.Detail = api.KeyFailed, strings.TrimPrefix(err.Error(), "mesh: "+h.name+": ")
	if errors.Is(err, errGone) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		h.result.Result = api.KeyNotReached
	}
}

// Keys implements api.KeyKeeper.
func (p *Peer) Keys(ctx context.Context) (api.KeyRing, error) {
	if p.cfg.Keyring == nil {
		return api.KeyRing{}, api.NotEncrypted()
	}
	holders := p.keyHolders()
	p.askAll(ctx, holders)
	return ringOf(holders), nil
}

// ChangeKeys implements api.KeyKeeper. What would cut peers off is refused before anybody has changed anything.
func (p *Peer) ChangeKeys(ctx context.Context, change api.KeyChange) (api.KeyRing, error) {
	if p.cfg.Keyring == nil {
		return api.KeyRing{}, api.NotEncrypted()
	}
	order, err := readOrder(change)
	if err != nil {
		return api.KeyRing{}, api.InvalidRequest("key", err)
	}
	p.changing.Lock()
	defer p.changing.Unlock()
	holders := p.keyHolders()
	p.askAll(ctx, holders)
	if err := mayChange(order, holders); err != nil {
		return api.KeyRing{}, err
	}
	each(holders, func(h *keyHolder) {
		if h.keys == nil {
			return
		}
		ctx, cancel := context.WithTimeout(ctx, askKeys)
		defer cancel()
		var err error
		if h.self {
			err = order.apply(p.cfg.Keyring)
		} else {
			err = p.sendOrder(ctx, h, order)
		}
		if err != nil {
			h.failed(err)
		}
	})
	p.log.Info().Str("operation", order.Operation).Str("key", order.Fingerprint).Msg("an operator changes the gossip's keys")
	after := p.keyHolders()
	p.askAll(ctx, after)
	for _, h := range after {
		// What went wrong with the change counts, and who came up meanwhile has not been told.
		i := slices.IndexFunc(holders, func(b *keyHolder) bool { return b.log == h.log })
		switch {
		case i < 0:
			h.result = api.KeyPeer{Name: h.name, Result: api.KeyNotReached, Detail: "it came while the others were told; do it again"}
		case holders[i].result.Result != api.KeyOK:
			h.result = holders[i].result
		}
	}
	return ringOf(after), nil
}

// mayChange refuses what would cut somebody off.
func mayChange(o keyOrder, holders []*keyHolder) error {
	var known, lack, primary []string
	for _, h := range holders {
		switch at := slices.Index(h.keys, o.Fingerprint); {
		case h.keys == nil:
		case at < 0:
			lack = append(lack, h.name)
		default:
			known = append(known, h.name)
			if at == 0 {
				primary = append(primary, h.name)
			}
		}
	}
	switch {
	case o.Operation == api.KeyInstall:
		return nil
	case len(known) == 0:
		return api.UnknownKey(o.Fingerprint)
	case o.Operation == api.KeyUse && len(lack) > 0:
		return api.KeyMissing(o.Fingerprint, lack)
	case o.Operation == api.KeyRemove && len(primary) > 0:
		return api.PrimaryKey(o.Fingerprint, primary)
	}
	return nil
}

// keyHolders are this peer and all others that have not left, by name.
func (p *Peer) keyHolders() []*keyHolder {
	p.mu.Lock()
	self := p.self
	p.mu.Unlock()
	var out []*keyHolder
	for _, q := range p.Mesh().Peers {
		log, err := ledger.ParseLogID(q.Log)
		if err != nil || q.State == api.PeerLeft || q.State == api.PeerForgotten {
			continue
		}
		h := &keyHolder{target: target{log: log, name: q.Name, api: q.API}, self: log == self, alive: q.State == api.PeerAlive}
		h.result = api.KeyPeer{Name: q.Name, Result: api.KeyOK}
		out = append(out, h)
	}
	return out
}

func each(holders []*keyHolder, do func(*keyHolder)) {
	var wg sync.WaitGroup
	for _, h := range holders {
		wg.Go(func() { do(h) })
	}
	wg.Wait()
}

// askAll finds out what keys the peers have.
func (p *Peer) askAll(ctx context.Context, holders []*keyHolder) {
	each(holders, func(h *keyHolder) {
		switch {
		case h.self:
			h.keys = p.cfg.Keyring.Fingerprints()
			return
		case !h.alive:
			h.result.Result, h.result.Detail = api.KeyNotReached, "it is taken for dead"
			return
		}
		ctx, cancel := context.WithTimeout(ctx, askKeys)
		defer cancel()
		a, err := p.askHolder(ctx, h.target)
		if err != nil {
			h.failed(err)
			return
		}
		h.keys, h.challenge = a.Keys, a.Challenge
	})
}

func ringOf(holders []*keyHolder) api.KeyRing {
	ring := api.KeyRing{Complete: true}
	keys := map[string]*api.KeyInfo{}
	for _, h := range holders {
		ring.Peers = append(ring.Peers, h.result)
		ring.Complete = ring.Complete && h.result.Result == api.KeyOK
		for i, k := range h.keys {
			if keys[k] == nil {
				keys[k] = &api.KeyInfo{Fingerprint: k}
			}
			keys[k].Peers = append(keys[k].Peers, h.name)
			if i == 0 {
				keys[k].Primary = append(keys[k].Primary, h.name)
			}
		}
	}
	for _, k := range keys {
		ring.Keys = append(ring.Keys, *k)
	}
	slices.SortFunc(ring.Keys, func(a, b api.KeyInfo) int { return cmp.Compare(a.Fingerprint, b.Fingerprint) })
	slices.SortStableFunc(ring.Peers, func(a, b api.KeyPeer) int { return cmp.Compare(a.Name, b.Name) })
	return ring
}

// keyOrder is what one peer tells another to do with a key. It travels sealed with the sender's primary key, whatever the connection is.
type keyOrder struct {
	Operation   string `json:"operation"`
	Fingerprint string `json:"fingerprint"`
	Key         string `json:"key,omitempty"` // base64, to install it

	key gossip.Key
}

// readOrder makes an order of what an operator wants. Errors do not repeat the key.
func readOrder(change api.KeyChange) (keyOrder, error) {
	o := keyOrder{Operation: change.Operation}
	text := strings.TrimSpace(change.Key)
	if o.Operation != api.KeyInstall && isFingerprint(text) {
		o.Fingerprint = strings.ToLower(text)
		return o, nil
	}
	key, err := gossip.ParseKey(text)
	if err != nil {
		return o, err
	}
	o.key, o.Fingerprint = key, key.Fingerprint()
	if o.Operation == api.KeyInstall {
		o.Key = key.Text()
	}
	return o, nil
}

// isFingerprint tells one from a key: no key is so short.
func isFingerprint(s string) bool {
	return len(s) == 16 && strings.Trim(strings.ToLower(s), "0123456789abcdef") == ""
}

func (o keyOrder) apply(ring *gossip.Keyring) error {
	switch o.Operation {
	case api.KeyInstall:
		return ring.Install(o.key)
	case api.KeyUse:
		return ring.Use(o.Fingerprint)
	case api.KeyRemove:
		return ring.Remove(o.Fingerprint)
	}
	return fmt.Errorf("mesh: unknown operation %.20q", o.Operation)
}

// The peer plane's part: GET keys tells the fingerprints and a challenge, which is good for one POST keys, soon. So an order that somebody
// recorded cannot be given again.
const (
	maxChallenges = 256
	challengeFor  = time.Minute
	maxOrder      = 4 << 10
	maxKeyAnswer  = 16 << 10
)

type keyAnswer struct {
	Keys      []string `json:"keys"`
	Challenge []byte   `json:"challenge"`
}

// challenges are those that this peer has given out and that were not used.
type challenges struct {
	mu  sync.Mutex
	out map[string]time.Time
}

func (c *challenges) give(now time.Time) []byte {
	b := gossip.NewKey()[:16]
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out == nil {
		c.out = map[string]time.Time{}
	}
	for k, at := range c.out {
		if now.Sub(at) > challengeFor || len(c.out) >= maxChallenges {
			delete(c.out, k)
		}
	}
	c.out[string(b)] = now
	return b
}

func (c *challenges) take(b []byte, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.out[string(b)]
	delete(c.out, string(b))
	return ok && now.Sub(at) <= challengeFor
}

// orderContext binds a sealed order to its mesh, its receiver and its challenge.
func (p *Peer) orderContext(to ledger.LogID, challenge []byte) []byte {
	b := append([]byte("fedmesh key order\x00"), p.tag()...)
	b = append(append(b, 0), to[:]...)
	return append(b, challenge...)
}

func (p *Peer) askHolder(ctx context.Context, t target) (keyAnswer, error) {
	var a keyAnswer
	resp, err := p.call(ctx, http.MethodGet, t, "keys", nil, nil)
	if err != nil {
		return a, err
	}
	defer drain(resp.Body)
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxKeyAnswer))
	if err != nil {
		return a, fmt.Errorf("mesh: %s: %w", t.name, err)
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return a, fmt.Errorf("mesh: %s: its answer about keys cannot be read: %w", t.name, err)
	}
	if len(a.Keys) == 0 || len(a.Keys) > gossip.MaxKeys || !all(a.Keys, isFingerprint) || len(a.Challenge) != 16 {
		return a, fmt.Errorf("mesh: %s: its answer about keys makes no sense", t.name)
	}
	return a, nil
}

func all(texts []string, ok func(string) bool) bool {
	return !slices.ContainsFunc(texts, func(s string) bool { return !ok(s) })
}

func (p *Peer) sendOrder(ctx context.Context, h *keyHolder, o keyOrder) error {
	b, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	sealed, err := p.cfg.Keyring.Seal(b, p.orderContext(h.log, h.challenge))
	if err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	resp, err := p.call(ctx, http.MethodPost, h.target, "keys", strings.NewReader(string(append(h.challenge, sealed...))), nil)
	if err != nil {
		return err
	}
	drain(resp.Body)
	return nil
}

func (p *Peer) serveKeys(w http.ResponseWriter, r *http.Request) {
	if p.cfg.Keyring == nil {
		refuse(w, http.StatusConflict, api.NotEncrypted())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(keyAnswer{Keys: p.cfg.Keyring.Fingerprints(), Challenge: p.challenges.give(time.Now())})
}

func (p *Peer) serveKeyOrder(w http.ResponseWriter, r *http.Request) {
	if p.cfg.Keyring == nil {
		refuse(w, http.StatusConflict, api.NotEncrypted())
		return
	}
	b, err := readBody(w, r, maxOrder)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	if len(b) < 16 {
		refuse(w, http.StatusBadRequest, errors.New("mesh: no order about keys"))
		return
	}
	p.mu.Lock()
	self := p.self
	p.mu.Unlock()
	plain, err := p.cfg.Keyring.Open(b[16:], p.orderContext(self, b[:16]))
	switch {
	case err != nil:
		refuse(w, http.StatusForbidden, errors.New("mesh: the order about keys is not from a peer whose primary key this one has"))
		return
	case !p.challenges.take(b[:16], time.Now()):
		refuse(w, http.StatusForbidden, errors.New("mesh: the order about keys is old, or has been given before"))
		return
	}
	var o keyOrder
	if err := json.Unmarshal(plain, &o); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("mesh: the order about keys cannot be read: %w", err))
		return
	}
	if o.Operation == api.KeyInstall {
		if o.key, err = gossip.ParseKey(o.Key); err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
	}
	if err := o.apply(p.cfg.Keyring); err != nil {
		p.log.Error().Err(err).Str("operation", o.Operation).Str("key", o.Fingerprint).Msg("the gossip's keys were to be changed and were not")
		refuse(w, http.StatusConflict, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
