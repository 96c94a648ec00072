// Command single is a reducer of one process, in the shape of FEDn's: it keeps
// acknowledged updates and closed rounds on disk and goes on from them when it is
// started again. While it is down there is no other.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/fedmesh/fedmesh/benchmarks/kill/reducer"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stderr io.Writer) (err error) {
	c, err := reducer.Parse(args, stderr)
	if err != nil {
		return err
	}
	dir, err := store.Open(c.DataDir, store.Options{Fsync: c.Fsync, Logger: c.Logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	node := reducer.New(dir, reducer.Options{Name: c.Name, API: c.Listen, KeepModels: c.KeepModels, Logger: c.Logger})
	err = dir.Log().Replay(nil, func(rec []byte) error {
		var command reducer.Command
		if err := json.Unmarshal(rec, &command); err != nil {
			return err
		}
		_, err := node.Apply(command)
		return err
	})
	if err != nil {
		return err
	}
	node.Start(&alone{name: c.Name, dir: dir, node: node})
	defer node.Close()
	return reducer.Serve(ctx, c, node, nil)
}

// alone is the coordinator of one process: its log is the order.
type alone struct {
	name string
	dir  *store.Dir
	node *reducer.Node

	mu sync.Mutex // the order of the log is that of Apply
}

// Propose appends the command to the log.
func (a *alone) Propose(ctx context.Context, c reducer.Command) (reducer.Result, error) {
	rec, err := json.Marshal(c)
	if err != nil {
		return reducer.Result{}, err
	}
	a.mu.Lock()
	pos, err := a.dir.Log().Append(rec)
	if err != nil {
		a.mu.Unlock()
		return reducer.Result{}, err
	}
	r, err := a.node.Apply(c)
	a.mu.Unlock()
	return r, errors.Join(err, a.dir.Log().Sync(ctx, pos))
}

// Spread has nobody to bring it to. With --fsync never, as the benchmark starts
// it, nothing waits for the disk.
func (a *alone) Spread(ctx context.Context, d model.Digest, _ bool) ([]string, error) {
	return []string{a.name}, a.node.Blobs().Sync(ctx, d)
}

// Fetch has nobody to ask.
func (a *alone) Fetch(_ context.Context, d model.Digest) error {
	return fmt.Errorf("single: %s is not here: %w", d.Short(), os.ErrNotExist)
}

// Leads implements reducer.Coordinator.
func (a *alone) Leads() bool { return true }

// Ready implements reducer.Coordinator.
func (a *alone) Ready() error { return nil }
