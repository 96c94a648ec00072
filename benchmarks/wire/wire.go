// Package wire gives a mesh of processes a network on which every peer has a
// machine of its own, as far as the kernel's counters are concerned: what goes
// through a peer's interface, see proc.TrafficOf, is that peer's traffic, all
// headers included. That needs Linux, root and /dev/net/tun.
//
//	if err := wire.Check(); err != nil { ... }  // says what is missing
//	n, err := wire.New([]string{"a", "b"}, seed)
//	process.Options{Hosts: n.Hosts(), Dial: n.Dial, ...}
//	defer n.Close() // after the processes
//
// A Network may be used from many goroutines.
package wire

import (
	"context"
	"net"

	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Device is the interface's name on every host.
const Device = "mesh0"

// outside is where the benchmark is in the network.
const outside = "combiners"

// Network has a host for each peer, and one for the benchmark itself.
type Network interface {
	Hosts() []process.Host                                            // of the peers, in order
	Dial(ctx context.Context, network, addr string) (net.Conn, error) // from the benchmark's host
	Close() error
}
