package mesh

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/gossip"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/mesh/upload"
	"github.com/fedmesh/fedmesh/model"
)

// Peer is one reducer of a mesh. It implements api.Backend. All methods may be called from any goroutine.
type Peer struct {
	cfg     Config
	log     zerolog.Logger
	started time.Time
	dir     *store.Dir
	gossip  *gossip.Gossip
	http    *http.Client
	denials zerolog.Logger // samples
	metrics *metrics
	events  *events
	buffers buffers
	uploads *upload.Set

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	closed sync.Once
	kick   chan struct{} // wakes the loop
	hurry  chan struct{} // wakes exchangeLoop
	left   chan struct{} // closed once the peer has left the mesh

	said       said // warnings that repeat
	challenges challenges
	changing   sync.Mutex // one change of keys at a time

	notes      sync.Mutex // held while made.json is written
	pace       pace       // of answers to requests for blobs
	compacting sync.Mutex // held, and before mu, while the ledger's state is written or taken over

	mu         sync.Mutex
	replica    *ledger.Replica
	self       ledger.LogID
	own        uint64        // own entries that are durable: others may see them
	shown      chan struct{} // closed when own grows or the log fails; nil while nobody waits for that
	why        error         // it is not synced, as far as that was found out
	synced     bool          // vectors were exchanged since the start or the last stall
	joined     bool          // settleIn is done: entries may be appended
	broken     error         // why this peer must not take part any more
	leaving    bool
	draining   bool                              // Drain was called
	members    map[ledger.LogID]member           // as gossip sees them now, this peer excluded
	refused    map[ledger.LogID]time.Time        // until when those are taken for dead whose machine refused a connection
	heard      map[ledger.LogID]time.Time        // until when those are taken for alive who called though gossip takes them for dead
	calls      map[ledger.LogID]map[*func()]bool // what ends the calls under way
	asked      map[ledger.LogID]time.Time        // when those were last looked after whose seals are waited for
	slow       map[ledger.LogID]time.Time        // until when those are not asked for sums who left a request for one unanswered
	vectors    map[ledger.LogID]ledger.Vector    // as others last told them
	urgent     map[ledger.LogID]bool             // peers that are known to hold more
	exchanging map[ledger.LogID]bool             // peers that entries are being exchanged with
	sessions   map[ledger.SessionKey]*session
	fetching   map[model.Digest]chan struct{}            // closed when the fetch ends
	syncing    map[model.Digest]bool                     // models on their way to the disk
	made       map[model.Digest]madeModel                // models served here that the ledger does not know yet
	reserved   int64                                     // bytes of updates that are arriving
	pins       map[model.Digest]int                      // blobs that must stay though nothing in the ledger names them yet
	accepted   map[ledger.SessionKey]map[ledger.Key]bool // updates that a combiner pushed to this very peer
	partials   map[ledger.SessionKey][]partial           // sum states that others gossiped, for rounds not computed yet
	changed    chan struct{}                             // closed and replaced when derived state may have changed
	forgotten  map[ledger.LogID]bool                     // who was last told to be forgotten; nil: not looked yet
	membership bool                                      // an entry may have changed who is forgotten
}

// New opens the data directory and returns a peer that has not started. The caller must Close it.
func New(cfg Config) (*Peer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	dir, err := store.Open(cfg.DataDir, store.Options{Fsync: cfg.Fsync, Logger: cfg.Logger, FS: cfg.FS})
	if err != nil {
		return nil, fmt.Errorf("mesh: %w", err)
	}
	p := &Peer{
		cfg: cfg, log: cfg.Logger, dir: dir, buffers: newBuffers(), started: time.Now(), events: newEvents(),
		kick: make(chan struct{}, 1), hurry: make(chan struct{}, 1), left: make(chan struct{}), changed: make(chan struct{}),
		members: map[ledger.LogID]member{}, refused: map[ledger.LogID]time.Time{}, heard: map[ledger.LogID]time.Time{}, slow: map[ledger.LogID]time.Time{},
		asked: map[ledger.LogID]time.Time{}, calls: map[ledger.LogID]map[*func()]bool{}, vectors: map[ledger.LogID]ledger.Vector{},
		exchanging: map[ledger.LogID]bool{}, urgent: map[ledger.LogID]bool{}, sessions: map[ledger.SessionKey]*session{},
		fetching: map[model.Digest]chan struct{}{}, syncing: map[model.Digest]bool{}, pins: map[model.Digest]int{}, accepted: map[ledger.SessionKey]map[ledger.Key]bool{},
		partials: map[ledger.SessionKey][]partial{}, made: map[model.Digest]madeModel{},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.http = newHTTPClient(cfg)
	p.denials = cfg.Logger.Sample(&zerolog.BurstSampler{Burst: 3, Period: time.Minute})
	p.uploads = upload.New(p.pushingUpload, upload.Options{})
	p.metrics = newMetrics(cfg.Registerer, p)
	if err := p.load(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Start joins the mesh. It returns once gossip listens; Ready tells when the peer takes part.
func (p *Peer) Start(ctx context.Context) error {
	g, err := gossip.New(p.gossipConfig(), (*gossipHandler)(p))
	if err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	p.mu.Lock()
	p.gossip = g
	p.mu.Unlock()
	if err := g.Start(ctx); err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	p.wg.Go(p.loop)
	p.wg.Go(p.exchangeLoop)
	p.wg.Go(p.repairLoop)
	p.wg.Go(p.scrubLoop)
	return nil
}

// Close stops the peer without leaving the mesh: after a new Start on the same directory it goes on.
func (p *Peer) Close() error {
	var err error
	p.closed.Do(func() {
		p.cancel()
		p.mu.Lock()
		g, draining := p.gossip, p.draining
		p.mu.Unlock()
		switch {
		case g == nil:
		case draining:
			err = g.Stop(farewellTime)
		default:
			err = g.Close()
		}
		p.uploads.Close()
		p.wg.Wait()
		p.http.CloseIdleConnections()
		p.events.close()
		p.metrics.close()
		err = errors.Join(err, p.dir.Close())
	})
	return err
}

// Left is closed once the peer has left the mesh for good.
func (p *Peer) Left() <-chan struct{} { return p.left }

// now is the time on the replica's clock.
func (p *Peer) now() ledger.Time { return ledger.Time(time.Since(p.started).Milliseconds()) }

// wake makes the loop look at the ledger again.
func (p *Peer) wake() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// Ready implements api.Backend: nil once the peer takes part.
func (p *Peer) Ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready()
}

func (p *Peer) ready() error {
	switch {
	case p.broken != nil:
		return p.broken
	case p.leaving:
		return errors.New("this peer is leaving the mesh")
	case p.draining:
		return stopping()
	case !p.synced:
		return p.notSynced()
	}
	return nil
}

// Subscribe implements api.Backend.
func (p *Peer) Subscribe(ctx context.Context) <-chan api.Event { return p.events.subscribe(ctx) }

// observe returns a channel that is closed when derived state may have changed. It is called with p.mu held.
func (p *Peer) observe() <-chan struct{} { return p.changed }

// notify wakes all observers. It is called with p.mu held.
func (p *Peer) notify() {
	close(p.changed)
	p.changed = make(chan struct{})
}
