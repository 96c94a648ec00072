package fedn_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/fedn"
)

// A network that joins late with a model of its own: what its clients made of that is not counted, and from the next round on they train the mesh's
// model.
func TestJoinsLateWithAnotherModel(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		one := startGateway(t, p.client(), "one", t.TempDir(), nil)
		one.must(one.round(npz(t, f32(1)), examples("x", 1, npz(t, f32(2)))))
		dir := t.TempDir()
		two := startGateway(t, p.client(), "two", dir, nil)
		out := two.must(two.round(npz(t, f32(50)), examples("y", 9, npz(t, f32(60)))))
		want(t, out, f32(2))
		if p.round() != 1 {
			t.Errorf("counted in round %d", p.round())
		}
		if set := files(t, filepath.Join(dir, "refused")); len(set) != 2 {
			t.Errorf("set aside: %v", set)
		}
		n := 0
		for line := range strings.Lines(two.log.String()) {
			if strings.Contains(line, "does not have") && strings.Contains(line, "fedmesh pull s") {
				n++
			}
		}
		if n != 1 || !strings.Contains(two.said[0], "does not have") || !strings.Contains(two.said[0], "fedmesh pull s") {
			t.Errorf("%d lines, %q\n%s", n, two.said, two.log)
		}
		two.log.Reset()
		want(t, two.must(two.round(out, examples("y", 9, npz(t, f32(6))))), f32(6))
		if p.round() != 2 || strings.Contains(two.log.String(), "does not have") {
			t.Errorf("round %d\n%s", p.round(), two.log)
		}
	})
}

// While the mesh is away a network that takes part goes on from models that the session does not know. What was trained from these counts as the
// steps that they were.
func TestStepsFromOwnModels(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		dir := t.TempDir()
		c := startGateway(t, p.client(), "one", dir, hasty)
		global := c.must(c.round(npz(t, f32(1)), examples("x", 1, npz(t, f32(2)))))
		p.down()
		want(t, c.must(c.round(global, examples("x", 1, npz(t, f32(4))))), f32(4))
		// FEDn's controller has averaged two combiners' own means.
		want(t, c.must(c.round(npz(t, f32(10)), examples("x", 1, npz(t, f32(11))))), f32(11))
		c.stop()
		p.up()
		c = startGateway(t, p.client(), "one", dir, hasty)
		eventually(t, "an empty spool", c.log, func() bool { return len(files(t, filepath.Join(dir, "pending"))) == 0 && p.round() > 1 })
		var got float64
		eventually(t, "both steps", c.log, func() bool {
			b := p.latest()
			got = read(t, b)[0].values[0]
			return got == 5 || got == 3.5 // one after the other, or both in one round
		})
		if set := files(t, filepath.Join(dir, "refused")); len(set) > 0 {
			t.Errorf("set aside: %v\n%s", set, c.log)
		}
		// It is so in a round that goes well, too.
		c.stop()
		c = startGateway(t, p.client(), "one", dir, func(c *fedn.Config) { c.Hasty(0, 0, 0, 0) })
		want(t, c.must(c.round(npz(t, f32(100)), examples("x", 1, npz(t, f32(101))))), f32(got+1))
	})
}

// A network that trains the session's model takes part, though no round of its own was counted yet.
func TestStepsBeforeTheFirstRound(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		p.open(npz(t, f32(2)))
		g := &guard{Client: p.client(), with: api.NewProblem(api.TypeForbidden, 403, "Forbidden", "the token \"t\" is of role reader")}
		dir := t.TempDir()
		c := startGateway(t, g, "one", dir, hasty)
		global := c.must(c.round(npz(t, f32(2)), examples("x", 1, npz(t, f32(4)))))
		want(t, c.must(c.round(global, examples("x", 1, npz(t, f32(5))))), f32(5))
		g.set(nil)
		eventually(t, "both steps", c.log, func() bool {
			got := read(t, p.latest())[0].values[0]
			return got == 5 || got == 3.5 // one after the other, or both in one round
		})
		if set := files(t, filepath.Join(dir, "refused")); len(set) > 0 {
			t.Errorf("set aside: %v\n%s", set, c.log)
		}
	})
}

// stuck is a mesh to which the first push never ends, until it is let go.
type stuck struct {
	*api.Client
	once  sync.Once
	began chan struct{}
	letGo chan struct{}
}

func (s *stuck) Push(ctx context.Context, session string, o api.PushOptions, body api.Source) (api.Receipt, error) {
	first := false
	s.once.Do(func() { first = true })
	if first {
		close(s.began)
		<-s.letGo
	}
	return s.Client.Push(ctx, session, o, body)
}

// FEDn waits for ten minutes, and no longer: an update that is pushed late keeps no round waiting beyond its time.
func TestRoundWaitsForNoLateUpdate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := startPeer(t)
		dir := t.TempDir()
		c := startGateway(t, p.client(), "one", dir, hasty)
		global := c.must(c.round(npz(t, f32(1)), examples("x", 1, npz(t, f32(2)))))
		p.down()
		global = c.must(c.round(global, examples("x", 1, npz(t, f32(4)))))
		c.stop()
		p.up()
		s := &stuck{Client: p.client(), began: make(chan struct{}), letGo: make(chan struct{})}
		c = startGateway(t, s, "one", dir, hasty)
		select {
		case <-s.began:
		case <-time.After(time.Minute):
			t.Fatalf("nothing is pushed late\n%s", c.log)
		}
		begin := time.Now()
		done := make(chan []byte, 1)
		go func() {
			out, _ := c.round(global, examples("x", 1, npz(t, f32(8))))
			done <- out
		}()
		select {
		case out := <-done:
			want(t, out, f32(8))
			if took := time.Since(begin); took < shortPatience || took > shortPatience+time.Second {
				t.Errorf("the answer took %v", took)
			}
		case <-time.After(10 * shortPatience):
			t.Errorf("no answer\n%s", c.log)
		}
		close(s.letGo)
		eventually(t, "an empty spool", c.log, func() bool { return len(files(t, filepath.Join(dir, "pending"))) == 0 })
		eventually(t, "all rounds", c.log, func() bool { return p.round() == 3 })
		want(t, p.latest(), f32(8))
	})
}
