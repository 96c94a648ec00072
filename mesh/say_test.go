package mesh_test

import (
	"context"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/store"
)

// slowLog is a file system that takes its time to sync the log.
type slowLog struct {
	store.FS
	takes atomic.Int64 // a time.Duration
}

func (d *slowLog) OpenFile(name string, flag int, perm fs.FileMode) (store.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil || strings.Contains(name, "blobs") {
		return f, err
	}
	return slowLogFile{f, d}, nil
}

type slowLogFile struct {
	store.File
	disk *slowLog
}

func (f slowLogFile) Sync() error {
	time.Sleep(time.Duration(f.disk.takes.Load()))
	return f.File.Sync()
}

// What a peer said is shown to the others when it is durable, even if the request that it was said for has ended by then.
func TestWhatWasSaidIsShown(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		d := &slowLog{FS: store.OS()}
		c.tune = func(cfg *mesh.Config) {
			if cfg.Name == "a" {
				cfg.FS, cfg.Fsync = d, store.Auto
			}
		}
		c.up("a", "b", "c")
		open := func(timeout time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			_, _, err := c.ask("a").CreateSession(ctx, "s", api.DefaultSessionConfig(), api.Bytes(file(0)))
			return err
		}
		d.takes.Store(int64(3 * time.Second))
		if err := open(time.Second); err == nil {
			t.Fatal("a session was opened that the disk does not have yet")
		}
		time.Sleep(time.Minute)
		d.takes.Store(0)
		for _, name := range c.running() {
			if _, err := c.nodes[name].peer.Session("s"); err != nil {
				t.Errorf("%s has not heard of the session after a minute: %v", name, err)
			}
		}
		if err := open(time.Minute); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

// A push that is tried again while the disk still syncs what the first try said is acknowledged only when that is done.
func TestRetryWaitsForTheDiskToo(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		d := &slowLog{FS: store.OS()}
		c.tune = func(cfg *mesh.Config) {
			if cfg.Name == "a" {
				cfg.FS, cfg.Fsync = d, store.Auto
			}
		}
		c.up("a", "b")
		c.open("a", "s", file(0), nil)
		d.takes.Store(int64(10 * time.Second))
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c.keep(file(1))
		if _, err := c.ask("a").Push(ctx, "s", weighted("x", 1), api.Bytes(file(1))); err == nil {
			t.Fatal("acknowledged within a second")
		}
		r, err := c.try("a", "s", weighted("x", 1), file(1))
		if err != nil || !slices.Contains(r.Copies, "a") {
			t.Fatalf("%+v, %v", r, err)
		}
		if took := time.Since(began); took < 9*time.Second {
			t.Errorf("acknowledged after %v, by a log that takes 10 s to sync", took)
		}
		d.takes.Store(0)
	})
}
