package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// How long a stopping peer waits for requests under way, and then for its own parts.
const (
	drainTimeout = 10 * time.Second
	closeTimeout = 20 * time.Second
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
	peer, err := create(f, log, registry)
	if err != nil {
		ln.Close()
		return err
	}
	server := api.NewServer(peer, api.ServerOptions{Logger: log, Registerer: registry, Gatherer: registry})
	mux := http.NewServeMux()
	mux.Handle("/v1/peer/", peer.PeerHandler())
	mux.Handle("/", server)
	hs := server.HTTPServer(mux)

	// Serving starts before the peer does: others fetch from it while it catches up.
	served := serveHTTP(hs, ln)
	err = peer.Start(ctx)
	if err == nil {
		log.Info().Str("api", "http://"+f.advertiseAPI).Str("data", f.dataDir).Str("version", readBuild().Version).Msg("serving")
		select {
		case <-ctx.Done():
			log.Info().Msg("stopping; a second signal ends the process at once")
		case <-peer.Left():
			log.Info().Msg("stopping: this peer has left the mesh")
		case err = <-served:
			err = fmt.Errorf("the server stopped: %w", err)
		}
	} else if ctx.Err() != nil {
		err = nil // stopped while it was starting
	}
	return errors.Join(err, stopNode(hs, peer, log))
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

// stopNode lets requests under way finish, then closes the peer. It may be called with the
// run's context ended, so it has bounds of its own.
func stopNode(hs *http.Server, peer nodePeer, log zerolog.Logger) error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	if err := hs.Shutdown(ctx); err != nil {
		log.Warn().Err(err).Msg("requests under way were cut off")
		hs.Close()
	}
	closed := make(chan error, 1)
	go func() { closed <- peer.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(closeTimeout):
		return fmt.Errorf("the peer did not stop within %v", closeTimeout)
	}
}
