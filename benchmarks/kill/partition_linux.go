package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/meshtest/netns"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// newLAN makes a network of namespaces, one for each peer, for the combiners of
// either side, and for the judge.
func newLAN(peers []string, seed uint64) (lan, error) {
	if err := netns.Check(); err != nil {
		return nil, fmt.Errorf("kill: --partition: %w", err)
	}
	net, err := netns.New(netns.Options{Hosts: slices.Concat(peers, sideNames[:], []string{judgeHost}), Seed: seed})
	if err != nil {
		return nil, fmt.Errorf("kill: --partition: %w", err)
	}
	return namespaces{net}, nil
}

type namespaces struct{ net *netns.Network }

func (n namespaces) host(name string) process.Host {
	h := n.net.Host(name)
	return process.Host{IP: h.IP(), Start: h.Start}
}

func (n namespaces) dial(host string) dialer { return n.net.Host(host).DialContext }

func (n namespaces) cut(a, b []string) { n.net.Between(a, b, netns.Link{Cut: true}) }

func (n namespaces) heal() { n.net.Heal() }

func (n namespaces) contact(a, b []string) time.Time { return n.net.Contact(a, b) }

func (n namespaces) Close() error { return n.net.Close() }
