package store_test

import (
	"io/fs"
	"sync/atomic"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

// countingFS counts how often files are asked to begin to sync, and to sync.
type countingFS struct {
	store.FS
	starts, syncs atomic.Int32
}

type countingFile struct {
	store.File
	fs *countingFS
}

func (c *countingFS) OpenFile(name string, flag int, perm fs.FileMode) (store.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return countingFile{f, c}, nil
}

func (f countingFile) StartSync() {
	f.fs.starts.Add(1)
	if s, ok := f.File.(interface{ StartSync() }); ok {
		s.StartSync()
	}
}

func (f countingFile) Sync() error {
	f.fs.syncs.Add(1)
	return f.File.Sync()
}

// The disk begins while a large blob that is to be durable is being written, and
// the sync at its commit is done all the same.
func TestEarly(t *testing.T) {
	for _, c := range []struct {
		mode   store.Fsync
		early  bool
		starts int32
		syncs  int32
	}{
		{store.Auto, true, 2, 1},
		{store.Auto, false, 0, 1},
		{store.Always, false, 2, 1},
		{store.Never, true, 0, 0},
	} {
		files := &countingFS{FS: store.OS()}
		b := open(t, t.TempDir(), store.Options{Fsync: c.mode, FS: files}).Blobs()
		files.starts.Store(0)
		files.syncs.Store(0)
		w, err := b.Create()
		must(t, err)
		defer w.Abort()
		if c.early {
			w.Early()
		}
		part := make([]byte, 1<<20)
		for i := range int64(10) {
			_, err = w.Write(part)
			must(t, err)
			_, err = w.WriteAt(part, i<<20)
			must(t, err)
		}
		must(t, w.Commit(t.Context(), model.Sum(make([]byte, 10<<20)), true))
		if starts, syncs := files.starts.Load(), files.syncs.Load(); starts != c.starts || syncs != c.syncs {
			t.Errorf("%v, early %v: %d early starts and %d syncs, want %d and %d", c.mode, c.early, starts, syncs, c.starts, c.syncs)
		}
	}
}
