package reducer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/codec"
)

// Coordinator decides the order of commands, and on how many disks things are.
// Its methods are called from many goroutines. It gives each command that is
// decided, in order, to Node.Apply.
type Coordinator interface {
	// Propose returns once the command is decided and kept, with what became of it.
	// It does not give up while ctx lasts and there is hope.
	Propose(ctx context.Context, c Command) (Result, error)
	// Spread returns once as many processes as need be hold a model that is here, with
	// their names; everywhere asks for all of those that live to get it.
	Spread(ctx context.Context, d model.Digest, everywhere bool) ([]string, error)
	// Fetch brings a model here from wherever it is.
	Fetch(ctx context.Context, d model.Digest) error
	// Leads reports whether this process closes rounds.
	Leads() bool
	// Ready is nil once this process takes part.
	Ready() error
}

// Options of a node.
type Options struct {
	Name       string
	API        string // host:port
	KeepModels int    // how many of the newest models stay; 0: all
	Logger     zerolog.Logger
}

// How long a request is worked on before the combiner is sent elsewhere: less
// than it waits for an answer.
const patience = 8 * time.Second

// Node is one reducer process. It implements api.Backend.
type Node struct {
	options Options
	dir     *store.Dir
	coord   Coordinator // set by Start

	mu      sync.Mutex
	state   *State
	changed chan struct{} // closed at the next change
	spec    *aggregate.Spec
	fetches map[model.Digest]*fetch

	stop context.CancelFunc
	done chan struct{}
}

// fetch is a model on its way, for all who want it.
type fetch struct {
	done chan struct{}
	err  error
}

// New makes a node over a data folder, whose models it serves. It does nothing
// before Start.
func New(dir *store.Dir, o Options) *Node {
	state, _ := Restore(nil) // cannot fail
	return &Node{options: o, dir: dir, state: state, changed: make(chan struct{}), fetches: map[model.Digest]*fetch{}}
}

// Start begins to close rounds. It is called once; Close ends what it began.
func (n *Node) Start(c Coordinator) {
	ctx, cancel := context.WithCancel(context.Background())
	n.coord, n.stop, n.done = c, cancel, make(chan struct{})
	go func() {
		defer close(n.done)
		n.closeRounds(ctx)
	}()
}

// Close ends the node's own work. The folder stays open.
func (n *Node) Close() {
	n.stop()
	<-n.done
}

// Apply makes one decided step.
func (n *Node) Apply(c Command) (Result, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, err := n.state.Apply(c)
	if c.Kind == KindRound && r.Outcome == "" {
		n.prune()
	}
	n.notify()
	return r, err
}

// Snapshot returns all steps so far in one.
func (n *Node) Snapshot() ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state.Snapshot()
}

// Restore replaces all steps so far by those in a snapshot.
func (n *Node) Restore(snapshot []byte) error {
	s, err := Restore(snapshot)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state = s
	n.notify()
	return nil
}

// notify wakes whoever waits for a change. n.mu must be held.
func (n *Node) notify() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// Blobs are the models that are here.
func (n *Node) Blobs() *store.Blobs { return n.dir.Blobs() }

// need brings a model here unless it is. Of those who need it at once, one
// fetches.
func (n *Node) need(ctx context.Context, d model.Digest) error {
	if n.Blobs().Has(d) {
		return nil
	}
	n.mu.Lock()
	f := n.fetches[d]
	if f == nil {
		f = &fetch{done: make(chan struct{})}
		n.fetches[d] = f
		n.mu.Unlock()
		f.err = n.coord.Fetch(ctx, d)
		n.mu.Lock()
		delete(n.fetches, d)
		n.mu.Unlock()
		close(f.done)
		return f.err
	}
	n.mu.Unlock()
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// layout returns what the session's models look like, once its seed is here.
func (n *Node) layout(ctx context.Context) (*aggregate.Spec, error) {
	n.mu.Lock()
	spec, seed := n.spec, n.state.Seed
	n.mu.Unlock()
	if spec != nil {
		return spec, nil
	}
	d, err := model.ParseDigest(seed)
	if err != nil {
		return nil, fmt.Errorf("reducer: no seed: %w", err)
	}
	if err := n.need(ctx, d); err != nil {
		return nil, fmt.Errorf("reducer: seed: %w", err)
	}
	b, err := n.Blobs().Open(d)
	if err != nil {
		return nil, fmt.Errorf("reducer: seed: %w", err)
	}
	defer b.Close()
	if spec, err = SpecOf(b, b.Size()); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.spec = spec
	n.mu.Unlock()
	return spec, nil
}

// closeRounds closes the open round when it is full, or has waited long enough,
// as long as this process leads.
func (n *Node) closeRounds(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var since time.Time // when this process first saw the round open and led
	var number uint64
	for ctx.Err() == nil {
		n.mu.Lock()
		changed, info, pending, combiners := n.changed, n.state.Info(), slices.Clone(n.state.Pending), n.state.Combiners()
		n.mu.Unlock()
		leads := n.coord.Leads()
		if !leads || number != info.Round {
			since, number = time.Now(), info.Round
		}
		if leads && len(pending) > 0 && due(info, combiners, time.Since(since)) {
			err := n.closeRound(ctx, info, pending)
			if err == nil {
				continue
			}
			if ctx.Err() == nil {
				n.options.Logger.Warn().Err(err).Uint64("round", info.Round).Msg("a round could not be closed; trying again")
			}
			changed = nil
		}
		select {
		case <-changed:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// due reports whether a round with updates of so many combiners in it, that has
// been open for a while, is to be closed.
func due(info api.SessionInfo, combiners int, open time.Duration) bool {
	c := info.Config
	full := c.TargetCombiners > 0 && combiners >= c.TargetCombiners
	late := open >= time.Duration(c.RoundTimeout) && combiners >= c.MinCombiners
	return full || late || info.State == api.SessionClosing
}

// closeRound computes the model of the open round over what is in, brings it to
// the others and proposes it.
func (n *Node) closeRound(ctx context.Context, info api.SessionInfo, updates []api.UpdateInfo) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	spec, err := n.layout(ctx)
	if err != nil {
		return err
	}
	needed := []string{info.Model}
	inputs := make([]api.UpdateRef, len(updates))
	for i, u := range updates {
		needed = append(needed, u.Digest, u.Base)
		inputs[i] = ref(u)
	}
	for _, s := range needed {
		d, err := model.ParseDigest(s)
		if err != nil {
			return fmt.Errorf("reducer: %w", err)
		}
		if err := n.need(ctx, d); err != nil {
			return fmt.Errorf("reducer: %w", err)
		}
	}
	d, err := compute(ctx, n.Blobs(), spec, info.Round, info.Model, updates)
	if err != nil {
		return err
	}
	if _, err := n.coord.Spread(ctx, d, true); err != nil {
		return err
	}
	_, err = n.coord.Propose(ctx, Command{Kind: KindRound, Round: info.Round, Inputs: inputs, Digest: d.String()})
	return err
}

// receive stores a model as it arrives; with spec nil it may be any.
func (n *Node) receive(ctx context.Context, body io.Reader, spec *aggregate.Spec) (d model.Digest, err error) {
	w, err := n.Blobs().Create()
	if err != nil {
		return d, fmt.Errorf("reducer: %w", err)
	}
	defer w.Abort()
	o := codec.Options{}
	if spec != nil {
		o.Layout = spec.Layout()
		o.Check = func(tensor int, _ model.Tensor, elem int64, p []byte) error { return spec.Check(tensor, elem, p) }
	}
	if _, d, err = codec.Ingest(body, w, o); err != nil {
		if v, ok := errors.AsType[*aggregate.ValueError](err); ok {
			return d, api.InvalidValue(v.Tensor, v.Index, v.Value, "")
		}
		return d, err
	}
	if err := w.Commit(ctx, d, false); err != nil {
		return d, fmt.Errorf("reducer: %w", err)
	}
	return d, nil
}

// Receive stores a model that another process sends, and compares its digest
// with the one that was announced.
func (n *Node) Receive(ctx context.Context, body io.Reader, want model.Digest) error {
	d, err := n.receive(ctx, body, nil)
	if err != nil {
		return err
	}
	if d != want {
		return errors.Join(fmt.Errorf("reducer: %s was announced and %s came", want.Short(), d.Short()), n.Blobs().Remove(d))
	}
	return nil
}
