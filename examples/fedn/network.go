package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// clientsEach is how many clients each combiner has.
const clientsEach = 2

// network is one FEDn network: combiners, their clients, and a control loop.
type network struct {
	name      string
	combiners []combiner
	storage   int
	last      int    // its control loop begins no round after this one, where it is to be killed by then; 0: it lives
	hosts     *child // combiners and storage
	control   *child
	clients   []*child
}

// combiner is one of FEDn's.
type combiner struct {
	name        string
	port, hooks int
	data        []string // its clients' files
}

// layout names all networks, combiners and clients and chooses ports. Data files are handed out in order.
func layout(data []string) ([]*network, error) {
	var ns []*network
	for _, name := range []string{"north", "south"} {
		free, err := ports(5)
		if err != nil {
			return nil, err
		}
		n := &network{name: name, storage: free[4]}
		for i := range 2 {
			n.combiners = append(n.combiners, combiner{
				name: fmt.Sprintf("%s%d", name, i+1), port: free[2*i], hooks: free[2*i+1], data: data[:clientsEach],
			})
			data = data[clientsEach:]
		}
		ns = append(ns, n)
	}
	return ns, nil
}

// clientNames are the clients of all of a network's combiners.
func (n *network) clientNames() []string {
	var names []string
	for _, c := range n.combiners {
		names = append(names, c.clients()...)
	}
	return names
}

func (c combiner) clients() []string {
	var names []string
	for _, f := range c.data {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".npz"))
	}
	return names
}

// up starts combiners and clients, and then the control loop. With hooks false nobody answers for the
// function service, as in FEDn without server functions.
func (n *network) up(ctx context.Context, s *scene, rounds int, hooks bool) error {
	var specs []string
	for _, c := range n.combiners {
		port := c.hooks
		if !hooks {
			port = 1
		}
		specs = append(specs, fmt.Sprintf("%s=%d=%d", c.name, c.port, port))
	}
	var err error
	script := func(name string) string { return filepath.Join(s.python.scripts, name) }
	n.hosts, err = s.start(n.name, s.python.path, []string{
		script("network.py"), "--name", n.name, "--storage", fmt.Sprint(n.storage), "--combiners", strings.Join(specs, ","), "--seed", s.seed, "--dir", s.dir,
	})
	if err != nil {
		return err
	}
	if _, err := n.hosts.await(ctx, "combiners", func(e event) bool { return e.Event == "listening" }); err != nil {
		return err
	}
	for _, c := range n.combiners {
		p, err := s.start("clients-of-"+c.name, s.python.path, []string{
			script("client.py"), "--combiner", fmt.Sprintf("127.0.0.1:%d", c.port), "--data", strings.Join(c.data, ","), "--out", s.dir,
		})
		if err != nil {
			return err
		}
		n.clients = append(n.clients, p)
	}
	if n.last > 0 {
		rounds = n.last
	}
	n.control, err = s.start("control-"+n.name, s.python.path, []string{
		script("control.py"), "--name", n.name, "--storage", fmt.Sprint(n.storage), "--rounds", fmt.Sprint(rounds), "--clients", fmt.Sprint(clientsEach),
		"--round-timeout", fmt.Sprint(int(roundPatience.Seconds())), "--dir", s.dir,
	})
	return err
}

// networks starts networks, and their first rounds together once all clients are there.
func (s *scene) networks(ctx context.Context, ns []*network, rounds int, hooks bool) error {
	for _, n := range ns {
		if err := n.up(ctx, s, rounds, hooks); err != nil {
			return err
		}
	}
	for _, n := range ns {
		if _, err := n.control.await(ctx, "clients", func(e event) bool { return e.Event == "clients" }); err != nil {
			return err
		}
	}
	for _, n := range ns {
		if _, err := n.control.in.Write([]byte("go\n")); err != nil {
			return fmt.Errorf("fedn: %s: %w", n.control.name, err)
		}
	}
	return nil
}

// begun waits until the clients of a round have begun to bring their models.
func (n *network) begun(ctx context.Context, s *scene, round int) error {
	return s.trained(ctx, n.name, n.clientNames(), round)
}

// underWay waits until a client of each combiner has trained in a round: from then on the round no longer needs the controller.
func (n *network) underWay(ctx context.Context, s *scene, round int) error {
	for _, c := range n.combiners {
		if err := s.trained(ctx, c.name, c.clients(), round); err != nil {
			return err
		}
	}
	return nil
}

// trained waits until one of someone's clients has trained in a round.
func (s *scene) trained(ctx context.Context, whose string, clients []string, round int) error {
	return await(ctx, fmt.Sprintf("%s: no client has trained in round %d", whose, round), func() bool {
		return slices.ContainsFunc(clients, func(client string) bool { return exists(s.updateOf(client, round)) })
	})
}

// ended waits until the controller has ended a round, whatever came of it.
func (n *network) ended(ctx context.Context, round int) (event, error) {
	return n.control.await(ctx, fmt.Sprintf("end of round %d", round), func(e event) bool { return e.Event == "round" && e.Round == round })
}
