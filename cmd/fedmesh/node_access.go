package main

import (
	"fmt"

	"github.com/rs/zerolog"
	"github.com/spf13/pflag"

	"github.com/fedmesh/fedmesh/mesh/access"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// mostUploads is far more than a process has files for.
const mostUploads = 100_000

// accessFlags are who may do what at a peer, and how much of it.
type accessFlags struct {
	tokensFile, peerTokenFile string
	maxBody                   string
	maxUploads, tokenUploads  int
	maxRequests               float64
}

func (f *accessFlags) register(fs *pflag.FlagSet) {
	fs.StringVar(&f.tokensFile, "tokens-file", "", "`file` of the tokens that are let in, read again when it changes; without one everybody is")
	fs.StringVar(&f.peerTokenFile, "peer-token-file", "", "`file` with the token of role peer that this peer shows to the others, read again when it changes")
	fs.StringVar(&f.maxBody, "max-body", "64GiB", "refuse models of more than this `size`")
	fs.IntVar(&f.maxUploads, "max-uploads", 256, "how many models are received at a time; others wait a moment and are then told to come back")
	fs.IntVar(&f.tokenUploads, "max-token-uploads", 0, "how many of these one token may bring; 0: all")
	fs.Float64Var(&f.maxRequests, "max-requests", 0, "how many requests a second one token may make, or without a token one address; 0: any number")
}

// complete returns all that is wrong.
func (f *accessFlags) complete(bad func(format string, args ...any)) {
	if n, err := parseSize(f.maxBody); f.maxBody != "" && (err != nil || n == 0) {
		bad("--max-body is %q; it must be a size above 0, as 500MB", f.maxBody)
	}
	if f.maxUploads < 0 || f.maxUploads > mostUploads {
		bad("--max-uploads is %d; it must be 1 to %d, or 0 for the default", f.maxUploads, mostUploads)
	}
	if f.tokenUploads < 0 {
		bad("--max-token-uploads is %d; it must be a number of models, or 0 for as many as --max-uploads", f.tokenUploads)
	}
	if !(f.maxRequests >= 0 && f.maxRequests <= 1e6) {
		bad("--max-requests is %g; it must be 0 to 1000000", f.maxRequests)
	}
	if f.tokensFile != "" {
		if _, err := access.Open(f.tokensFile, zerolog.Nop()); err != nil {
			bad("--tokens-file: %w", err)
		}
	}
	if f.peerTokenFile != "" {
		if _, err := access.ReadSecret(f.peerTokenFile); err != nil {
			bad("--peer-token-file: %w", err)
		}
	}
}

// serverOptions sets in o what the flags say.
func (f *accessFlags) serverOptions(o *api.ServerOptions) error {
	var err error
	if o.MaxBody, err = parseSize(f.maxBody); err != nil {
		return &usageError{err}
	}
	o.Limits = api.Limits{Uploads: f.maxUploads, UploadsPerToken: f.tokenUploads, Requests: f.maxRequests}
	if f.tokensFile == "" {
		return nil
	}
	file, err := access.Open(f.tokensFile, o.Logger)
	if err != nil {
		return fmt.Errorf("--tokens-file: %w", err)
	}
	set := file.Tokens()
	if set.Len() == 0 {
		o.Logger.Warn().Str("file", f.tokensFile).Msg("the tokens file is empty: nobody is let in")
	}
	if set.Has(access.Peer) && f.peerTokenFile == "" {
		o.Logger.Warn().Str("file", f.tokensFile).Msg("the tokens file has tokens of peers, and this peer shows none: where the file is the same, it is refused; see --peer-token-file")
	}
	if !set.Has(access.Peer) {
		o.Logger.Info().Str("file", f.tokensFile).Msg("the tokens file has no token of a peer: others get in by certificates only, see --tls-ca")
	}
	o.Tokens = file.Tokens
	return nil
}

// peerToken is what mesh.Config.Token is; nil without a token.
func (f *accessFlags) peerToken(log zerolog.Logger) (func() string, error) {
	if f.peerTokenFile == "" {
		return nil, nil
	}
	s, err := access.OpenSecret(f.peerTokenFile, log)
	if err != nil {
		return nil, fmt.Errorf("--peer-token-file: %w", err)
	}
	return s.Token, nil
}
