package mesh_test

import (
	"context"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

// hookedDisk is a file system that calls a function before it writes to a model's file.
type hookedDisk struct {
	store.FS
	before atomic.Pointer[func()]
}

func (d *hookedDisk) OpenFile(name string, flag int, perm fs.FileMode) (store.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.Contains(name, "blobs") {
		return f, err
	}
	return hookedFile{f, d}, nil
}

type hookedFile struct {
	store.File
	disk *hookedDisk
}

func (f hookedFile) Write(b []byte) (int, error) {
	if hook := f.disk.before.Load(); hook != nil {
		(*hook)()
	}
	return f.File.Write(b)
}

// A request may end while what it has fetched is being written. Whoever needs the same bytes next gets them.
func TestFetchEndsWithItsRequest(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		d := &hookedDisk{FS: store.OS()}
		c.tune = func(cfg *mesh.Config) {
			if cfg.Name == "c" {
				cfg.FS = d
			}
		}
		c.up("a", "b")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 1 })
		for round := range 2 {
			c.push("a", "s", from(c.session("a", "s").Model, "x", 1), file(float32(round+1)))
			c.settles("s", round+1, "a", "b")
		}
		c.up("c") // it takes the seed and the last model, and no other before it is asked for one
		c.settles("s", 2, "c")
		first := digest(file(1))
		if c.holds("c", first) {
			t.Fatal("the first round's model is there already")
		}
		want, err := model.ParseDigest(first)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		hook := func() {
			cancel()
			time.Sleep(time.Second)
		}
		d.before.Store(&hook)
		ended := make(chan error, 1)
		go func() {
			_, err := c.nodes["c"].peer.Model(ctx, "s", api.OfDigest(want))
			ended <- err
		}()
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a request that ended got its model")
			}
		case <-time.After(time.Minute):
			t.Error("the fetch goes on a minute after its request has ended")
		}
		d.before.Store(nil)
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		m, err := c.nodes["c"].peer.Model(ctx, "s", api.OfDigest(want))
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Blob.Close(); err != nil {
			t.Error(err)
		}
	})
}
