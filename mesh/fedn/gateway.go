package fedn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
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

// DefaultMaxPending is 20 GB.
const DefaultMaxPending = 20e9

// Config says for which combiner a gateway speaks, and to which session.
type Config struct {
	Combiner string            // name of the combiner in the session; each gateway's own
	Session  string            // name of the session
	Open     api.SessionConfig // what the session is opened with where nobody did; the same at all gateways
	Dir      string            // for models on their way, and updates that no peer has yet
	Patience time.Duration     // 0: DefaultPatience
	Logger   zerolog.Logger

	// MaxPending is how many bytes updates that no peer has may take on disk, with the models that they were trained from; the oldest go first. Those
	// that the mesh refused may take a quarter of that beside. 0: DefaultMaxPending.
	MaxPending int64

	short time.Duration // how long a combiner waits for the mesh before it has anything to wait for
	retry time.Duration // until updates on disk are tried again
	tell  time.Duration // until the log says that a round waits
	again time.Duration // until the log says a thing again
}

func (c Config) withDefaults() Config {
	c.Patience = cmp.Or(c.Patience, DefaultPatience)
	c.MaxPending = cmp.Or(c.MaxPending, DefaultMaxPending)
	c.short = cmp.Or(c.short, 10*time.Second)
	c.retry = cmp.Or(c.retry, 15*time.Second)
	c.tell = cmp.Or(c.tell, 10*time.Second)
	c.again = cmp.Or(c.again, 10*time.Minute)
	return c
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
	if c.MaxPending < 0 {
		faults = append(faults, fmt.Errorf("fedn: MaxPending is %d; it must be positive", c.MaxPending))
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

	spec    atomic.Pointer[aggregate.Spec] // the session's; nil until the mesh was reached
	joined  atomic.Bool                    // the network trains the session's model, or has
	trouble trouble
	aside   atomic.Pointer[string] // what the combiner's log is to say once

	mu   sync.Mutex  // one question of FEDn's at a time
	now  *collection // what is being stored
	last *answer     // what was said last, for who asks again

	refusedAt time.Time // when the combiner was told that its global model cannot be used; with mu

	busy chan struct{}          // holds an element during a delivery: one at a time
	live atomic.Pointer[string] // the update of the round that is going on, which is not late
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
	cfg = cfg.withDefaults()
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("fedn: %w", err)
	}
	s, err := openSpool(cfg.Dir, cfg.MaxPending)
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg: cfg, mesh: mesh, spool: s, kick: make(chan struct{}, 1), busy: make(chan struct{}, 1),
		log: cfg.Logger.With().Str("combiner", cfg.Combiner).Str("session", cfg.Session).Logger(),
	}
	g.joined.Store(hasJoined(cfg))
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
