package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// nodeFlags are what a peer is told on its command line.
type nodeFlags struct {
	name, mesh                    string
	listen, gossip                string
	advertiseAPI, advertiseGossip string
	join                          []string
	dataDir, fsync                string
	secretFile                    string
	maxDisk                       string
	keepModels                    int
	compactAfter                  string
	keepRounds                    uint64
	logFormat, logLevel           string

	accessFlags
	tlsFlags
}

func newNode(a *app) *cobra.Command {
	var (
		f             nodeFlags
		check, asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "node --data-dir DIR",
		Short: "Run a peer",
		Long: `Run a peer until SIGINT or SIGTERM. It serves the HTTP interface, finds the other
peers from any it is told to join, and keeps what it accepted in its data
directory, from which it goes on after a restart. Stopping it is not leaving the
mesh; see fedmesh leave. A second signal ends it at once, which is safe too.

Every flag can also stand in a YAML file, under its own name: data-dir: /var/lib/fedmesh.
A flag wins over the environment, the environment over the file, the file over the
default. With --check the peer does not run: all of it is validated, files are read
and addresses tried, every fault is listed, and the exit code is 2 if there is one.

With --tokens-file only who shows a token may come, see fedmesh token new; without,
everybody may do everything: listen on private networks only.`,
		Example: `  fedmesh node --name a --data-dir a
  fedmesh node --name b --data-dir b --listen 127.0.0.1:8081 --gossip 127.0.0.1:7947 --join 127.0.0.1:7946
  fedmesh node --config node.yaml --check && fedmesh node --config node.yaml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check {
				return a.checkNode(cmd, &f, asJSON)
			}
			if err := f.complete(); err != nil {
				return &usageError{err}
			}
			log, err := a.logger(f.logFormat, f.logLevel)
			if err != nil {
				return err
			}
			return runNode(cmd.Context(), f, log, newPeer)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&f.name, "name", "", "this peer's `name`, unique in the mesh (default the machine's)")
	fs.StringVar(&f.mesh, "mesh", "fedmesh", "the mesh's `name`; meshes of other names ignore each other")
	fs.StringVar(&f.listen, "listen", "127.0.0.1:8080", "`host:port` of the HTTP interface")
	fs.StringVar(&f.gossip, "gossip", "127.0.0.1:7946", "`host:port` of the gossip, UDP and TCP")
	fs.StringVar(&f.advertiseAPI, "advertise-api", "", "`host:port` under which others reach --listen (default the same)")
	fs.StringVar(&f.advertiseGossip, "advertise-gossip", "", "`host:port` under which others reach --gossip (default the same)")
	fs.StringSliceVar(&f.join, "join", nil, "gossip `host:port` of peers to find the mesh by; repeatable, one that answers is enough")
	fs.StringVar(&f.dataDir, "data-dir", "", "`folder` for the log and the models (required)")
	fs.StringVar(&f.fsync, "fsync", "auto", "when a model is synced to disk: auto (before the acknowledgement if only one peer holds it), always or never")
	fs.StringVar(&f.maxDisk, "max-disk", "0", "refuse updates while models and updates take more than this `size`, as 20GB; 0: no limit")
	fs.IntVar(&f.keepModels, "keep-models", 0, "of how many final rounds of each session to keep the models, besides the seed and all that is still needed; 0: of all")
	fs.StringVar(&f.compactAfter, "compact-after", "16MiB", "compact the log behind final rounds when it has grown by this `size`, and by as much as is kept")
	fs.Uint64Var(&f.keepRounds, "keep-rounds", 100, "of how many final rounds of each session to keep who held, sealed and computed what")
	fs.StringVar(&f.secretFile, "secret-file", "", "`file` with the mesh's secret, the same at all peers and known to nobody else; sessions with noise need it")
	f.accessFlags.register(fs)
	f.tlsFlags.register(fs)
	fs.StringVar(&f.logFormat, "log-format", "console", "console or json")
	fs.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	fs.String(configFlag, "", "YAML `file` with any of these flags under their names")
	fs.BoolVar(&check, checkFlag, false, "do not run: validate flags, environment and file, and say what is in effect")
	fs.BoolVar(&asJSON, "json", false, "with --check: print JSON instead of text")
	return cmd
}

// complete fills in defaults and returns all that is wrong.
func (f *nodeFlags) complete() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if f.name == "" {
		host, err := os.Hostname()
		if err != nil {
			bad("--name is not given and the machine has none: %w", err)
		}
		f.name, _, _ = strings.Cut(host, ".")
	}
	if f.name != "" {
		if err := api.CheckName("peer", f.name); err != nil {
			bad("--name: %w", err)
		}
	}
	address := func(flag, value string) (host string, ok bool) {
		before := len(faults)
		host, port, err := net.SplitHostPort(value)
		if err != nil {
			bad("--%s is %q; it must be host:port", flag, value)
		} else if _, err := net.LookupPort("tcp", port); err != nil {
			bad("--%s is %q; %q is no port", flag, value, port)
		} else if _, err := netip.ParseAddr(host); err != nil && strings.Contains(host, ":") {
			bad("--%s is %q; %q is no IPv6 address", flag, value, host)
		}
		return host, len(faults) == before
	}
	// What is listened on may be every address; what others are told must be one.
	reachable := func(flag, value, advertised, advertise string) {
		host, ok := address(flag, value)
		switch {
		case advertise != "":
			address(advertised, advertise)
		case ok && (host == "" || net.ParseIP(host).IsUnspecified()):
			bad("--%s %s says no address that others could reach: give --%s too", flag, value, advertised)
		}
	}
	reachable("listen", f.listen, "advertise-api", f.advertiseAPI)
	reachable("gossip", f.gossip, "advertise-gossip", f.advertiseGossip)
	for i, j := range f.join {
		if _, _, err := net.SplitHostPort(j); err != nil {
			f.join[i] = net.JoinHostPort(strings.Trim(j, "[]"), "7946")
		}
		address("join", f.join[i])
	}
	switch f.fsync {
	case "auto", "always", "never":
	default:
		bad("--fsync is %q; it must be auto, always or never", f.fsync)
	}
	if _, err := parseSize(f.maxDisk); err != nil {
		bad("--max-disk: %w", err)
	}
	if n, err := parseSize(f.compactAfter); err != nil || n == 0 {
		bad("--compact-after is %q; it must be a size above 0, as 16MiB", f.compactAfter)
	}
	if f.keepModels < 0 {
		bad("--keep-models is %d; it must be a number of rounds, or 0 for all", f.keepModels)
	}
	f.accessFlags.complete(bad)
	f.tlsFlags.complete(bad, f.listen, f.gossip)
	if f.dataDir == "" {
		bad("--data-dir is not given; it is the folder for the log and the models")
	} else {
		f.dataDir = filepath.Clean(f.dataDir)
	}
	return errors.Join(faults...)
}

// logger writes to standard error.
func (a *app) logger(format, level string) (zerolog.Logger, error) {
	lvl, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		return zerolog.Nop(), usagef("--log-level is %q; it must be debug, info, warn or error", level)
	}
	out := a.err
	switch format {
	case "json":
	case "console":
		out = zerolog.ConsoleWriter{Out: a.err, NoColor: !a.terminal || !a.colours(), TimeFormat: time.RFC3339}
	default:
		return zerolog.Nop(), usagef("--log-format is %q; it must be console or json", format)
	}
	return zerolog.New(out).Level(lvl).With().Timestamp().Logger(), nil
}

// maxSecret bounds what is read of a secret's file.
const maxSecret = 4096

// readSecret reads the mesh's secret; a line end behind it is not part of it. Without a file there is none.
func readSecret(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--secret-file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("--secret-file: %w", err)
	}
	b = bytes.TrimRight(b, "\r\n")
	if len(b) < mesh.MinSecret || len(b) > maxSecret {
		return nil, usagef("--secret-file %s: a secret has %d to %d bytes; make one with: head -c 32 /dev/urandom | base64 > %s", path, mesh.MinSecret, maxSecret, path)
	}
	return b, nil
}

// newPeer makes the peer that runNode runs.
func newPeer(f nodeFlags, log zerolog.Logger, registry *prometheus.Registry) (nodePeer, error) {
	cfg, err := f.config(log, registry)
	if err != nil {
		return nil, err
	}
	return mesh.New(cfg)
}

// config is what the peer is told of the flags.
func (f *nodeFlags) config(log zerolog.Logger, registry *prometheus.Registry) (mesh.Config, error) {
	cfg := mesh.DefaultConfig()
	cfg.Name, cfg.Mesh, cfg.API, cfg.DataDir = f.name, f.mesh, f.advertiseAPI, f.dataDir
	cfg.Gossip, cfg.AdvertiseGossip, cfg.Join = f.gossip, f.advertiseGossip, f.join
	cfg.Logger, cfg.Registerer, cfg.Version, cfg.KeepModels = log, registry, readBuild().Version, f.keepModels
	if err := cfg.Fsync.UnmarshalText([]byte(f.fsync)); err != nil {
		return cfg, &usageError{err}
	}
	var err error
	if cfg.Secret, err = readSecret(f.secretFile); err != nil {
		return cfg, err
	}
	if cfg.MaxDisk, err = parseSize(f.maxDisk); err != nil {
		return cfg, &usageError{err}
	}
	if cfg.CompactAfter, err = parseSize(f.compactAfter); err != nil {
		return cfg, &usageError{err}
	}
	cfg.KeepRounds = f.keepRounds
	if cfg.Token, err = f.peerToken(log); err != nil {
		return cfg, err
	}
	return cfg, f.apply(&cfg, log)
}
