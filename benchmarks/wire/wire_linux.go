package wire

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/fedmesh/fedmesh/mesh/meshtest/netns"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Check says what is missing for a network.
func Check() error {
	if err := netns.Check(); err != nil {
		return fmt.Errorf("wire: %w", err)
	}
	return nil
}

// New makes a network for peers of these names.
func New(peers []string, seed uint64) (Network, error) {
	n, err := netns.New(netns.Options{Hosts: slices.Concat(peers, []string{outside}), Seed: seed})
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	return namespaces{n, peers}, nil
}

type namespaces struct {
	*netns.Network
	peers []string
}

// Hosts implements Network.
func (n namespaces) Hosts() (hosts []process.Host) {
	for _, p := range n.peers {
		h := n.Host(p)
		hosts = append(hosts, process.Host{IP: h.IP(), Start: h.Start})
	}
	return hosts
}

// Dial implements Network.
func (n namespaces) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.Host(outside).DialContext(ctx, network, addr)
}
