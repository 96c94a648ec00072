package mesh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/codec"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

// session is what a peer derives from a session's seed and config once, and what it is doing in it.
type session struct {
	build    sync.Mutex // held while the fields below it are made
	spec     *aggregate.Spec
	strategy aggregate.Strategy
	state    *model.Layout // of the server state; nil where the strategy has none

	// Guarded by Peer.mu.
	busy     bool      // work is under way
	notUntil time.Time // when failed work may be tried again
	turn     turn
	looking  bool // ahead: what the next rounds are computed from is being fetched
	reported reported
	counted  bool // the divergences and conflicts that the entries show are in reported
	times    roundTimes
}

// local returns the peer's own side of a session. It is called with p.mu held.
func (p *Peer) local(key ledger.SessionKey) *session {
	st := p.sessions[key]
	if st == nil {
		st = &session{}
		p.sessions[key] = st
	}
	return st
}

// prepare returns a session's spec and strategy, read from its seed the first time. The seed must be here.
func (p *Peer) prepare(key ledger.SessionKey) (*session, error) {
	p.mu.Lock()
	s := p.replica.Ledger().Session(key)
	st := p.local(key)
	p.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("mesh: session %s is not known here", key.Short())
	}
	st.build.Lock()
	defer st.build.Unlock()
	if st.spec != nil {
		return st, nil
	}
	config := s.Config()
	strategy, err := aggregate.Lookup(config.Strategy, paramMap(config.Params))
	if err != nil {
		return nil, fmt.Errorf("mesh: session %q: %w", s.Name(), err)
	}
	seed, err := p.open(s.Seed())
	if err != nil {
		return nil, err
	}
	defer seed.Close()
	spec, err := specOf(seed)
	if err != nil {
		return nil, fmt.Errorf("mesh: seed of session %q: %w", s.Name(), err)
	}
	if stateful, ok := strategy.(aggregate.Stateful); ok {
		if st.state, err = stateful.StateLayout(spec); err != nil {
			return nil, fmt.Errorf("mesh: session %q: %w", s.Name(), err)
		}
	}
	st.spec, st.strategy = spec, strategy
	return st, nil
}

// specOf reads a seed: its layout, and the scale that its values ask for.
func specOf(seed *store.Blob) (*aggregate.Spec, error) {
	layout, err := safetensors.ReadLayout(seed, seed.Size())
	if err != nil {
		return nil, err
	}
	scales, err := aggregate.ScanScales(layout, seed)
	if err != nil {
		return nil, err
	}
	return aggregate.NewSpec(layout, scales)
}

func paramMap(params []ledger.Param) map[string]string {
	out := make(map[string]string, len(params))
	for _, q := range params {
		out[q.Name] = q.Value
	}
	return out
}

// resolve finds a session by key or name. It is called with p.mu held.
func (p *Peer) resolve(ref string) (*ledger.Session, []ledger.SessionKey, error) {
	l := p.replica.Ledger()
	if key, err := model.ParseDigest(ref); err == nil {
		if s := l.Session(key); s != nil {
			return s, nil, nil
		}
	}
	if s, clash := l.Resolve(ref); s != nil {
		return s, clash, nil
	}
	return nil, nil, api.UnknownSession(ref)
}

// OpenSession implements api.Backend.
func (p *Peer) OpenSession(ctx context.Context, name string, cfg api.SessionConfig, seed io.Reader) (api.SessionInfo, bool, error) {
	var none api.SessionInfo
	if err := p.Ready(); err != nil {
		return none, false, api.NotReady(err)
	}
	if err := p.checkStrategy(&cfg); err != nil {
		return none, false, api.InvalidRequest("config", err)
	}
	d, release, err := p.storeSeed(ctx, seed)
	if err != nil {
		return none, false, err
	}
	defer release()
	p.meet(ctx)
	config := toConfig(cfg)
	created := false
	var key ledger.SessionKey
	err = p.say(ctx, func() ([]ledger.Body, error) {
		if s, _ := p.replica.Ledger().Resolve(name); s != nil {
			key = s.Key()
			switch {
			case s.Seed() != d:
				return nil, api.SessionConflict(name, "another seed")
			case !sameConfig(s.Config(), config):
				return nil, api.SessionConflict(name, "another config")
			}
			return nil, nil
		}
		members := p.joinedMembers()
		key = ledger.NewSessionKey(name, config, d, members)
		created = true
		p.replica.HoldModel(d, true)
		return []ledger.Body{&ledger.SessionOpened{Session: key, Name: name, Config: config, Seed: d, Members: members}}, nil
	})
	if err != nil {
		p.discard(d)
		return none, false, err
	}
	if err := p.spreadSession(ctx, key, cfg.Copies); err != nil {
		return none, false, err
	}
	info, err := p.Session(key.String())
	return info, created, err
}

// checkStrategy refuses a config whose strategy could never compute a round, and raises the minimum of combiners to what the strategy needs.
func (p *Peer) checkStrategy(cfg *api.SessionConfig) error {
	s, err := aggregate.Lookup(cfg.Strategy, cfg.Params)
	if err != nil {
		return err
	}
	if err := aggregate.Require(s, aggregate.Session{
		MinCombiners: cfg.MinCombiners, TargetCombiners: cfg.TargetCombiners, Secret: len(p.cfg.Secret) > 0,
	}); err != nil {
		return err
	}
	cfg.MinCombiners = max(cfg.MinCombiners, s.Limits().Combiners)
	return cfg.Validate() // that may be more than any session can have
}

// storeSeed reads a seed into a durable blob and checks that a session can be run from it. release unpins it.
func (p *Peer) storeSeed(ctx context.Context, seed io.Reader) (d model.Digest, release func(), err error) {
	w, err := p.dir.Blobs().Create()
	if err != nil {
		return d, nil, storageProblem(err)
	}
	defer w.Abort()
	scratch, err := p.dir.Blobs().Create()
	if err != nil {
		return d, nil, storageProblem(err)
	}
	defer scratch.Abort()
	layout, d, err := codec.Ingest(seed, w, codec.Options{Scratch: scratch, MaxBytes: api.DefaultMaxBody})
	if err != nil {
		return d, nil, modelProblem(err)
	}
	if _, err := aggregate.ScanScales(layout, w); err != nil {
		return d, nil, modelProblem(err)
	}
	release = p.pin(d)
	if err := w.Commit(ctx, d, true); err != nil {
		release()
		return d, nil, storageProblem(err)
	}
	return d, release, nil
}

// joinedMembers returns the logs that a new session begins with: all peers that have not left. It is called with p.mu held.
func (p *Peer) joinedMembers() []ledger.LogID {
	var out []ledger.LogID
	for _, q := range p.replica.Ledger().Peers() {
		if !q.Left {
			out = append(out, q.Log)
		}
	}
	slices.SortFunc(out, ledger.LogID.Compare)
	return out
}

// spreadSession waits until copies peers, or all that live, hold the opening and the seed.
func (p *Peer) spreadSession(ctx context.Context, key ledger.SessionKey, copies int) error {
	have, failed := 1, error(nil)
	for _, t := range p.others() {
		if have >= copies {
			break
		}
		resp, err := p.call(ctx, http.MethodPost, t, "sessions/"+key.String(), bytes.NewReader(nil), nil)
		if err != nil {
			if !takesNothing(err) {
				failed = err
			}
			continue
		}
		drain(resp.Body)
		have++
	}
	if have < copies && failed != nil {
		return api.Unavailable(fmt.Sprintf("only %d of %d peers hold the session yet: %v", have, copies, failed), time.Second)
	}
	return nil
}

// serveSeed takes over a session that another peer opened: its entry, its seed and, where the request names some, a model and a state.
func (p *Peer) serveSeed(w http.ResponseWriter, r *http.Request) {
	if err := p.Ready(); err != nil {
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	s, err := p.sessionOf(r)
	if err == nil {
		err = p.fetchModel(r.Context(), s.Seed(), p.callerFirst(r.Context()))
	}
	for _, name := range r.URL.Query()["model"] {
		if err != nil {
			break
		}
		var d model.Digest
		if d, err = model.ParseDigest(name); err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		err = p.fetchModel(r.Context(), d, p.callerFirst(r.Context()))
	}
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// sessionOf finds the session of a peer-plane request; when it is not known here yet, after asking the others.
func (p *Peer) sessionOf(r *http.Request) (*ledger.Session, error) {
	key, err := model.ParseDigest(r.PathValue("session"))
	if err != nil {
		return nil, api.InvalidRequest("session", err)
	}
	var s *ledger.Session
	if !p.askAround(r.Context(), func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		s = p.replica.Ledger().Session(key)
		return s != nil
	}) {
		return nil, api.UnknownSession(key.String())
	}
	return s, nil
}

// CloseSession implements api.Backend.
func (p *Peer) CloseSession(ctx context.Context, ref string) (api.SessionInfo, error) {
	if err := p.Ready(); err != nil {
		return api.SessionInfo{}, api.NotReady(err)
	}
	err := p.say(ctx, func() ([]ledger.Body, error) {
		s, _, err := p.resolve(ref)
		if err != nil {
			return nil, err
		}
		if closing, _ := s.Closing(); closing {
			return nil, nil
		}
		return []ledger.Body{&ledger.SessionClosed{Session: s.Key()}}, nil
	})
	if err != nil {
		return api.SessionInfo{}, err
	}
	return p.Session(ref)
}

// toConfig turns the API's form of a config into the ledger's.
func toConfig(c api.SessionConfig) ledger.Config {
	ms := func(d api.Duration) ledger.Time { return ledger.Time(time.Duration(d).Milliseconds()) }
	out := ledger.Config{
		Strategy: c.Strategy, TargetCombiners: uint32(c.TargetCombiners), MinCombiners: uint32(c.MinCombiners), Copies: uint32(c.Copies),
		RoundTimeout: ms(c.RoundTimeout), SettleTimeout: ms(c.SettleTimeout), LostAfter: ms(c.LostAfter),
	}
	for name, value := range c.Params {
		out.Params = append(out.Params, ledger.Param{Name: name, Value: value})
	}
	slices.SortFunc(out.Params, func(a, b ledger.Param) int { return compareText(a.Name, b.Name) })
	return out
}

// fromConfig is the inverse of toConfig.
func fromConfig(c ledger.Config) api.SessionConfig {
	d := func(t ledger.Time) api.Duration { return api.Duration(time.Duration(t) * time.Millisecond) }
	return api.SessionConfig{
		Strategy: c.Strategy, Params: paramMap(c.Params), TargetCombiners: int(c.TargetCombiners), MinCombiners: int(c.MinCombiners),
		Copies: int(c.Copies), RoundTimeout: d(c.RoundTimeout), SettleTimeout: d(c.SettleTimeout), LostAfter: d(c.LostAfter),
	}
}

func sameConfig(a, b ledger.Config) bool {
	if !slices.Equal(a.Params, b.Params) {
		return false
	}
	a.Params, b.Params = nil, nil
	return a.Strategy == b.Strategy && a.TargetCombiners == b.TargetCombiners && a.MinCombiners == b.MinCombiners && a.Copies == b.Copies &&
		a.RoundTimeout == b.RoundTimeout && a.SettleTimeout == b.SettleTimeout && a.LostAfter == b.LostAfter
}
