package mesh_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/store"
)

// Who waits for a model is told when the peer serves it, not when its disk has it and its word for it is given.
func TestWaitersNeedNotWaitForTheDisk(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		d := &lazyDisk{FS: store.OS()}
		c.tune = func(cfg *mesh.Config) { cfg.FS, cfg.Fsync = d, store.Auto }
		c.up("a", "b")
		info := c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		d.waits.Store(true)
		told := make(chan string, 4)
		for _, at := range c.running() {
			for _, after := range []string{"0", info.Seed} {
				go func() {
					err := c.nodes[at].peer.WaitModel(t.Context(), "s", after)
					told <- fmt.Sprintf("%s after %.8s: %v", at, after, err)
				}()
			}
		}
		c.push("a", "s", weighted("x", 1), file(1))
		c.push("b", "s", weighted("y", 1), file(3))
		c.settles("s", 1, "a", "b")
		time.Sleep(5 * time.Second)
		early := len(told)
		d.waits.Store(false)
		var all []string
		for range cap(told) {
			all = append(all, <-told)
		}
		if early < cap(told) {
			t.Errorf("both serve the model, and %d of %d who waited for it were told: %q", early, cap(told), all[:early])
		}
		slices.Sort(all)
		want := []string{"a after 0: <nil>", fmt.Sprintf("a after %.8s: <nil>", info.Seed), "b after 0: <nil>", fmt.Sprintf("b after %.8s: <nil>", info.Seed)}
		slices.Sort(want)
		if !slices.Equal(all, want) {
			t.Errorf("%q", all)
		}
	})
}
