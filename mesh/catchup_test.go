package mesh_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// A history of more than one answer's size, in which the logs name each other's entries early on, can be taken over.
func TestLongHistoryIsTakenOver(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		const rounds, updates = 80, 6
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners, s.RoundTimeout = updates, seconds(3600) })
		// Each entry has the largest metrics there may be: 64 of 128 characters.
		metrics := map[string]float64{}
		for i := range 64 {
			metrics[fmt.Sprintf("m%02d", i)+strings.Repeat("x", 125)] = 1
		}
		for round := 1; round <= rounds; round++ {
			for i := range updates {
				o := named(fmt.Sprint("u", round), weighted(combiner(i), 1))
				o.Metrics = metrics
				c.push("a", "s", o, file(float32(i%7)))
			}
			c.settles("s", round, "a", "b")
		}
		c.up("c")
		if n := len(c.rounds("c", "s")); n < rounds {
			t.Fatalf("the joiner is ready and knows %d rounds of %d", n, rounds)
		}
		c.close("c", "s")
		c.counted("s", c.rounds("c", "s"))
		if a, c := c.session("a", "s"), c.session("c", "s"); a.Model != c.Model {
			t.Errorf("c has %s, a %s", c.Model, a.Model)
		}
	})
}
