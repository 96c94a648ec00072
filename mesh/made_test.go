package mesh_test

import (
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/store"
)

// lazyDisk is a file system that does not come round to syncing models while it is told to wait.
type lazyDisk struct {
	store.FS
	waits atomic.Bool
	fails atomic.Bool // what waited fails
}

func (d *lazyDisk) OpenFile(name string, flag int, perm fs.FileMode) (store.File, error) {
	f, err := d.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.Contains(name, "blobs") {
		return f, err
	}
	return lazyFile{f, d}, nil
}

type lazyFile struct {
	store.File
	disk *lazyDisk
}

func (f lazyFile) Sync() error {
	for f.disk.waits.Load() {
		time.Sleep(100 * time.Millisecond)
	}
	if f.disk.fails.Load() {
		return fmt.Errorf("sync: %w", syscall.EIO)
	}
	return f.File.Sync()
}

// A peer serves a model before its disk has it, and before it has given its word for it. When the round is amended meanwhile, a
// combiner may have trained from a version that nobody else ever hears of. It still is a good base, also when the peer was killed.
func TestServedVersionStaysABase(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed=%v", killed), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				d := &lazyDisk{FS: store.OS()}
				c.tune = func(cfg *mesh.Config) {
					if cfg.Name == "c" {
						cfg.FS, cfg.Fsync = d, store.Auto
					}
				}
				c.up("a", "b", "c")
				c.open("a", "s", file(0), func(s *api.SessionConfig) {
					s.TargetCombiners, s.Copies, s.RoundTimeout = 0, 1, seconds(10)
				})
				c.eventually(time.Minute, func() error {
					if c.session("c", "s").Model != digest(file(0)) {
						return fmt.Errorf("c has no seed yet")
					}
					return nil
				})
				c.net.Partition([]string{"c"}, []string{"a", "b"})
				c.push("c", "s", weighted("y", 1), file(16))
				c.push("c", "s", weighted("z", 1), file(32))
				c.push("a", "s", weighted("x", 2), file(8))
				d.waits.Store(true)
				c.settles("s", 1, "a", "b", "c")
				served := c.session("c", "s").Model
				if served != digest(file(24)) {
					t.Fatalf("c serves %s", served)
				}
				c.keep(file(24))
				c.net.Heal()
				c.together()
				c.settles("s", 1, "a", "b", "c")
				c.eventually(time.Minute, func() error {
					if now := c.session("c", "s").Model; now != digest(file(16)) {
						return fmt.Errorf("c did not hear of the amended round, it has %s", now)
					}
					return nil
				})
				if killed {
					d.fails.Store(true)
					d.waits.Store(false)
					c.kill("c")
					d.fails.Store(false)
					c.up("c")
				}
				d.waits.Store(false)
				c.eventually(time.Minute, func() error {
					_, err := c.try("a", "s", from(served, "x", 1), file(28))
					return err
				})
				c.final("s", 2)
				rounds := c.agree("s")
				c.counted("s", rounds)
				if got := values(c.pull("b", "s", api.PullOptions{}))[0]; got != 20 { // 16 + (28 - 24)
					t.Errorf("the model is %v: %s", got, text(rounds))
				}
			})
		})
	}
}
