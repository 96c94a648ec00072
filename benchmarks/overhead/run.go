package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/benchmarks/proc"
	"github.com/fedmesh/fedmesh/benchmarks/wire"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

const (
	patience  = 5 * time.Minute        // for anything that is waited for
	idleFor   = 2 * time.Second        // before a run
	idleLeast = 200 * time.Millisecond // when nobody looks at figures
)

// shape is a mesh.
type shape struct {
	peers, copies int
}

// shapes are what is compared: the first without resilience.
var shapes = [2]shape{{peers: 1, copies: 1}, {peers: 3, copies: 2}}

// bound is what must come to the peers per byte of update: its copies, and of
// each round's model one to each, unless there is only one to make it.
func (s shape) bound() float64 {
	if s.peers == 1 {
		return float64(s.copies)
	}
	return float64(s.copies) + float64(s.peers)/updates
}

// Run is what one run took. Bytes are all peers' together.
type Run struct {
	Updates  int     `json:"updates"`
	CPU      float64 `json:"cpu_seconds"`          // of all peers
	Idle     float64 `json:"idle_cpu_per_second"`  // before, when nothing happened
	Seconds  float64 `json:"seconds"`              // wall time
	Bytes    int64   `json:"update_bytes"`         // of all updates, once each
	Received int64   `json:"received_bytes"`       // by the peers' interfaces; 0: there are none of their own
	Sent     int64   `json:"sent_bytes,omitempty"` // likewise
	Written  int64   `json:"socket_bytes"`         // by the peers to sockets
}

// runner is one run under way.
type runner struct {
	load    *load.Load
	shape   shape
	wire    wire.Network // nil: the loopback interface
	cluster *process.Cluster
	clients []*api.Client // by combiner; each begins with another peer
	polls   *http.Client
	session string
	base    string // digest of the newest model
	number  uint64 // its round
}

// run starts peers, has so many rounds pushed to them, and says what that took.
func run(ctx context.Context, c config, binary string, l *load.Load, s shape, rounds int, onWire bool) (r Run, err error) {
	dir, err := os.MkdirTemp(c.dir, "run-")
	if err != nil {
		return r, fmt.Errorf("overhead: %w", err)
	}
	x := &runner{load: l, shape: s}
	defer func() {
		for _, client := range x.clients {
			client.Close()
		}
		if x.polls != nil {
			x.polls.CloseIdleConnections()
		}
		if x.cluster != nil {
			err = errors.Join(err, x.cluster.Close())
		}
		if x.wire != nil {
			err = errors.Join(err, x.wire.Close())
		}
		if err == nil || ctx.Err() != nil {
			err = errors.Join(err, os.RemoveAll(dir)) // else somebody will want to look
		}
	}()
	if err := x.prepare(c, binary, dir, onWire); err != nil {
		return r, err
	}
	if err := x.start(ctx); err != nil {
		return r, err
	}
	if err := x.open(ctx); err != nil {
		return r, err
	}
	idle, err := x.used()
	if err != nil {
		return r, err
	}
	rest := idleFor
	if c.quick {
		rest = idleLeast
	}
	command.Pause(ctx, rest)
	before, err := x.used()
	if err != nil {
		return r, err
	}
	began := time.Now()
	for n := 1; n <= rounds; n++ {
		if err := x.round(ctx, n); err != nil {
			return r, fmt.Errorf("overhead: round %d: %w", n, err)
		}
	}
	if err := x.settle(ctx); err != nil {
		return r, err
	}
	after, err := x.used()
	if err != nil {
		return r, err
	}
	r = Run{
		Updates: rounds * updates, Bytes: int64(rounds) * l.Bytes(), Seconds: time.Since(began).Seconds(),
		CPU: after.CPU - before.CPU, Idle: (before.CPU - idle.CPU) / rest.Seconds(), Written: after.Sent() - before.Sent(),
		Received: after.Received - before.Received, Sent: after.Traffic.Sent - before.Traffic.Sent,
	}
	return r, x.compare(ctx)
}

// prepare makes what the peers need, and clients for the combiners. It starts
// nothing.
func (x *runner) prepare(c config, binary, dir string, onWire bool) (err error) {
	o := process.Options{Binary: binary, N: x.shape.peers, Dir: filepath.Join(dir, "data"), Mesh: "overhead"}
	clientOptions := api.ClientOptions{Rand: rand.NewPCG(c.seed, 1)}
	if onWire {
		var names []string
		for i := range x.shape.peers {
			names = append(names, string(rune('a'+i)))
		}
		if x.wire, err = wire.New(names, c.seed); err != nil {
			return err
		}
		o.Hosts = x.wire.Hosts()
		o.Dial, clientOptions.DialContext = x.wire.Dial, x.wire.Dial
	}
	x.polls = &http.Client{Transport: &http.Transport{DialContext: clientOptions.DialContext}}
	if x.cluster, err = process.NewCluster(o); err != nil {
		return err
	}
	for i := range updates {
		urls := x.cluster.URLs()
		k := i % len(urls)
		client, err := api.NewClient(append(append([]string{}, urls[k:]...), urls[:k]...), clientOptions)
		if err != nil {
			return err
		}
		x.clients = append(x.clients, client)
	}
	return nil
}

// start starts the peers.
func (x *runner) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return errors.Join(x.cluster.Start(ctx), x.cluster.Together(ctx, ""))
}

// create opens the session, or takes the one that is open.
func (x *runner) create(ctx context.Context) (api.SessionInfo, error) {
	cfg := api.DefaultSessionConfig()
	cfg.TargetCombiners, cfg.MinCombiners = updates, updates
	cfg.Copies, cfg.RoundTimeout = x.shape.copies, api.Duration(patience)
	info, _, err := x.clients[0].CreateSession(ctx, "overhead", cfg, api.Bytes(x.load.Seed))
	return info, err
}

// open opens the session and waits until all peers have a say in the round that is
// open, and have its base. A peer that the one asked had not heard of is no founder:
// the others close a round without content for it.
func (x *runner) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	info, err := x.create(ctx)
	if err != nil {
		return err
	}
	x.session, x.base = info.Key, info.Seed
	return x.everywhere(ctx, func(ctx context.Context, one *api.Client) error {
		got, err := one.Session(ctx, x.session)
		switch {
		case err != nil:
			return err
		case len(got.Members) < x.shape.peers:
			return fmt.Errorf("%d of %d members", len(got.Members), x.shape.peers)
		case got.ModelRound+1 != got.Round:
			return fmt.Errorf("round %d is open, the model is of round %d", got.Round, got.ModelRound)
		}
		_, err = one.Head(ctx, x.session, api.PullOptions{})
		return err
	})
}

// everywhere asks each peer until there is no error.
func (x *runner) everywhere(ctx context.Context, ask func(ctx context.Context, one *api.Client) error) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range x.cluster.Peers() {
		g.Go(func() error {
			one, err := x.clients[0].Peer(p.URL)
			if err != nil {
				return err
			}
			for err = ask(ctx, one); err != nil; err = ask(ctx, one) {
				if command.Pause(ctx, 5*time.Millisecond); ctx.Err() != nil {
					return fmt.Errorf("overhead: %s: %w", p.Name, errors.Join(ctx.Err(), err))
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// round pushes an update from each combiner, all at once, and waits until every
// peer serves the round's model.
func (x *runner) round(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	for i, u := range x.load.Updates {
		// Another update each time: bytes that are there already would cost nothing.
		at := len(x.load.Layout.Header()) + 4*(n%(len(u)/8))
		binary.LittleEndian.PutUint32(u[at:], uint32(n)<<8|uint32(i))
		g.Go(func() error {
			_, err := x.clients[i].Push(gctx, x.session, api.PushOptions{
				Combiner: "c" + strconv.Itoa(i), ID: strconv.Itoa(n), Weight: x.load.Weights[i], Base: x.base,
			}, api.Bytes(u))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return x.serve(ctx)
}

// serve waits until every peer serves a newer model, by a long poll each, which
// takes nothing from what is measured.
func (x *runner) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	got := make([]served, x.shape.peers)
	for i, p := range x.cluster.Peers() {
		g.Go(func() (err error) {
			if got[i], err = x.poll(ctx, p.URL); err != nil {
				err = fmt.Errorf("overhead: %s: %w", p.Name, err)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, s := range got {
		if s != got[0] {
			return fmt.Errorf("overhead: %s serves %.8s of round %s, %s %.8s of round %s",
				x.cluster.Names()[0], got[0].digest, got[0].round, x.cluster.Names()[i], s.digest, s.round)
		}
	}
	x.base = got[0].digest
	var err error
	x.number, err = strconv.ParseUint(got[0].round, 10, 64)
	return err
}

// served is a model as a peer names it.
type served struct{ digest, round string }

// poll asks a peer for a model of a later round until there is one, whichever
// round that is: those without content have a number too.
func (x *runner) poll(ctx context.Context, peer string) (served, error) {
	url := fmt.Sprintf("%s/v1/sessions/%s/model?wait=10s&after=%d", peer, x.session, x.number)
	last := "none"
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
		if err != nil {
			return served{}, err
		}
		resp, err := x.polls.Do(req)
		if err != nil {
			return served{}, fmt.Errorf("%w; the answer before was %s", err, last)
		}
		_ = resp.Body.Close()
		switch last = resp.Status; resp.StatusCode {
		case http.StatusOK:
			return served{digest: strings.Trim(resp.Header.Get("ETag"), `"`), round: resp.Header.Get("Fedmesh-Round")}, nil
		case http.StatusNoContent:
		default: // a peer that stood still catches up first
			command.Pause(ctx, 20*time.Millisecond)
		}
	}
}

// settle waits until the last round is final everywhere: what a peer puts off is
// part of what it takes.
func (x *runner) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return x.everywhere(ctx, func(ctx context.Context, one *api.Client) error {
		r, err := one.Round(ctx, x.session, x.number)
		if err == nil && r.State != api.RoundFinal {
			err = fmt.Errorf("the last round is %s", r.State)
		}
		if err == nil && len(r.Updates) != updates {
			err = fmt.Errorf("the last round has %d updates", len(r.Updates))
		}
		return err
	})
}

// compare fails unless every peer serves the exact mean of the last round.
func (x *runner) compare(ctx context.Context) error {
	_, want, err := x.load.Sum(ctx, 2)
	if err != nil {
		return err
	}
	for _, p := range x.cluster.Peers() {
		one, err := x.clients[0].Peer(p.URL)
		if err != nil {
			return err
		}
		info, err := one.Session(ctx, x.session)
		if err != nil {
			return err
		}
		if info.Model != want.String() {
			return fmt.Errorf("overhead: %s serves %.8s, the mean is %s", p.Name, info.Model, want.Short())
		}
	}
	return nil
}

// counters are those of all peers together.
type counters struct {
	proc.Usage
	proc.Traffic
}

// Sent is what went to sockets.
func (c counters) Sent() int64 { return c.Usage.Sent() }

// used reads the counters; empty where the system has none.
func (x *runner) used() (c counters, err error) {
	for _, name := range x.cluster.Names() {
		u, err := proc.UsageOf(x.cluster.DataDir(name))
		if errors.Is(err, errors.ErrUnsupported) {
			return c, nil
		}
		if err != nil {
			return c, err
		}
		c.Add(u)
		if x.wire == nil {
			continue
		}
		t, err := proc.TrafficOf(x.cluster.DataDir(name), wire.Device)
		if err != nil {
			return c, err
		}
		c.Received += t.Received
		c.Traffic.Sent += t.Sent
	}
	return c, nil
}
