package main

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/fedmesh/fedmesh/mesh/meshtest/netns"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// checkWire says what is missing for a network of namespaces.
func checkWire() error {
	if err := netns.Check(); err != nil {
		return fmt.Errorf("overhead: --wire %s: %w", wireNamespaces, err)
	}
	return nil
}

func newWire(peers []string, seed uint64) (wire, error) {
	n, err := netns.New(netns.Options{Hosts: slices.Concat(peers, []string{combinerHost}), Seed: seed})
	if err != nil {
		return nil, fmt.Errorf("overhead: %w", err)
	}
	return namespaces{n}, nil
}

type namespaces struct{ *netns.Network }

func (n namespaces) host(name string) process.Host {
	h := n.Host(name)
	return process.Host{IP: h.IP(), Start: h.Start}
}

func (n namespaces) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.Host(combinerHost).DialContext(ctx, network, addr)
}

func (n namespaces) device() string { return "mesh0" }
