package process

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// reservation is an address, and holds its port for TCP and UDP until it is released.
type reservation struct {
	host string
	port int
	held []io.Closer
}

// reserve finds a free port. It looks below the range from which the kernel
// takes ports for outgoing connections: a node that is down for a while must
// find its port free when it comes back.
func reserve() (*reservation, error) {
	const low = 15000
	high := ephemeralLow()
	var last error
	for try := range 200 {
		port := 0
		if high > low+1000 && try < 150 {
			port = low + rand.IntN(high-low)
		}
		r, err := hold(port)
		if err == nil {
			return r, nil
		}
		last = err
	}
	return nil, fmt.Errorf("process: find a free port on the loopback interface: %w", last)
}

// hold listens on a port with both protocols; port 0 lets the kernel choose.
func hold(port int) (*reservation, error) {
	tcp, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	addr, ok := tcp.Addr().(*net.TCPAddr)
	if !ok {
		return nil, errors.Join(fmt.Errorf("process: listening on %v", tcp.Addr()), tcp.Close())
	}
	port = addr.Port
	udp, err := net.ListenPacket("udp4", addr.String())
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	return &reservation{host: "127.0.0.1", port: port, held: []io.Closer{tcp, udp}}, nil
}

// release frees the port for the process it was reserved for.
func (r *reservation) release() error {
	var errs []error
	for _, c := range r.held {
		errs = append(errs, c.Close())
	}
	r.held = nil
	return errors.Join(errs...)
}

func (r *reservation) addr() string {
	return net.JoinHostPort(r.host, strconv.Itoa(r.port))
}

// ephemeralLow is the first port that the kernel gives to outgoing connections.
func ephemeralLow() int {
	const usual = 32768
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return usual
	}
	var from, to int
	if _, err := fmt.Sscan(string(text), &from, &to); err != nil {
		return usual
	}
	return from
}
