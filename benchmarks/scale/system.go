package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/benchmarks/proc"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// patience bounds what should take seconds.
const patience = 5 * time.Minute

// system is a mesh of processes and what is watched of it.
type system struct {
	config  config
	dir     string
	cluster *process.Cluster
	start   time.Time

	mu      sync.Mutex
	dirs    map[string]string // in /proc, by peer
	samples []Sample
}

// Sample is the resident memory of the peer that has most, at one moment.
type Sample struct {
	At       float64 `json:"at"` // seconds since the start
	Resident int64   `json:"resident_bytes"`
}

// newSystem starts peers.
func newSystem(ctx context.Context, c config, o process.Options, name string) (s *system, err error) {
	s = &system{config: c, dir: filepath.Join(c.dir, name), dirs: map[string]string{}}
	o.Dir, o.Mesh, o.ReadyTimeout = s.dir, "scale", patience
	if s.cluster, err = process.NewCluster(o); err != nil {
		return nil, err
	}
	s.start = time.Now()
	if err := s.cluster.Start(ctx); err != nil {
		return nil, errors.Join(err, s.cluster.Close())
	}
	return s, nil
}

// end stops the peers; where all was well, their data goes. Their logs stay until
// the command ends.
func (s *system) end(ctx context.Context, err error) error {
	if cerr := s.cluster.Close(); cerr != nil {
		return errors.Join(err, cerr)
	}
	if !s.config.keep && (err == nil || ctx.Err() != nil) {
		for _, name := range s.cluster.Names() {
			err = errors.Join(err, os.RemoveAll(s.cluster.DataDir(name)))
		}
	}
	return err
}

// now is the time since the start in seconds.
func (s *system) now() float64 { return time.Since(s.start).Seconds() }

// client makes a client whose order of peers depends on the seed and a number.
func (s *system) client(n int) (*api.Client, error) {
	return api.NewClient(s.cluster.URLs(), api.ClientOptions{
		Shuffle: true, Rand: rand.NewPCG(s.config.seed, uint64(n)),
		ResponseTimeout: time.Minute, BadFor: 500 * time.Millisecond, MaxBackoff: 2 * time.Second,
	})
}

// each asks the peers that run, all at once, until there is no error.
func (s *system) each(ctx context.Context, ask func(ctx context.Context, name string, one *api.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	running := s.cluster.Running()
	for _, p := range s.cluster.Peers() {
		if !slices.Contains(running, p.Name) {
			continue
		}
		g.Go(func() error {
			one, err := api.NewClient([]string{p.URL}, api.ClientOptions{Passes: 1, ResponseTimeout: 5 * time.Second})
			if err != nil {
				return err
			}
			defer one.Close()
			for err = ask(ctx, p.Name, one); err != nil; err = ask(ctx, p.Name, one) {
				if command.Pause(ctx, 20*time.Millisecond); ctx.Err() != nil {
					return fmt.Errorf("%s: %w", p.Name, errors.Join(context.Cause(ctx), err))
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// meet waits until all peers that run see so many that are alive.
func (s *system) meet(ctx context.Context, alive int) error {
	return s.each(ctx, func(ctx context.Context, _ string, one *api.Client) error {
		m, err := one.Mesh(ctx)
		if err != nil {
			return err
		}
		n := 0
		for _, p := range m.Peers {
			if p.State == api.PeerAlive {
				n++
			}
		}
		if n != alive {
			return fmt.Errorf("%d of %d peers are alive to it", n, alive)
		}
		return nil
	})
}

// place is where a peer's process is in /proc.
func (s *system) place(peer string) (string, error) {
	s.mu.Lock()
	dir := s.dirs[peer]
	s.mu.Unlock()
	if dir != "" {
		return dir, nil
	}
	dir, err := proc.Find("--data-dir", s.cluster.DataDir(peer))
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs[peer] = dir
	return dir, nil
}

// killed notes that a peer's process is gone.
func (s *system) killed(peer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dirs, peer)
}

// state is what a peer's process holds now; nothing where the system does not tell.
func (s *system) state(peer string) (proc.State, error) {
	dir, err := s.place(peer)
	if err != nil {
		return proc.State{}, ignoreUnsupported(err)
	}
	st, err := proc.StateIn(dir)
	return st, ignoreUnsupported(err)
}

// cpu is the processor time of the peers that run, in seconds.
func (s *system) cpu() (sum float64, err error) {
	for _, name := range s.cluster.Running() {
		one, err := s.cpuOf(name)
		if err != nil {
			return 0, err
		}
		sum += one
	}
	return sum, nil
}

func (s *system) cpuOf(peer string) (float64, error) {
	dir, err := s.place(peer)
	if err != nil {
		return 0, ignoreUnsupported(err)
	}
	u, err := proc.UsageIn(dir)
	return u.CPU, ignoreUnsupported(err)
}

// ownCPU is the processor time of this process, combiners and judgement.
func ownCPU() float64 {
	u, err := proc.UsageIn("/proc/self")
	if err != nil {
		return 0
	}
	return u.CPU
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// sample notes the peers' memory until ctx ends.
func (s *system) sample(ctx context.Context, every time.Duration) error {
	for ctx.Err() == nil {
		var most int64
		for _, name := range s.cluster.Running() {
			st, err := s.state(name)
			if err != nil {
				return err
			}
			most = max(most, st.Resident)
		}
		s.mu.Lock()
		s.samples = append(s.samples, Sample{At: s.now(), Resident: most})
		s.mu.Unlock()
		command.Pause(ctx, every)
	}
	return nil
}

// most is the largest sample between two times.
func most(samples []Sample, from, to float64) (resident int64) {
	for _, x := range samples {
		if x.At >= from && x.At <= to {
			resident = max(resident, x.Resident)
		}
	}
	return resident
}

// fallen lists the peers whose processes have ended.
func (s *system) fallen() (out []string) {
	for _, name := range s.cluster.Names() {
		if how := s.cluster.Exit(name); how != "" {
			out = append(out, name+": "+how)
		}
	}
	return out
}
