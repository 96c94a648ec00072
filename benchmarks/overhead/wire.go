package main

import (
	"context"
	"net"

	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// combinerHost is where the combiners are in a network of its own.
const combinerHost = "combiners"

// wire is a network whose hosts have an interface each.
type wire interface {
	host(name string) process.Host
	dial(ctx context.Context, network, addr string) (net.Conn, error) // from the combiners' host
	device() string                                                   // the interface's name on every host
	Close() error
}
