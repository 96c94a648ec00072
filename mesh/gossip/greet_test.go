package gossip_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/fedmesh/fedmesh/mesh/gossip"
)

// A member that was heard of by other means is taken back, though nobody looks for it.
func TestGreet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, 1)
		nodes := startFive(t, n, func(c *gossip.Config) { c.RejoinEvery = -1 })
		n.Partition([]string{"a", "b", "c"}, []string{"d", "e"})
		within(t, time.Minute, "each side takes the other for dead", func() bool {
			return allSee(nodes[:3], "a:alive b:alive c:alive d:dead e:dead")() &&
				allSee(nodes[3:], "a:dead b:dead c:dead d:alive e:alive")()
		})
		nodes[0].Greet("d") // it cannot be reached yet
		time.Sleep(time.Minute)
		n.Heal()
		time.Sleep(10 * time.Second)
		if !allSee(nodes[:3], "a:alive b:alive c:alive d:dead e:dead")() {
			t.Fatal("somebody looked for the others")
		}
		nodes[0].Greet("b") // it lives
		nodes[0].Greet("nobody")
		nodes[0].Greet("d")
		within(t, time.Second, "it is taken back", func() bool { return nodes[0].Members()[3].State == gossip.Alive })

		if err := nodes[0].Close(); err != nil {
			t.Fatal(err)
		}
		nodes[0].Greet("e")
	})
}
