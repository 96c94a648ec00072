package fedn

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/fedn/fednpb"
	"github.com/fedmesh/fedmesh/model"
)

// DefaultPatience is how long a combiner waits for the mesh. FEDn itself gives up after
// 600 s, and the answer takes time too.
const DefaultPatience = 540 * time.Second

// Config says for which combiner a gateway speaks, and to which session.
type Config struct {
	Combiner string            // name of the combiner in the session; each gateway's own
	Session  string            // name of the session
	Open     api.SessionConfig // what the session is opened with where nobody did; the same at all gateways
	Dir      string            // for models on their way, and updates that no peer has yet
	Patience time.Duration     // 0: DefaultPatience
	Logger   zerolog.Logger
}

// Validate lists all that is wrong with c, joined; nil when nothing is.
func (c Config) Validate() error {
	faults := []error{api.CheckName("combiner", c.Combiner), api.CheckName("session", c.Session), c.Open.Validate()}
	if c.Dir == "" {
		faults = append(faults, errors.New("fedn: no directory for models on their way"))
	}
	if c.Patience < 0 {
		faults = append(faults, fmt.Errorf("fedn: Patience is %v; it must be positive", c.Patience))
	}
	return errors.Join(faults...)
}

// Gateway is the function service of one FEDn combiner.
type Gateway struct {
	fednpb.UnimplementedFunctionServiceServer

	cfg   Config
	mesh  Mesh
	log   zerolog.Logger
	spool *spool

	ctx    context.Context //nolint:containedctx // of the updates that come late, until Close
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	kick   chan struct{}

	mu   sync.Mutex      // one question of FEDn's at a time
	spec *aggregate.Spec // the session's; nil until the mesh was reached
	now  *collection     // what is being stored
	last *answer         // what was said last, for who asks again

	busy sync.Mutex // one delivery at a time
}

// answer is the model that a round was answered with.
type answer struct {
	global model.Digest
	model  *file
}

// New makes a gateway and goes on with updates that an earlier one left in cfg.Dir. Close
// it; the mesh stays the caller's.
func New(cfg Config, mesh Mesh) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Patience == 0 {
		cfg.Patience = DefaultPatience
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("fedn: %w", err)
	}
	s, err := openSpool(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if _, err := s.list(); err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg: cfg, mesh: mesh, spool: s, kick: make(chan struct{}, 1),
		log: cfg.Logger.With().Str("combiner", cfg.Combiner).Str("session", cfg.Session).Logger(),
	}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	g.tasks.Go(g.deliverLate)
	return g, nil
}

// Close ends deliveries; what is not delivered stays on disk. The server must have stopped.
func (g *Gateway) Close() error {
	g.cancel()
	g.tasks.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.now.Close()
	g.now = nil
	if g.last != nil {
		err = errors.Join(err, g.last.model.Close())
		g.last = nil
	}
	return err
}

// begin starts a round from the combiner's global model.
func (g *Gateway) begin(ctx context.Context, r io.Reader) error {
	f, err := ingest(g.cfg.Dir, r)
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(ctx, contactTime)
	defer cancel()
	if err := g.contact(short, f); err != nil {
		g.complain(err, "the mesh does not answer yet")
	}
	spec := g.spec
	if spec == nil { // the session will have it, if it is opened with this model
		if spec, err = specOf(f); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if f, err = conform(ctx, g.cfg.Dir, f, spec); err != nil {
		return err
	}
	err = g.now.Close()
	g.now = newCollection(g.cfg.Dir, spec, f)
	return err
}

// answer computes, delivers and waits, and returns what to say.
func (g *Gateway) answer(ctx context.Context) (*file, error) {
	c := g.now
	if c == nil {
		return nil, errors.New("fedn: asked for an aggregate before a global model was stored")
	}
	if c.clients() == 0 { // FEDn asks once more after a failure, but has thrown the clients' models away
		if g.last != nil && g.last.global == c.global.digest {
			return g.last.model, nil
		}
		g.log.Warn().Msg("no client brought a model that can be used: the model stays as it is")
		return c.global, nil
	}
	mean, weight, err := c.mean(ctx)
	if err != nil {
		return nil, err
	}
	clients := c.clients()
	p, err := g.spool.add(pending{ID: rand.Text(), Weight: weight, Base: c.global.digest.String()}, mean)
	if err != nil {
		return nil, errors.Join(err, mean.Close())
	}
	start := time.Now()
	patient, cancel := context.WithTimeout(ctx, g.cfg.Patience)
	defer cancel()
	out, acknowledged, err := g.exchange(patient, p, c)
	if err != nil {
		g.complain(err, "the combiner goes on with its own clients' mean; the update is on disk and is pushed when the mesh takes it")
		out = mean
		g.wake()
	} else {
		g.log.Info().Int("clients", clients).Int64("weight", weight).Str("update", p.ID).Stringer("model", out.digest).
			Dur("push", acknowledged.Sub(start)).Dur("took", time.Since(start)).Msg("round done")
		err = mean.Close()
	}
	if g.last != nil {
		err = errors.Join(err, g.last.model.Close())
	}
	g.last = &answer{global: c.global.digest, model: out}
	if err != nil && out != mean {
		g.log.Warn().Err(err).Msg("a file could not be closed")
	}
	return out, nil
}

// exchange delivers an update and returns the model of the round that counts it, and when the update was
// acknowledged.
func (g *Gateway) exchange(ctx context.Context, p pending, c *collection) (*file, time.Time, error) {
	if err := g.contact(ctx, c.global); err != nil {
		return nil, time.Time{}, err
	}
	g.busy.Lock()
	receipt, err := g.deliver(ctx, p)
	g.busy.Unlock()
	if err != nil {
		return nil, time.Time{}, err
	}
	acknowledged := time.Now()
	f, err := g.await(ctx, receipt)
	return f, acknowledged, err
}

// deliver pushes an update until a peer has acknowledged it, and forgets it then. It is called
// with busy held.
func (g *Gateway) deliver(ctx context.Context, p pending) (api.Receipt, error) {
	digest, err := model.ParseDigest(p.Base)
	if err != nil {
		return api.Receipt{}, fmt.Errorf("fedn: update %s: %w", p.ID, err)
	}
	if p.Base, err = g.base(ctx, digest); err != nil {
		return api.Receipt{}, err
	}
	receipt, err := g.push(ctx, p)
	if err != nil {
		return receipt, err
	}
	return receipt, g.spool.done(p)
}

// deliverLate pushes what is on disk, now and then, until Close.
func (g *Gateway) deliverLate() {
	const every = 15 * time.Second
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-timer.C:
		case <-g.kick:
		}
		g.deliverAll()
		timer.Reset(every)
	}
}

func (g *Gateway) deliverAll() {
	if !g.busy.TryLock() {
		return // a round is being delivered, and this one's turn comes
	}
	defer g.busy.Unlock()
	ps, err := g.spool.list()
	if err != nil {
		g.log.Error().Err(err).Msg("updates on disk cannot be read")
		return
	}
	for _, p := range ps {
		ctx, cancel := context.WithTimeout(g.ctx, g.cfg.Patience)
		r, err := g.deliver(ctx, p)
		cancel()
		switch {
		case g.ctx.Err() != nil:
			return
		case err != nil:
			g.complain(err, "an update on disk was not pushed")
			return
		}
		g.log.Info().Str("update", p.ID).Uint64("round", r.BaseRound).Msg("pushed an update late: it counts as a step from its older base")
	}
}

func (g *Gateway) wake() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// complain says what went wrong, and what to do when waiting does not help.
func (g *Gateway) complain(err error, what string) {
	e := g.log.Warn()
	if refused(err) {
		e = g.log.Error().Str("do", advice(err))
	}
	e.Err(err).Msg(what)
}
