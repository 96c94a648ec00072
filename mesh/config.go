package mesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/certs"
	"github.com/fedmesh/fedmesh/mesh/gossip"
	"github.com/fedmesh/fedmesh/mesh/store"
)

// MinSecret is the fewest bytes that Config.Secret may have.
const MinSecret = 32

// Config says who a peer is and how it takes part. Start from DefaultConfig.
type Config struct {
	Name    string // human name, unique in the mesh, the same after a restart
	Mesh    string // name of the mesh
	API     string // host:port under which others reach this peer's HTTP interface
	DataDir string // everything that outlives a restart
	Fsync   store.Fsync
	MaxDisk int64 // bytes of models beyond which updates are refused; 0: as many as the disk takes

	// KeepModels is of how many final rounds the models are kept in each session, besides the seed, those of rounds that are not final, and those
	// that updates not counted yet were trained from; 0: of all.
	KeepModels int

	// Token returns what this peer shows to the others with each request, empty for nothing; nil: nothing. It is called from many goroutines.
	Token func() string

	// Secret is what the peers of this mesh, and nobody else, share: what noise is drawn from. Empty: there is none.
	Secret []byte

	// Keyring encrypts the gossip; nil: it is plain. TLS, which then must have a certificate, is what peers speak HTTP over and know each other by;
	// nil: they speak it plainly. All peers of a mesh do alike. The caller watches it and serves with its configuration.
	Keyring *gossip.Keyring
	TLS     *certs.Store

	Gossip          string   // host:port that gossip listens on
	AdvertiseGossip string   // host:port under which others reach it; empty: the same
	Join            []string // host:port of any peers' gossip; one that answers is enough

	// AloneAfter is how long a starting peer looks for the others it was told of, or knew before, until it goes on alone.
	AloneAfter time.Duration
	// ExchangeEvery is how often a peer asks a random other one for entries that it missed.
	ExchangeEvery time.Duration
	// RepairEvery is how often a peer looks for updates with too few copies and for bytes that may go.
	RepairEvery time.Duration
	// CompactAfter is by how many bytes the log grows before it is compacted; more where what is kept has more. Of every session
	// the last KeepRounds final rounds stay as they are.
	CompactAfter int64
	KeepRounds   uint64
	// StallAfter is how long a transfer to or from another peer may make no progress.
	StallAfter time.Duration

	// Tune changes the gossip's own settings; nil leaves them.
	Transport memberlist.Transport                                              // replaces gossip's sockets; nil: real ones
	Dial      func(ctx context.Context, network, addr string) (net.Conn, error) // replaces TCP between the peers' HTTP interfaces
	Probe     time.Duration                                                     // how often gossip probes another peer; 0: its default
	FS        store.FS                                                          // replaces the operating system's files; nil: them

	Version    string // of the program, for metrics and logs
	Logger     zerolog.Logger
	Registerer prometheus.Registerer // nil keeps no metrics
}

// DefaultConfig returns what suits a peer unless told otherwise. Name, API, DataDir and Gossip are the caller's to set.
func DefaultConfig() Config {
	return Config{
		Mesh:          "fedmesh",
		AloneAfter:    3 * time.Second,
		ExchangeEvery: 500 * time.Millisecond,
		RepairEvery:   2 * time.Second,
		StallAfter:    10 * time.Second,
		CompactAfter:  16 << 20,
		KeepRounds:    100,
		Logger:        zerolog.Nop(),
	}
}

// Validate lists all that is wrong with c, joined; nil when nothing is.
func (c Config) Validate() error {
	var faults []error
	if err := api.CheckName("peer", c.Name); err != nil {
		faults = append(faults, err)
	}
	if err := api.CheckName("mesh", c.Mesh); err != nil {
		faults = append(faults, err)
	}
	if _, _, err := net.SplitHostPort(c.API); err != nil {
		faults = append(faults, fmt.Errorf("mesh: API address %q is not host:port", c.API))
	}
	if n := len(c.Secret); n > 0 && n < MinSecret {
		faults = append(faults, fmt.Errorf("mesh: a secret of %d bytes could be guessed; it must have at least %d", n, MinSecret))
	}
	if c.MaxDisk < 0 {
		faults = append(faults, fmt.Errorf("mesh: at most %d bytes of disk", c.MaxDisk))
	}
	if c.KeepModels < 0 {
		faults = append(faults, fmt.Errorf("mesh: KeepModels is %d; it must be the number of final rounds whose models are kept, or 0 for all", c.KeepModels))
	}
	if c.CompactAfter <= 0 {
		faults = append(faults, fmt.Errorf("mesh: CompactAfter is %d bytes; it must be positive", c.CompactAfter))
	}
	if c.DataDir == "" {
		faults = append(faults, errors.New("mesh: no data directory"))
	}
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"AloneAfter", c.AloneAfter}, {"ExchangeEvery", c.ExchangeEvery}, {"RepairEvery", c.RepairEvery}, {"StallAfter", c.StallAfter},
	} {
		if d.d <= 0 {
			faults = append(faults, fmt.Errorf("mesh: %s is %v; it must be positive", d.name, d.d))
		}
	}
	return errors.Join(faults...)
}
