package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/fedmesh/fedmesh/benchmarks/kill/reducer"
	"github.com/fedmesh/fedmesh/mesh/store"
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
	// Models wait for no disk: see the package's comment.
	dir, err := store.Open(c.DataDir, store.Options{Fsync: store.Never, Logger: c.Logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	node := reducer.New(dir, reducer.Options{Name: c.Name, API: c.Listen, KeepModels: c.KeepModels, Logger: c.Logger})
	co, err := newCoordinator(c, node, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, co.close()) }()
	node.Start(co)
	defer node.Close()
	return reducer.Serve(ctx, c, node, co.handler())
}
