package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/fedmesh/fedmesh/mesh/fedn"
)

// fednFlags are what a gateway is told on its command line.
type fednFlags struct {
	client              clientFlags
	open                sessionFlags
	listen, maxPending  string
	insecure            bool
	gateway             fedn.Config
	logFormat, logLevel string
}

func newFedn(a *app) *cobra.Command {
	var f fednFlags
	cmd := &cobra.Command{
		Use:   "fedn --combiner NAME --session SESSION --data-dir DIR --peers URL,URL",
		Short: "Run beside a FEDn combiner and have it aggregate over the mesh",
		Long: `Run the function service of one FEDn combiner, in the place of FEDn's own hooks
process: the combiner finds it by HOOK_SERVICE_HOST. Each combiner has its own,
with a name of its own. It sums the models of the combiner's clients, weighted by
their examples, pushes one update to any peer, waits for the round that counts it,
and answers with the mesh's model, which is the same at all combiners.

A session that does not exist yet is opened with the combiner's global model and
what the flags below say; give them alike to all. Several FEDn networks, each with
its own controller, may share a session.

While no peer answers the combiner waits, and after --patience goes on with its
own clients' mean; its update is kept in --data-dir/pending and pushed later. What
the mesh will never take goes to --data-dir/refused, and the log says why. The files
of --token-file, --ca, --cert and --key are read again when they change.`,
		Example: `  fedmesh fedn --combiner north --session digits --data-dir north --target-combiners 4 --peers http://a:8080,http://b:8080
  HOOK_SERVICE_HOST=127.0.0.1:12081 fedn combiner start --init combiner.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := a.logger(f.logFormat, f.logLevel)
			if err != nil {
				return err
			}
			f.gateway.Logger = log
			if f.gateway.Open, err = f.open.config(); err != nil {
				return err
			}
			if f.gateway.Patience <= 0 {
				return usagef("--patience is %v; it must be positive", f.gateway.Patience)
			}
			if f.gateway.MaxPending, err = parseSize(f.maxPending); err != nil {
				return usagef("--max-pending: %w", err)
			}
			if f.gateway.MaxPending == 0 {
				return usagef("--max-pending is %q; it must be positive", f.maxPending)
			}
			if err := f.gateway.Validate(); err != nil {
				return &usageError{err}
			}
			if !loopback(f.listen) && !f.insecure {
				return usagef("--listen %s is open to other machines, and FEDn's combiners neither encrypt nor say who they are: listen on 127.0.0.1, or give --insecure where the network is trusted", f.listen)
			}
			ln, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", f.listen)
			if err != nil {
				return hint(err, "free the address, or choose another with --listen; the combiner's HOOK_SERVICE_HOST must name it")
			}
			defer ln.Close()
			token, err := clientToken(cmd, f.client.token)
			if err != nil {
				return err
			}
			c, err := f.client.lasting(token, log)
			if err != nil {
				return err
			}
			defer c.Close()
			if err := runFedn(cmd.Context(), ln, f.gateway, c, log); err != nil {
				return &remoteError{err}
			}
			return nil
		},
	}
	f.client.registerPeers(cmd)
	f.open.register(cmd.Flags())
	fs := cmd.Flags()
	fs.StringVar(&f.listen, "listen", "127.0.0.1:12081", "`host:port` that the combiner's HOOK_SERVICE_HOST names")
	fs.BoolVar(&f.insecure, "insecure", false, "listen where other machines reach it, though nothing is encrypted and nobody is asked who he is")
	fs.StringVar(&f.gateway.Combiner, "combiner", "", "`name` of the combiner in the session (required)")
	fs.StringVar(&f.gateway.Session, "session", "", "`name` of the session (required)")
	fs.StringVar(&f.gateway.Dir, "data-dir", "", "`folder` for models on their way, and updates that no peer has yet (required)")
	fs.DurationVar(&f.gateway.Patience, "patience", fedn.DefaultPatience, "how long the combiner waits for the mesh; FEDn gives up after 10m")
	fs.StringVar(&f.maxPending, "max-pending", "20GB", "updates that no peer has yet take at most this `size` of the disk; the oldest go first")
	fs.StringVar(&f.logFormat, "log-format", "console", "console or json")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	required(cmd, "combiner")
	required(cmd, "session")
	required(cmd, "data-dir")
	return cmd
}

// fednDrain bounds how long a stopping gateway waits for the answer it is at.
const fednDrain = 5 * time.Second

// runFedn serves until ctx ends. What a round has gathered by then is FEDn's to send again; updates
// that no peer has are on disk.
func runFedn(ctx context.Context, ln net.Listener, cfg fedn.Config, c *lastingClient, log zerolog.Logger) error {
	g, err := fedn.New(cfg, c)
	if err != nil {
		return err
	}
	server := grpc.NewServer(fedn.ServerOptions()...)
	g.Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	log.Info().Str("listen", ln.Addr().String()).Str("combiner", cfg.Combiner).Str("session", cfg.Session).Strs("peers", c.Peers()).
		Msg("waiting for the combiner")
	select {
	case err = <-served:
		err = fmt.Errorf("the server stopped: %w", err)
	case <-ctx.Done():
		hard := time.AfterFunc(fednDrain, server.Stop)
		server.GracefulStop()
		hard.Stop()
		err = <-served
	}
	return errors.Join(err, g.Close())
}
