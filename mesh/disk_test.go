package mesh_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/store"
)

// disk is a file system that can be filled.
type disk struct {
	store.FS
	full    atomic.Bool
	logOnly atomic.Bool // full only for the log
}

func (d *disk) OpenFile(name string, flag int, perm fs.FileMode) (store.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return diskFile{f, d, strings.Contains(name, "blobs")}, nil
}

type diskFile struct {
	store.File
	disk *disk
	blob bool
}

func (f diskFile) check() error {
	if f.disk.full.Load() && (!f.blob || !f.disk.logOnly.Load()) {
		return fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	return nil
}

func (f diskFile) Write(b []byte) (int, error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	return f.File.Write(b)
}

func (f diskFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

// A peer whose disk is full says so with 503 and leaves nothing behind; the others go on, and it comes back when there is room.
func TestDiskFull(t *testing.T) {
	for _, logOnly := range []bool{false, true} {
		t.Run(fmt.Sprintf("logOnly=%v", logOnly), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				d := &disk{FS: store.OS()}
				d.logOnly.Store(logOnly)
				c.tune = func(cfg *mesh.Config) {
					if cfg.Name == "b" {
						cfg.FS = d
					}
				}
				c.up("a", "b", "c")
				c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners, s.RoundTimeout = 2, seconds(3600) })
				x := c.push("b", "s", weighted("x", 1), file(1))
				if !slices.Contains(x.Copies, "b") {
					t.Fatalf("copies %v", x.Copies)
				}
				before := c.blobs("b")
				d.full.Store(true)
				_, err := c.try("b", "s", weighted("y", 1), file(2))
				c.problem(err, http.StatusServiceUnavailable, "")
				if got := c.blobs("b"); !logOnly && !slices.Equal(got, before) {
					t.Errorf("a refused update left %v behind, before it there was %v", got, before)
				}
				// The client's next try elsewhere is acknowledged, with copies of those who can.
				r, err := c.try("a", "s", weighted("y", 1), file(2))
				for err != nil {
					time.Sleep(time.Second)
					r, err = c.try("a", "s", weighted("y", 1), file(2))
				}
				if !slices.Equal(r.Copies, []string{"a", "c"}) {
					t.Errorf("copies %v while b's disk is full", r.Copies)
				}
				c.settles("s", 1, "a", "c")
				c.push("c", "s", weighted("x", 1), file(5))
				c.push("c", "s", weighted("y", 1), file(6))
				c.settles("s", 2, "a", "c")
				d.full.Store(false)
				c.kill("b")
				c.up("b")
				c.final("s", 2)
				c.counted("s", c.agree("s"))
				if tmp, err := filepath.Glob(filepath.Join(c.dir, "b", "*", ".tmp-*")); err != nil || len(tmp) > 0 {
					t.Errorf("left over: %v, %v", tmp, err)
				}
			})
		})
	}
}

// Bytes that rot while a peer is away are noticed at its start, taken back, and made again from another copy.
func TestDamagedUpdateIsTakenBack(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners, s.Copies = 2, 3 })
		r := c.push("a", "s", weighted("x", 1), file(1))
		c.kill("b")
		path := filepath.Join(c.dir, "b", "blobs", r.Digest+".safetensors")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)-1] ^= 1
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		c.up("b")
		c.eventually(time.Minute, func() error { // said, and then made good by repair
			now, err := os.ReadFile(path)
			if err != nil || digest(now) != r.Digest {
				return fmt.Errorf("b holds %s for %s, %w", digest(now), r.Digest, err)
			}
			return nil
		})
		c.push("b", "s", weighted("y", 1), file(3))
		c.final("s", 1)
		c.counted("s", c.agree("s"))
	})
}
