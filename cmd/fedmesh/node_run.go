package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/gossip"
)

// How long a stopping peer waits for requests under way, and then for its own parts: together less than the 30 s after which Kubernetes kills.
const (
	drainTimeout = 15 * time.Second
	closeTimeout = 10 * time.Second
)

// A nodePeer is what runNode needs of a peer.
type nodePeer interface {
	api.Backend
	// PeerHandler serves the other peers, below /v1/peer/.
	PeerHandler() http.Handler
	// Start takes part in the mesh; its context bounds the start only.
	Start(ctx context.Context) error
	// Left is closed once the peer has left the mesh for good.
	Left() <-chan struct{}
	// Drain has it take nothing new, and others told when it is closed.
	Drain()
	// Close ends it.
	Close() error
}

// runNode runs a peer until ctx ends or its server fails, and stops it within a bound.
func runNode(ctx context.Context, f nodeFlags, log zerolog.Logger,
	create func(nodeFlags, zerolog.Logger, *prometheus.Registry) (nodePeer, error),
) error {
	log = log.With().Str("self", f.name).Logger()
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	// The port first: it is the likeliest to be taken, and with port 0 decides what others are told.
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", f.listen)
	if err != nil {
		return hint(err, "free the address, or choose another with --listen")
	}
	if f.advertiseAPI == "" {
		f.advertiseAPI = ln.Addr().String()
	}
	unexport, err := gossip.ExportMemberlist(registry)
	if err != nil {
		ln.Close()
		return err
	}
	defer unexport()
	options := api.ServerOptions{Logger: log, Registerer: registry, Gatherer: registry}
	if err := f.serverOptions(&options); err != nil {
		ln.Close()
		return err
	}
	if err := f.open(f.listen, f.gossip, log, registry); err != nil {
		ln.Close()
		return err
	}
	peer, err := create(f, log, registry)
	if err != nil {
		ln.Close()
		return err
	}
	server := api.NewServer(peer, options)
	mux := http.NewServeMux()
	mux.Handle("/v1/peer/", f.peersOnly(server.GuardPeers(peer.PeerHandler()), log))
	mux.Handle("/", server)
	gate := newGate(mux)
	hs := server.HTTPServer(gate)
	hs.ErrorLog = serverLog(log)
	wrapped, err := f.wrap(ln)
	if err != nil {
		return errors.Join(err, ln.Close(), peer.Close())
	}
	defer f.watch(ctx)()

	// Serving starts before the peer does: others fetch from it while it catches up.
	served := serveHTTP(hs, wrapped)
	err = peer.Start(ctx)
	if err == nil {
		log.Info().Str("api", f.scheme()+"://"+f.advertiseAPI).Str("file", f.dataDir).Str("version", readBuild().Version).Msg("serving")
		starting, started := context.WithCancel(ctx)
		var tell sync.WaitGroup
		tell.Go(func() { notifyReady(starting, peer.Ready, log) })
		select {
		case <-ctx.Done():
			log.Info().Msg("stopping; a second signal ends the process at once")
		case <-peer.Left():
			log.Info().Msg("stopping: this peer has left the mesh")
		case err = <-served:
			err = fmt.Errorf("the server stopped: %w", err)
		}
		started()
		tell.Wait()
		notify("STOPPING=1", log)
	} else if ctx.Err() != nil {
		err = nil // stopped while it was starting
	}
	return errors.Join(err, stopNode(server, hs, gate, peer, log))
}

// serveHTTP serves until shut down; what it stops for otherwise is sent.
func serveHTTP(hs *http.Server, ln net.Listener) <-chan error {
	failed := make(chan error, 1)
	go func() {
		if err := hs.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
	return failed
}

// stopNode stops a peer that may come back. At once it takes no more updates: /readyz and new pushes are answered with 503 and their connections closed, so
// that clients go to another peer. It is still there for what was under way, then closes its port, then the peer. It may be called with the run's context
// ended, so it has bounds of its own.
func stopNode(server *api.Server, hs *http.Server, gate *gate, peer nodePeer, log zerolog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	peer.Drain()
	server.Close() // who only waits for news is told to ask another
	hs.SetKeepAlivesEnabled(false)
	select {
	case <-gate.shut():
	case <-ctx.Done():
	}
	if err := hs.Shutdown(ctx); err != nil {
		log.Warn().Err(err).Dur("after", drainTimeout).Msg("requests under way were cut off")
		hs.Close()
	}
	closed := make(chan error, 1)
	go func() { closed <- peer.Close() }()
	select {
	case err := <-closed:
		if err == nil {
			log.Info().Msg("stopped")
		}
		return err
	case <-time.After(closeTimeout):
		return fmt.Errorf("the peer did not stop within %v", closeTimeout)
	}
}

// A gate counts the requests under way.
type gate struct {
	next http.Handler

	mu      sync.Mutex
	under   int
	closing bool
	idle    chan struct{} // closed once those are done that came before shut
}

func newGate(next http.Handler) *gate { return &gate{next: next, idle: make(chan struct{})} }

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.enter() {
		g.next.ServeHTTP(w, r) // it may be refused further on, and is not waited for here
		return
	}
	defer g.leave()
	g.next.ServeHTTP(w, r)
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closing {
		return false
	}
	g.under++
	return true
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.under--
	if g.closing && g.under == 0 {
		close(g.idle)
	}
}

// shut returns a channel that is closed once the requests that came until now are answered. It is called once.
func (g *gate) shut() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closing = true
	if g.under == 0 {
		close(g.idle)
	}
	return g.idle
}
