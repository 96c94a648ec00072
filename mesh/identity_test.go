package mesh_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/store"
)

// copyDir copies the data directory of a peer that does not run.
func (c *cluster) copyDir(from, to string) {
	c.t.Helper()
	if err := os.RemoveAll(filepath.Join(c.dir, to)); err != nil {
		c.t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(c.dir, to), os.DirFS(filepath.Join(c.dir, from))); err != nil {
		c.t.Fatal(err)
	}
}

// logOf returns the id of a peer's own log.
func (c *cluster) logOf(name string) string {
	c.t.Helper()
	var id struct{ Log string }
	b, err := os.ReadFile(filepath.Join(c.dir, name, "identity.json"))
	if err != nil {
		c.t.Fatal(err)
	}
	unmarshal(c.t, b, &id)
	if id.Log == "" {
		c.t.Fatalf("identity.json of %s: %s", name, b)
	}
	return id.Log
}

// A directory from a backup lacks what its log said since. It must not say it again in other words.
func TestRestoredBackupTakesANewLog(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		c.push("c", "s", weighted("x", 1), file(1))
		c.kill("c")
		c.copyDir("c", "backup")
		c.up("c")
		if c.logOf("c") != c.logOf("backup") {
			t.Error("a restart took a new log")
		}
		c.push("c", "s", weighted("y", 3), file(5))
		c.final("s", 1)
		c.push("c", "s", weighted("x", 1), file(6))
		old := c.logOf("c")
		c.kill("c")
		c.copyDir("backup", "c")
		asked := c.requests("entries")
		c.up("c")
		if n := c.requests("entries") - asked; n > 200 {
			t.Errorf("%d requests for entries until it was ready", n)
		}
		if c.logOf("c") == old {
			t.Fatal("a restored backup goes on with its log")
		}
		c.push("c", "s", weighted("y", 1), file(7))
		c.settles("s", 2, "a", "b", "c")
		c.push("c", "s", weighted("x", 1), file(8))
		c.push("c", "s", weighted("y", 1), file(9))
		c.settles("s", 3, "a", "b", "c")
		c.counted("s", c.agree("s"))
		// The new log is kept.
		log := c.logOf("c")
		c.kill("c")
		c.up("c")
		if c.logOf("c") != log {
			t.Error("every start takes a new log")
		}
		c.counted("s", c.agree("s"))
	})
}

// Two processes on copies of one directory: the log has two continuations. Whoever is found out is out of service and says why; nothing
// that was acknowledged is lost.
func TestClonedDirectoryIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		c.push("c", "s", weighted("x", 1), file(1))
		c.kill("c")
		c.copyDir("c", "d")
		c.up("c")
		c.start("d")
		time.Sleep(10 * time.Second)
		for i := range 4 { // both write
			for _, at := range []string{"c", "d"} {
				_, _ = c.try(at, "s", named("u", weighted(at+combiner(i), 1)), file(float32(i)))
			}
			time.Sleep(5 * time.Second)
		}
		var refused []string
		for _, at := range []string{"c", "d"} {
			if err := c.nodes[at].peer.Ready(); err != nil && (strings.Contains(err.Error(), "copy of") || strings.Contains(err.Error(), "fork")) {
				refused = append(refused, at)
				_, err := c.try(at, "s", weighted("z", 1), file(2))
				c.problem(err, http.StatusServiceUnavailable, "")
			}
		}
		if len(refused) == 0 {
			t.Errorf("two peers write one log: %v, %v", c.nodes["c"].peer.Ready(), c.nodes["d"].peer.Ready())
		}
		t.Log("refused:", refused)
		for _, at := range refused {
			c.kill(at)
		}
		c.push("a", "s", weighted("v", 1), file(3))
		c.push("b", "s", weighted("w", 1), file(3))
		if _, err := c.ask("a").CloseSession(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		c.counted("s", c.agree("s"))
	})
}

func TestDirectoryIsOneProcess(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a")
		if _, err := c.create("b", "a"); !errors.Is(err, store.ErrLocked) {
			t.Errorf("a second peer on the directory: %v", err)
		}
		c.kill("a")
		c.tune = func(cfg *mesh.Config) { cfg.Mesh = "other" }
		if _, err := c.create("a", "a"); err == nil || !strings.Contains(err.Error(), "other") {
			t.Errorf("a directory of another mesh: %v", err)
		}
	})
}
