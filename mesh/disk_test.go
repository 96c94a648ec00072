package mesh_test

import (
	"errors"
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

// A peer whose disk is full says so with 507 (503 when it is the log that cannot be written) and leaves nothing behind; the others go on, and it comes back when there is room.
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
				// The fault may come up in the push itself, or in an entry of somebody else that is logged meanwhile.
				if p := (*api.Problem)(nil); !errors.As(err, &p) || p.Status != http.StatusInsufficientStorage && p.Status != http.StatusServiceUnavailable {
					t.Errorf("got %v", err)
				}
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

// rot flips a bit of a blob on a peer's disk.
func (c *cluster) rot(name, digest string) {
	c.t.Helper()
	path := filepath.Join(c.dir, name, "blobs", digest+".safetensors")
	b, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// good returns an error unless a peer has a blob, and its bytes are right.
func (c *cluster) good(name, digestOf string) error {
	b, err := os.ReadFile(filepath.Join(c.dir, name, "blobs", digestOf+".safetensors"))
	if err != nil || digest(b) != digestOf {
		return fmt.Errorf("%s has %s for %s, %w", name, digest(b), digestOf, err)
	}
	return nil
}

// The model that the next round is made from rots while a peer is away: it is noticed at the start, set aside, and fetched again.
func TestDamagedModelIsFetchedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		seed := file(0)
		c.open("a", "s", seed, func(s *api.SessionConfig) { s.TargetCombiners = 1 })
		c.push("a", "s", weighted("x", 1), file(2))
		c.final("s", 1)
		current := c.session("a", "s").Model
		c.kill("b")
		c.rot("b", current)
		c.rot("b", digest(seed))
		c.up("b")
		// A step from the seed, which counts by the general formula, from the rotten model.
		c.push("b", "s", from(digest(seed), "y", 1), file(5))
		c.final("s", 2)
		c.counted("s", c.agree("s"))
		for _, d := range []string{current, digest(seed)} {
			c.eventually(time.Minute, func() error { return c.good("b", d) })
			if _, err := os.Stat(filepath.Join(c.dir, "b", "damaged", d+".safetensors")); err != nil {
				t.Error(err)
			}
		}
		if n := c.metric("b", "blobs_damaged_total", ""); n != 2 {
			t.Errorf("%v damaged blobs counted", n)
		}
	})
}

// What rots while a peer runs is found sooner or later, before it spoils anything that is made from it in a restart.
func TestScrubbing(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		seed := file(0)
		c.open("a", "s", seed, func(s *api.SessionConfig) { s.TargetCombiners, s.RoundTimeout = 2, seconds(3600) })
		x := c.push("a", "s", weighted("x", 1), file(2))
		c.rot("b", x.Digest)
		c.rot("a", digest(seed))
		c.eventually(5*time.Minute, func() error { return errors.Join(c.good("b", x.Digest), c.good("a", digest(seed))) })
		c.push("b", "s", weighted("y", 1), file(5))
		c.final("s", 1)
		c.counted("s", c.agree("s"))
	})
}

// A peer that delivers rotten bytes is passed over for the next.
func TestRottenBytesAreNotTaken(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.tune = func(cfg *mesh.Config) { cfg.RepairEvery = time.Hour }
		c.up("a", "b")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 1 })
		c.push("a", "s", weighted("x", 1), file(2))
		c.final("s", 1)
		current := c.session("a", "s").Model
		c.rot("a", current)
		c.up("c")
		c.settles("s", 1, "c")
		if err := c.good("c", current); err != nil {
			t.Error(err)
		}
	})
}

// Beyond its limit a peer takes no more updates, and nothing else breaks; room comes back as rounds become final.
func TestMaxDisk(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		one := int64(len(file(0)))
		c.tune = func(cfg *mesh.Config) { cfg.MaxDisk = 4*one + one/2 }
		c.up("a", "b")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners, s.RoundTimeout = 4, seconds(3600) })
		for i := range 3 {
			c.push("a", "s", weighted(combiner(i), 1), file(float32(i+1)))
		}
		before := c.blobs("a")
		_, err := c.try("a", "s", weighted("late", 1), file(9))
		c.problem(err, http.StatusInsufficientStorage, "at most")
		if got := c.blobs("a"); !slices.Equal(got, before) {
			t.Errorf("a refused update left %v", got)
		}
		c.close("b", "s") // the round makes a model, which is let in
		c.agree("s")
		c.open("a", "t", file(1), nil)
		c.eventually(time.Minute, func() error {
			_, err := c.try("a", "t", weighted("x", 1), file(7))
			return err
		})
		c.counted("s", c.rounds("a", "s"))
	})
}
