package netns

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxHosts is how many addresses a network has.
const maxHosts = 250

// Options say what a network consists of.
type Options struct {
	Hosts []string // their names; addresses are given in this order
	Seed  uint64   // of the packets that are lost
}

// Network is a set of hosts and the links between them, all of which are whole at first.
type Network struct {
	hosts  []*Host
	byName map[string]int
	links  [][]*link // by sender, then receiver

	forwarding sync.WaitGroup
	closing    chan struct{}
	once       sync.Once
}

// Check says what this process lacks for a network; nil when nothing. It makes
// a host and gives it up again.
func Check() error {
	var faults []error
	if os.Geteuid() != 0 {
		faults = append(faults, fmt.Errorf("netns: not root (user id %d): network namespaces need CAP_SYS_ADMIN and CAP_NET_ADMIN, run as root", os.Geteuid()))
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		faults = append(faults, fmt.Errorf("netns: no TUN devices: %w; load the kernel's tun module, or pass the device into the container", err))
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	h, err := newHost("check", [4]byte{10, 77, 0, 1})
	if err != nil {
		return fmt.Errorf("%w; a container needs CAP_SYS_ADMIN, CAP_NET_ADMIN and /dev/net/tun", err)
	}
	return h.close()
}

// New makes a network.
func New(o Options) (*Network, error) {
	if len(o.Hosts) == 0 || len(o.Hosts) > maxHosts {
		return nil, fmt.Errorf("netns: %d hosts, want 1 to %d", len(o.Hosts), maxHosts)
	}
	n := &Network{byName: map[string]int{}, closing: make(chan struct{})}
	for i, name := range o.Hosts {
		if _, ok := n.byName[name]; ok {
			return nil, errors.Join(fmt.Errorf("netns: two hosts named %q", name), n.Close())
		}
		h, err := newHost(name, [4]byte{10, 77, 0, byte(i + 1)})
		if err != nil {
			return nil, errors.Join(err, n.Close())
		}
		n.byName[name] = i
		n.hosts = append(n.hosts, h)
	}
	for from := range n.hosts {
		var row []*link
		for to, h := range n.hosts {
			row = append(row, newLink(h.tun, o.Seed, uint64(from)<<32|uint64(to)))
		}
		n.links = append(n.links, row)
	}
	for i := range n.hosts {
		n.forwarding.Go(func() { n.forward(i) })
	}
	return n, nil
}

// Host returns a host by its name; nil when there is none.
func (n *Network) Host(name string) *Host {
	i, ok := n.byName[name]
	if !ok {
		return nil
	}
	return n.hosts[i]
}

// Set makes the direction from each of some hosts to each of others as l says. A
// host's link to itself does not come through here.
func (n *Network) Set(from, to []string, l Link) { n.each(from, to, func(x *link) { x.set(l) }) }

// Between sets both directions.
func (n *Network) Between(a, b []string, l Link) {
	n.Set(a, b, l)
	n.Set(b, a, l)
}

// Heal makes all links whole.
func (n *Network) Heal() {
	all := n.names()
	n.Set(all, all, Link{})
}

// Contact says when the first packet that proves two sides to reach each other went
// through since the links between them were last set: one of UDP, or the answer
// to a connection. Zero when none did. Remains of connections from before do not count.
func (n *Network) Contact(a, b []string) time.Time {
	var first time.Time
	look := func(x *link) {
		if t := x.contacted(); !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	n.each(a, b, look)
	n.each(b, a, look)
	return first
}

// Counts tells how many packets went from some hosts to others since those links were
// last set, and how many did not.
func (n *Network) Counts(from, to []string) (delivered, dropped int) {
	n.each(from, to, func(x *link) {
		yes, no := x.counts()
		delivered += yes
		dropped += no
	})
	return delivered, dropped
}

func (n *Network) names() []string {
	names := make([]string, len(n.hosts))
	for i, h := range n.hosts {
		names[i] = h.name
	}
	return names
}

// each visits the links from some hosts to others, those of unknown hosts left out.
func (n *Network) each(from, to []string, f func(*link)) {
	for i, a := range n.hosts {
		for j, b := range n.hosts {
			if i != j && slices.Contains(from, a.name) && slices.Contains(to, b.name) {
				f(n.links[i][j])
			}
		}
	}
}

// Close kills the processes on the hosts and gives all up. It may be called more than once.
func (n *Network) Close() error {
	var errs []error
	n.once.Do(func() {
		close(n.closing)
		for _, h := range n.hosts {
			errs = append(errs, h.close()) // which ends its forwarding
		}
		n.forwarding.Wait()
	})
	return errors.Join(errs...)
}

// forward takes a host's packets and sends each on its link, until the host is closed.
func (n *Network) forward(from int) {
	buf := make([]byte, 1<<16)
	for {
		size, err := n.hosts[from].tun.Read(buf)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return
		}
		p := packet(buf[:size])
		to := int(p.last()) - 1
		if !p.ours() || to < 0 || to >= len(n.hosts) || to == from {
			continue // what kernels say to everybody, such as looking for IPv6 routers
		}
		if x := n.links[from][to]; x.admit(p) {
			if late := x.late(); late > 0 {
				x.post(n, p, time.Now().Add(late))
			} else {
				x.deliver(p)
			}
		}
	}
}
