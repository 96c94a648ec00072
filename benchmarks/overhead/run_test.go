package main

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/benchmarks/load"
)

// A peer that the session was opened without makes the first round one without
// content: on a busy machine the one that opens it may not have heard of all yet.
func TestRoundsAfterAnEmptyOne(t *testing.T) {
	if testing.Short() {
		t.Skip("builds fedmesh and starts processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	binary, err := command.Fedmesh(ctx, "", dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := load.New(ctx, load.Options{Params: 1000, Updates: updates, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	x := &runner{load: l, shape: shapes[1]}
	t.Cleanup(func() {
		for _, client := range x.clients {
			client.Close()
		}
		x.polls.CloseIdleConnections()
		if err := x.cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := x.prepare(config{seed: 1}, binary, filepath.Join(dir, "data"), false); err != nil {
		t.Fatal(err)
	}
	names := x.cluster.Names()
	for _, name := range names[:2] {
		if err := x.cluster.Restart(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	info, err := x.create(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.cluster.Restart(ctx, names[2]); err != nil {
		t.Fatal(err)
	}
	if err := x.open(ctx); err != nil {
		t.Fatal(err)
	}
	if x.session != info.Key {
		t.Fatalf("session %s, not %s", x.session, info.Key)
	}
	for n := range 2 {
		if err := x.round(ctx, n+1); err != nil {
			t.Fatal(err)
		}
	}
	if x.number < 3 {
		t.Errorf("the last model is of round %d: none was without content", x.number)
	}
	if err := x.settle(ctx); err != nil {
		t.Error(err)
	}
	if err := x.compare(ctx); err != nil {
		t.Error(err)
	}
}
