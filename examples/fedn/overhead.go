package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
	"github.com/fedmesh/fedmesh/model"
)

// cost is what one round took at one function service.
type cost struct {
	Service  string  `json:"service"`
	Clients  int     `json:"clients"`
	Seconds  float64 `json:"seconds"`  // from the first model sent to the last byte of the aggregate
	Resident int64   `json:"resident"` // bytes at most, of the service's process
}

// overhead compares a gateway, with a mesh of one peer behind it, with FEDn's own function service: the same models,
// sent by FEDn's own code, in the same run.
type overhead struct {
	Params int    `json:"params"`
	Costs  []cost `json:"costs"`
}

func (s *scene) overhead(ctx context.Context, params, clients int) (*overhead, error) {
	o := &overhead{Params: params}
	if err := writeModels(s.dir, params, clients, s.seed64); err != nil {
		return nil, err
	}
	for _, n := range []int{2, clients} {
		gateway, err := s.gatewayCost(ctx, n)
		if err != nil {
			return nil, err
		}
		hooks, err := s.hooksCost(ctx, n)
		if err != nil {
			return nil, err
		}
		o.Costs = append(o.Costs, gateway, hooks)
	}
	return o, nil
}

// writeModels writes a global model and the clients', as FEDn's clients send them but stored: what does not shrink need not be
// deflated, and the time for inflating is numpy's or Go's and not the services'.
func writeModels(dir string, params, clients int, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	t := model.Tensor{Name: "0", DType: model.F32, Shape: []int64{int64(params)}}
	for i := range clients + 1 {
		b := make([]byte, 0, 4*params)
		for range params {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(rng.Float32()-0.5))
		}
		if err := writeNPZ(filepath.Join(dir, fmt.Sprintf("model-%d.npz", i)), map[string][]byte{"0": b}, t); err != nil {
			return err
		}
	}
	return nil
}

func (s *scene) gatewayCost(ctx context.Context, clients int) (c cost, err error) {
	dir := filepath.Join(s.dir, fmt.Sprintf("gateway-of-%d", clients))
	cluster, err := process.NewCluster(process.Options{Binary: s.fedmesh, N: 1, Dir: filepath.Join(dir, "peers"), Mesh: "fedn", ExtraArgs: []string{"--fsync", "never"}})
	if err != nil {
		return c, err
	}
	defer cluster.Close()
	if err := cluster.Start(ctx); err != nil {
		return c, err
	}
	free, err := ports(1)
	if err != nil {
		return c, err
	}
	listen := net.JoinHostPort("127.0.0.1", strconv.Itoa(free[0]))
	p, err := s.start(fmt.Sprintf("gateway-%d", clients), s.fedmesh, []string{
		"fedn", "--combiner", "one", "--session", session, "--data-dir", filepath.Join(dir, "data"), "--peers", cluster.URLs()[0], "--listen", listen,
		"--target-combiners", "1", "--log-format", "json",
	})
	if err != nil {
		return c, err
	}
	defer p.kill()
	return s.ask(ctx, "fedmesh fedn", p, listen, clients)
}

func (s *scene) hooksCost(ctx context.Context, clients int) (c cost, err error) {
	free, err := ports(1)
	if err != nil {
		return c, err
	}
	port := strconv.Itoa(free[0])
	listen := net.JoinHostPort("127.0.0.1", port)
	p, err := s.start(fmt.Sprintf("hooks-%d", clients), s.python.path, []string{filepath.Join(s.python.scripts, "hooks.py"), "--port", port})
	if err != nil {
		return c, err
	}
	defer p.kill()
	return s.ask(ctx, "FEDn's hooks", p, listen, clients, "--functions", filepath.Join(s.python.scripts, "weighted.py"))
}

// ask has FEDn's client of a service do one round there.
func (s *scene) ask(ctx context.Context, name string, service *child, listen string, clients int, more ...string) (cost, error) {
	s.say("%d clients at %s ...", clients, name)
	// FEDn's client may take a minute to come back to a service that it has looked for too early.
	err := await(ctx, name+" does not listen", func() bool {
		conn, err := net.Dial("tcp", listen)
		if err != nil {
			return false
		}
		_ = conn.Close()
		return true
	})
	if err != nil {
		return cost{}, fmt.Errorf("%w\n%s", err, service.tail())
	}
	var files, weights []string
	for i := range clients {
		files = append(files, filepath.Join(s.dir, fmt.Sprintf("model-%d.npz", i+1)))
		weights = append(weights, strconv.Itoa(100*(i+1)))
	}
	p, err := s.start("ask-"+service.name, s.python.path, append([]string{
		filepath.Join(s.python.scripts, "ask.py"), "--service", listen, "--global", filepath.Join(s.dir, "model-0.npz"),
		"--clients", strings.Join(files, ","), "--examples", strings.Join(weights, ","),
	}, more...))
	if err != nil {
		return cost{}, err
	}
	defer p.kill()
	e, err := p.await(ctx, "aggregate", func(e event) bool { return e.Event == "aggregated" })
	if err != nil {
		return cost{}, fmt.Errorf("%w\n%s", err, service.tail())
	}
	resident, err := peakOf(service.cmd.Process.Pid)
	return cost{Service: name, Clients: clients, Seconds: e.Seconds, Resident: resident}, err
}

// peakOf is the most memory that a process had resident, where the system tells it.
func peakOf(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, nil //nolint:nilerr // not Linux
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("fedn: %w", err)
			}
			return kb << 10, nil
		}
	}
	return 0, nil
}

func (o *overhead) write(w io.Writer) error {
	fmt.Fprintf(w, "One round of a combiner whose clients have models of %d float32 parameters each, until it has the aggregate.\n\n", o.Params)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "clients\tservice\tseconds\t× FEDn's\tresident at most\t× FEDn's")
	for i, c := range o.Costs {
		theirs := o.Costs[i|1]
		fmt.Fprintf(t, "%d\t%s\t%.2f\t%.2f\t%.0f MB\t%.2f\n", c.Clients, c.Service, c.Seconds, c.Seconds/theirs.Seconds,
			float64(c.Resident)/1e6, float64(c.Resident)/float64(theirs.Resident))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\nThe gateway's time has a mesh of one peer in it: the push, the round and the pull. FEDn's hooks run the weighted mean of weighted.py.")
	return err
}
