package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// patience bounds what should take seconds, on a slow machine too.
const patience = 5 * time.Minute

// mesh is peers that run, and the ways to them. Sessions may follow each other on
// it.
type mesh struct {
	cluster *process.Cluster
	routes  routes
	each    map[string]*api.Client // of one peer only
}

// startMesh starts peers with their data in a new folder.
func startMesh(ctx context.Context, c Config, dir, name string) (_ *mesh, err error) {
	m := &mesh{each: map[string]*api.Client{}}
	m.cluster, err = process.NewCluster(process.Options{Binary: c.Fedmesh, N: c.Peers, Dir: filepath.Join(dir, name), Mesh: "mnist", ReadyTimeout: patience})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if err := m.cluster.Start(ctx); err != nil {
		return nil, err
	}
	if m.routes, err = newRoutes(m.cluster.URLs()); err != nil {
		return nil, err
	}
	for _, p := range m.cluster.Peers() {
		one, err := api.NewClient([]string{p.URL}, api.ClientOptions{Passes: 1, ResponseTimeout: time.Second})
		if err != nil {
			return nil, fmt.Errorf("mnist: %w", err)
		}
		m.each[p.Name] = one
	}
	// A session opened earlier could begin with a round without content, which takes note of a peer that was not seen.
	if err := m.cluster.Together(ctx, ""); err != nil {
		return nil, err
	}
	return m, nil
}

// close ends the peers.
func (m *mesh) close() error {
	for _, one := range m.each {
		one.Close()
	}
	m.routes.close()
	return m.cluster.Close()
}
