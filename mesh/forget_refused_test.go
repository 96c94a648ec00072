package mesh_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestForgetRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c", "d")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		refused := func(at string, names []string, kind api.ProblemType, status int, words ...string) {
			t.Helper()
			entries := c.metric(at, "ledger_entries", "")
			_, err := c.ask(at).Forget(t.Context(), names)
			if !kind.Is(err) {
				t.Errorf("%s forgets %v: %v, want %s", at, names, err, kind)
				return
			}
			for _, w := range words {
				c.problem(err, status, w)
			}
			if n := c.metric(at, "ledger_entries", ""); n != entries {
				t.Errorf("a refusal made %v entries", n-entries)
			}
		}
		refused("a", []string{"e"}, api.TypeUnknownPeer, http.StatusNotFound, `"e"`)
		refused("a", []string{"d"}, api.TypePeerAlive, http.StatusConflict, `"d"`, "leave", "stop it")
		refused("a", []string{"a"}, api.TypePeerAlive, http.StatusConflict, `"a"`, "asked", "leave")
		c.kill("c", "d")
		c.dead("c", "d")
		refused("a", []string{"c", "e"}, api.TypeUnknownPeer, http.StatusNotFound)
		refused("a", []string{"c", "b"}, api.TypePeerAlive, http.StatusConflict, `"b"`)
		refused("a", []string{"c", "d"}, api.TypeTooFewRemain, http.StatusConflict, "2 of 4 members", `"s"`, "bring one")
		// One alone would wait for the other for ever, and be in the way of forgetting both.
		refused("b", []string{"c"}, api.TypeSilentPeers, http.StatusConflict, "d would have to agree")
		c.up("d")
		c.forget("a", "c")
		c.forgotten(c.logOf("c"))
		if err := c.ask("d").Leave(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.kill("d")
		refused("a", []string{"d"}, api.TypeUnknownPeer, http.StatusNotFound, "left")
	})
}

// A peer that has just started may know another from the ledger before gossip tells that it lives.
func TestForgetWaitsForIntroductions(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		c.net.Partition([]string{"a"}, []string{"c"})
		c.start("c")
		forget := func() error {
			_, err := c.nodes["a"].peer.Forget(t.Context(), []string{"c"})
			return err
		}
		soon := time.After(time.Minute) // c may look for a first, in vain
		for err := forget(); !api.TypePeerAlive.Is(err); err = forget() {
			switch {
			case api.TypeUnavailable.Is(err):
				c.problem(err, http.StatusServiceUnavailable, `"c"`)
			case !api.TypeUnknownPeer.Is(err):
				t.Fatalf("a forgets the living: %v", err)
			}
			select {
			case <-soon:
				t.Fatalf("still %v", err)
			case <-time.After(time.Millisecond):
			}
		}
		c.net.Heal()
		c.together()
		// Of one that died before it started gossip never tells.
		c.kill("c")
		c.dead("c")
		c.kill("a", "b")
		c.up("a", "b")
		if err := forget(); !api.TypeUnavailable.Is(err) {
			t.Fatalf("a forgets at once whom it has not looked for: %v", err)
		}
		if p := c.peerAt("a", c.logOf("c")); p.State != api.PeerSuspect {
			t.Errorf("before it can know: %s", text(p))
		}
		c.eventually(time.Minute, forget)
		c.forgotten(c.logOf("c"))
	})
}

// Later members do not make up for those of an older round that is not final.
func TestForgetRefusesForOlderRounds(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 1 })
		c.kill("b")
		c.push("a", "s", weighted("x", 1), file(1))
		c.settles("s", 1, "a")
		c.up("c", "d")
		c.push("c", "s", weighted("x", 1), file(2))
		c.eventually(time.Minute, func() error {
			if info := c.session("a", "s"); len(info.Members) != 4 {
				return fmt.Errorf("members %v", info.Members)
			}
			return nil
		})
		c.dead("b")
		_, err := c.ask("c").Forget(t.Context(), []string{"b"})
		if !api.TypeTooFewRemain.Is(err) {
			t.Fatalf("%v", err)
		}
		c.problem(err, http.StatusConflict, `round 1 of session "s" would be decided by 1 of 2 members`)
	})
}
