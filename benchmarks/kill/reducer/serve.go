package reducer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/store"
)

// Config is the command line of a reducer. It takes the flags of `fedmesh node`,
// so that the same program can start and stop it; some of them mean nothing to
// it.
type Config struct {
	Name, Listen, Peer, DataDir string // Peer is where it listens for others of its kind
	Fsync                       store.Fsync
	KeepModels                  int // see Options
	Logger                      zerolog.Logger
}

// Parse reads the arguments, the first of which is "node".
func Parse(args []string, stderr io.Writer) (Config, error) {
	var c Config
	if len(args) == 0 || args[0] != "node" {
		return c, errors.New("reducer: the only command is: node --name a --listen HOST:PORT --gossip HOST:PORT --data-dir DIR")
	}
	set := flag.NewFlagSet("node", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&c.Name, "name", "a", "name of this process")
	set.StringVar(&c.Listen, "listen", "127.0.0.1:8080", "host:port of the API")
	set.StringVar(&c.Peer, "gossip", "127.0.0.1:7946", "host:port for the other processes")
	set.StringVar(&c.DataDir, "data-dir", "", "folder for everything that outlives a restart")
	set.TextVar(&c.Fsync, "fsync", store.Auto, "auto, always or never, as for a fedmesh peer")
	set.IntVar(&c.KeepModels, "keep-models", 0, "how many of the newest models stay; 0: all")
	for _, ignored := range []string{"join", "mesh", "log-format"} {
		set.String(ignored, "", "ignored")
	}
	if err := set.Parse(args[1:]); err != nil {
		return c, err
	}
	if c.DataDir == "" {
		return c, errors.New("reducer: --data-dir is missing")
	}
	c.Logger = zerolog.New(stderr).Level(zerolog.InfoLevel).With().Timestamp().Str("self", c.Name).Logger()
	return c, nil
}

// Serve serves a node until ctx ends: the API of a fedmesh peer, and what more
// there is for the processes among themselves.
func Serve(ctx context.Context, c Config, n *Node, more http.Handler) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("reducer: %w; free the address, or choose another with --listen", err)
	}
	server := api.NewServer(n, api.ServerOptions{Logger: c.Logger})
	mux := http.NewServeMux()
	if more != nil {
		mux.Handle("/v1/peer/", more)
	}
	mux.Handle("/", server)
	hs := server.HTTPServer(mux)
	served := make(chan error, 1)
	go func() { served <- hs.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("reducer: %w", err)
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := hs.Shutdown(ctx); err != nil {
		_ = hs.Close() // those that are under way are cut off
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("reducer: %w", err)
	}
	return nil
}
