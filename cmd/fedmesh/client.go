package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// clientFlags are those of every command that talks to a mesh.
type clientFlags struct {
	peers   []string
	timeout time.Duration
	tries   int
	token   string // file
	tls     clientTLS

	notes *zerolog.Logger // is told of peers that failed; nil: nobody is
}

// register adds the flags; tries is how often the command goes round the peers by default.
func (f *clientFlags) register(cmd *cobra.Command, tries int) {
	f.registerPeers(cmd)
	fs := cmd.Flags()
	fs.DurationVar(&f.timeout, "timeout", 0, "give up after this long; 0: when the tries are used up")
	fs.IntVar(&f.tries, "tries", tries, "how many times to go through all peers before giving up; 0: until --timeout")
}

// registerPeers adds the flags that say which peers, and how to show who asks, for a command that never gives up.
func (f *clientFlags) registerPeers(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringSliceVar(&f.peers, "peers", []string{"127.0.0.1:8080"}, "API `URLs` of peers, or host:port, tried in turn")
	f.tls.register(fs)
	fs.StringVar(&f.token, "token-file", "", "`file` with the token to show (default the one in "+tokenVariable+", if any)")
}

// call runs fn with a client and the context its calls are bounded by.
func (f *clientFlags) call(cmd *cobra.Command, fn func(ctx context.Context, c *api.Client) error) error {
	if f.tries < 0 {
		return usagef("--tries is %d; it must not be negative", f.tries)
	}
	token, err := clientToken(cmd, f.token)
	if err != nil {
		return err
	}
	config, err := f.tls.config()
	if err != nil {
		return err
	}
	c, err := api.NewClient(f.peers, api.ClientOptions{Passes: f.tries, UserAgent: "fedmesh/" + readBuild().Version, Token: token, TLS: config, Logger: f.notes})
	if err != nil {
		return &usageError{err}
	}
	defer c.Close()
	ctx := cmd.Context()
	if f.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	if err := fn(ctx, c); err != nil {
		if f.timeout > 0 && ended(ctx) {
			err = &timeoutError{fmt.Errorf("gave up after %v: %w", f.timeout, err)}
		}
		return &remoteError{err}
	}
	return nil
}
