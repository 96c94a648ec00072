package fedn_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/fedn"
)

const shortPatience = 30 * time.Second

// hasty does not wait long for anything.
func hasty(c *fedn.Config) {
	c.Patience = shortPatience
	c.Hasty(shortPatience, time.Second, time.Hour, time.Hour)
}

// eventually waits until ok.
func eventually(t *testing.T, what string, log *lines, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 2*time.Minute {
			t.Fatalf("not in time: %s\n%s", what, log)
		}
	}
}

// open opens the session with a model.
func (p *peer) open(seed []byte) { p.openAs(p.asks, seed) }

func (p *peer) openAs(c *api.Client, seed []byte) {
	p.t.Helper()
	cfg := api.DefaultSessionConfig()
	cfg.TargetCombiners = 1
	if _, _, err := c.CreateSession(p.t.Context(), "s", cfg, api.Bytes(seed)); err != nil {
		p.t.Fatal(err)
	}
}

// latest is the session's model.
func (p *peer) latest() []byte {
	p.t.Helper()
	var b bytes.Buffer
	_, err := p.asks.Pull(p.t.Context(), "s", api.PullOptions{Format: api.NPZ}, &b)
	if err != nil {
		p.t.Fatal(err)
	}
	return b.Bytes()
}

func (p *peer) round() uint64 {
	info, err := p.asks.Session(p.t.Context(), "s")
	if err != nil {
		return 0
	}
	return info.ModelRound
}

// files are the names in a folder, sorted.
func files(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// An update from before the first contact, of a session that was opened with other dtypes, is converted as a live one is.
func TestKeptUpdateIsConverted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		p.down()
		dir := t.TempDir()
		c := startGateway(t, p.client(), "one", dir, hasty)
		want(t, c.must(c.round(npz(t, f64(1, 2)), examples("x", 1, npz(t, f64(3, 4))))), f64(3, 4))
		c.stop()
		p.up()
		p.open(npz(t, f32(1, 2)))
		c = startGateway(t, p.client(), "one", dir, hasty)
		eventually(t, "a round", c.log, func() bool { return p.round() == 1 })
		b := p.latest()
		want(t, b, f32(3, 4))
		eventually(t, "an empty spool", c.log, func() bool { return len(files(t, filepath.Join(dir, "pending"))) == 0 })
		if set := files(t, filepath.Join(dir, "refused")); len(set) > 0 {
			t.Errorf("set aside: %v\n%s", set, c.log)
		}
	})
}

// What the mesh refuses for good is set aside, and those behind it go on.
func TestRefusedIsSetAside(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		p.down()
		dir := t.TempDir()
		c := startGateway(t, p.client(), "one", dir, hasty)
		c.must(c.round(npz(t, f32(1, 2)), examples("x", 1, npz(t, f32(3, 4))))) // of another layout
		c.must(c.round(npz(t, f64(1e9)), examples("x", 1, npz(t, f64(2e9)))))   // of values that are too large
		c.must(c.round(npz(t, f32(1)), examples("x", 1, npz(t, f32(5)))))
		c.stop()
		p.up()
		p.open(npz(t, f32(1)))
		c = startGateway(t, p.client(), "one", dir, hasty)
		eventually(t, "a round", c.log, func() bool { return p.round() == 1 })
		b := p.latest()
		want(t, b, f32(5))
		eventually(t, "an empty spool", c.log, func() bool { return len(files(t, filepath.Join(dir, "pending"))) == 0 })
		var models []string
		for _, f := range files(t, filepath.Join(dir, "refused")) {
			if strings.HasSuffix(f, ".safetensors") {
				models = append(models, f)
			}
		}
		if len(models) != 2 {
			t.Fatalf("set aside: %v\n%s", files(t, filepath.Join(dir, "refused")), c.log)
		}
		for i, says := range []string{"shape [2]", "2e+09"} {
			n := 0
			for line := range strings.Lines(c.log.String()) {
				if strings.Contains(line, models[i]) && strings.Contains(line, says) && strings.Contains(line, `"do":`) {
					n++
				}
			}
			if n != 1 {
				t.Errorf("%d lines name %s and say %q:\n%s", n, models[i], says, c.log)
			}
		}
		// A session that is closed takes no more; the combiner goes on.
		if _, err := p.asks.CloseSession(t.Context(), "s"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a closed session", c.log, func() bool {
			info, err := p.asks.Session(t.Context(), "s")
			return err == nil && info.State == api.SessionClosed
		})
		c.log.Reset()
		want(t, c.must(c.round(b, examples("x", 1, npz(t, f32(6))))), f32(6))
		if pending := files(t, filepath.Join(dir, "pending")); len(pending) > 0 || !strings.Contains(c.log.String(), "is closed") {
			t.Errorf("%v\n%s", pending, c.log)
		}
	})
}

// A damaged note does not keep a gateway from its work.
func TestDamagedNote(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "pending"), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, b := range map[string]string{"a.json": "{", "b.json": `{"id":"b","weight":1,"base":"00"}`, "c.json": `{"id":"c","weight":1,"base":"00","file":"../x"}`, "d.safetensors": "no note"} {
			if err := os.WriteFile(filepath.Join(dir, "pending", name), []byte(b), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p.open(npz(t, f32(1)))
		c := startGateway(t, p.client(), "one", dir, hasty)
		eventually(t, "an empty spool", c.log, func() bool { return len(files(t, filepath.Join(dir, "pending"))) == 0 })
		want(t, c.must(c.round(npz(t, f32(1)), examples("x", 1, npz(t, f32(2))))), f32(2))
		if n := strings.Count(c.log.String(), "set aside"); n != 3 {
			t.Errorf("%d lines:\n%s", n, c.log)
		}
	})
}

// guard is a mesh that refuses a token at times, and notes what is pushed.
type guard struct {
	*api.Client
	mu     sync.Mutex
	with   error
	pushed []string
	asked  int
}

func (g *guard) set(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.with = err
}

func (g *guard) Push(ctx context.Context, session string, o api.PushOptions, body api.Source) (api.Receipt, error) {
	g.mu.Lock()
	err := g.with
	g.asked++
	g.mu.Unlock()
	if err != nil {
		return api.Receipt{}, err
	}
	r, err := g.Client.Push(ctx, session, o, body)
	if err == nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.pushed = append(g.pushed, o.ID)
	}
	return r, err
}

// What may be mended is kept and tried again, the oldest first; the log says it once.
func TestKeptInOrder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		p.open(npz(t, f32(0)))
		for name, err := range map[string]error{
			"token":  api.NewProblem(api.TypeForbidden, 403, "Forbidden", "the token \"t\" is of role reader"),
			"server": api.Unavailable("not now", 0),
		} {
			dir := t.TempDir()
			g := &guard{Client: p.client(), with: err}
			c := startGateway(t, g, "one-"+name, dir, hasty)
			for range 4 {
				now := p.latest()
				want(t, c.must(c.round(now, examples("x", 1, npz(t, f32(7))))), f32(7))
			}
			eventually(t, "many tries", c.log, func() bool {
				g.mu.Lock()
				defer g.mu.Unlock()
				return g.asked > 15
			})
			if n := strings.Count(c.log.String(), `"error":`); n != 1 {
				t.Errorf("%s: %d lines for one thing:\n%s", name, n, c.log)
			}
			g.set(nil)
			eventually(t, "all pushed", c.log, func() bool {
				g.mu.Lock()
				defer g.mu.Unlock()
				return len(g.pushed) == 4
			})
			var made []string
			for line := range strings.Lines(c.log.String()) {
				var l struct{ Message, Update string }
				if err := json.Unmarshal([]byte(line), &l); err == nil && strings.Contains(l.Message, "its own clients' mean") {
					made = append(made, l.Update)
				}
			}
			if !slices.Equal(g.pushed, made) {
				t.Errorf("%s: made in the order %v, pushed %v", name, made, g.pushed)
			}
			if set := files(t, filepath.Join(dir, "refused")); len(set) > 0 {
				t.Errorf("%s: set aside: %v", name, set)
			}
			c.stop()
		}
	})
}

// What is kept takes no more room than was given: the oldest go.
func TestKeptIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		p.down()
		dir := t.TempDir()
		small := func(c *fedn.Config) {
			hasty(c)
			c.MaxPending = 100_000
		}
		c := startGateway(t, p.client(), "one", dir, small)
		model := make([]float64, 5000) // with its base 40 KB
		for i := range 4 {
			model[0] = float64(i)
			c.must(c.round(npz(t, f32(model...)), examples("x", 1, npz(t, f32(model...)))))
		}
		if n := strings.Count(c.log.String(), "--max-pending"); n != 2 {
			t.Errorf("%d lines:\n%s", n, c.log)
		}
		c.stop()
		pending := files(t, filepath.Join(dir, "pending"))
		if len(pending) != 6 {
			t.Fatalf("kept: %v", pending)
		}
		// The refused have a quarter of that, and the newest in any case.
		p.up()
		p.open(npz(t, f32(1)))
		c = startGateway(t, p.client(), "one", dir, small)
		set := func() []string { return files(t, filepath.Join(dir, "refused")) }
		eventually(t, "an empty spool", c.log, func() bool { return len(files(t, filepath.Join(dir, "pending"))) == 0 && len(set()) == 2 })
		if set := set(); filepath.Base(set[1])[:20] != filepath.Base(pending[5])[:20] {
			t.Errorf("set aside: %v of %v", set, pending)
		}
	})
}

// A disk that takes no more does not cost the combiner its round.
func TestDiskFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		p.open(npz(t, f32(1)))
		dir := t.TempDir()
		c := startGateway(t, p.client(), "one", dir, hasty)
		c.must(c.round(npz(t, f32(1)), examples("x", 1, npz(t, f32(1)))))
		c.said = nil
		if err := os.RemoveAll(filepath.Join(dir, "pending")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "pending"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		want(t, c.must(c.round(npz(t, f32(1)), examples("x", 1, npz(t, f32(2))))), f32(2))
		want(t, c.must(c.round(npz(t, f32(2)), examples("x", 1, npz(t, f32(3))))), f32(3))
		n := 0
		for _, line := range faults(c.log.String()) {
			if strings.Contains(line, "--data-dir") && strings.Contains(line, "own disk") {
				n++
			}
		}
		if n != 1 || !strings.Contains(c.said[2], "--data-dir") {
			t.Errorf("%d lines, %q\n%s", n, c.said, c.log)
		}
		c.stop()
		if files := left(t, dir); len(files) > 0 {
			t.Errorf("left behind: %v", files)
		}
	})
}
