package mesh_test

import (
	"slices"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// recorded collects a peer's events until the test ends.
func (c *cluster) recorded(at string) func() []api.Event {
	events := c.nodes[at].peer.Subscribe(c.t.Context())
	var got []api.Event
	return func() []api.Event {
		for {
			select {
			case e, ok := <-events:
				if !ok {
					return got
				}
				got = append(got, e)
			default:
				return got
			}
		}
	}
}

func (c *cluster) held(at, of string) (int, int64) {
	m := c.nodes[at].peer.Mesh()
	i := slices.IndexFunc(m.Peers, func(p api.PeerInfo) bool { return p.Name == of })
	return m.Peers[i].Held, m.Peers[i].HeldBytes
}

// Rounds tell who sealed them, who took the model from another and how many combiners are in them; peers tell what they hold.
func TestRoundsTellWhoSaidWhat(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners, s.Copies = 2, 2 })
		events := c.recorded("a")
		c.kill("c")
		for n := range 3 {
			base := c.session("a", "s").Model
			c.push("a", "s", from(base, "x", 1), file(float32(n)+1))
			c.push("b", "s", from(base, "y", 1), file(float32(n)+2))
			c.settles("s", n+1, "a", "b")
		}
		for _, r := range c.rounds("a", "s") {
			if !slices.Equal(r.Sealed, []string{"a", "b"}) || len(r.Took) != 0 || r.Combiners != 2 || r.Versions != 1 || r.Divergent || r.Opened != nil {
				t.Errorf("without c: %s", text(r))
			}
		}
		size := int64(len(file(0)))
		for _, of := range []string{"a", "b"} {
			if n, bytes := c.held("a", of); n != 6 || bytes != 6*size {
				t.Errorf("%s is said to hold %d updates of %d bytes, want 6 of %d", of, n, bytes, size)
			}
		}
		if n, _ := c.held("a", "c"); n != 0 {
			t.Errorf("c is said to hold %d updates", n)
		}
		open, err := c.nodes["a"].peer.Round("s", 4)
		if err != nil || open.State != api.RoundOpen || open.Opened == nil || len(open.Sealed) != 0 {
			t.Errorf("the open round: %s, %v", text(open), err)
		}
		brief, err := c.nodes["a"].peer.Summaries("s", 2, 2)
		if err != nil || len(brief) != 2 || brief[0].Round != 2 || brief[0].Updates != nil || brief[0].Combiners != 2 || brief[0].Weight != 2 || brief[0].Model == "" {
			t.Errorf("in brief: %s, %v", text(brief), err)
		}
		c.up("c")
		c.final("s", 3)
		r := c.rounds("a", "s")[0]
		if !slices.Equal(r.Sealed, []string{"a", "b", "c"}) || !slices.Equal(r.Took, []string{"c"}) {
			t.Errorf("with c again: %s", text(r))
		}
		if n, _ := c.held("a", "a"); n != 0 {
			t.Errorf("of final rounds a is said to hold %d updates", n)
		}
		for _, n := range []uint64{2, 3, 4} {
			if !slices.ContainsFunc(events(), func(e api.Event) bool {
				return e.Type == api.EventRound && e.State == api.RoundOpen && e.Round == n && e.Session == "s"
			}) {
				t.Errorf("no event told that round %d was open", n)
			}
		}
	})
}

// A round that a late seal amended has two versions, and an event says so.
func TestAmendedRoundsAreTold(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners, s.Copies = 1, 2 })
		events := c.recorded("a")
		c.net.Partition([]string{"c"}, []string{"a", "b"})
		c.push("c", "s", weighted("late", 5), file(64))
		c.push("a", "s", weighted("x", 2), file(1))
		c.settles("s", 1, "a", "b", "c")
		if r := c.rounds("a", "s")[0]; r.Versions != 1 {
			t.Errorf("before: %s", text(r))
		}
		c.net.Heal()
		c.together()
		c.final("s", 1)
		if r := c.rounds("a", "s")[0]; r.Versions < 2 || r.Divergent {
			t.Errorf("after: %s", text(r))
		}
		if !slices.ContainsFunc(events(), func(e api.Event) bool { return e.State == api.RoundAmended && e.Round == 1 }) {
			t.Error("no event tells of it")
		}
	})
}
