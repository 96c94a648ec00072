package mesh_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// Rounds that wait for a dead peer become final when it is forgotten, and the bytes of their updates go. When it returns after all, it
// takes part again, in the same log.
func TestForget(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners, s.MinCombiners = 2, 2 })
		log := c.logOf("c")
		// c accepted one of the updates, and nobody else has it from it but the second copy.
		held := c.push("c", "s", weighted("x", 1), file(1))
		c.kill("c")
		c.push("a", "s", weighted("y", 1), file(3))
		for round := 1; round <= 3; round++ {
			c.settles("s", round, "a", "b")
			base := c.session("a", "s").Model
			c.push("a", "s", from(base, "x", 1), file(float32(10*round)))
			c.push("b", "s", from(base, "y", 2), file(float32(20*round)))
		}
		c.settles("s", 4, "a", "b")
		c.dead("c")
		time.Sleep(time.Minute)
		before := c.rounds("a", "s")
		for _, r := range before {
			if r.State != api.RoundSettled || !slices.Equal(r.WaitingFor, []string{"c"}) {
				t.Fatalf("with c dead: %s", text(r))
			}
		}
		if p := c.peerAt("a", log); p.State != api.PeerDead || !c.holds("a", held.Digest) || !c.holds("b", held.Digest) {
			t.Fatalf("before: %s", text(p))
		}

		// With an update pending, the open round still has c for a member when it is forgotten.
		c.push("a", "s", from(c.session("a", "s").Model, "x", 1), file(99))
		events := c.nodes["b"].peer.Subscribe(t.Context())
		f := c.forget("a", "c")
		if !slices.Equal(f.Peers, []string{"c"}) || !slices.Equal(f.Logs, []string{log}) {
			t.Errorf("answer: %s", text(f))
		}
		c.forgotten(log)
		c.final("s", 4)
		if open, err := c.nodes["b"].peer.Round("s", 5); err != nil || open.State != api.RoundOpen || !slices.Equal(open.WaitingFor, []string{"a", "b"}) {
			t.Errorf("the open round: %s, %v", text(open), err)
		}
		if info := c.session("a", "s"); !slices.Equal(info.Members, []string{"a", "b"}) {
			t.Errorf("members %v", info.Members)
		}
		c.eventually(time.Minute, func() error { return c.gone(held.Digest) })
		after := c.agree("s")
		for i, r := range before {
			if after[i].Inputs != r.Inputs || after[i].Model != r.Model || len(after[i].WaitingFor) > 0 {
				t.Errorf("forgetting changed round %d: %s", r.Round, text(after[i]))
			}
		}
		if c.metric("a", "peers_forgotten", "") != 1 || c.metric("b", "peers_forgetting", "") != 0 {
			t.Error("the metrics do not tell of it")
		}
		var told []string
		for len(told) < 2 {
			if e := <-events; e.Type == api.EventPeer {
				told = append(told, e.Peer+" "+e.State)
			}
		}
		if !slices.Equal(told, []string{"c forgetting", "c forgotten"}) {
			t.Errorf("events: %v", told)
		}
		// Asked again, it is done, and says nothing new.
		asked := c.metric("a", "ledger_entries", "")
		for _, at := range []string{"a", "b"} {
			if f := c.forget(at, "c", "c"); !f.Done || len(f.WaitingFor) > 0 || len(f.Peers) != 1 {
				t.Errorf("again: %s", text(f))
			}
		}
		if n := c.metric("a", "ledger_entries", ""); n != asked {
			t.Errorf("asking again made %v entries", n-asked)
		}
		// Nothing waits for it from here on.
		c.push("b", "s", from(c.session("b", "s").Model, "y", 2), file(8))
		c.counts()
		if info := c.session("b", "s"); !slices.Equal(info.Members, []string{"a", "b"}) {
			t.Errorf("members %v", info.Members)
		}
		if open, err := c.nodes["b"].peer.Round("s", c.session("b", "s").Round); err != nil || slices.Contains(open.WaitingFor, "c") {
			t.Errorf("the open round waits for %v, %v", open.WaitingFor, err)
		}

		c.up("c")
		if c.logOf("c") != log {
			t.Error("it came back with another log")
		}
		c.push("c", "s", weighted("x", 1), file(9))
		c.push("c", "s", weighted("y", 1), file(11))
		c.eventually(time.Minute, func() error {
			if info := c.session("a", "s"); !slices.Equal(info.Members, []string{"a", "b", "c"}) {
				return fmt.Errorf("members %v", info.Members)
			}
			return nil
		})
		c.push("c", "s", weighted("x", 1), file(12))
		c.push("a", "s", weighted("y", 1), file(13))
		c.counts()
		rounds := c.agree("s")
		c.counted("s", rounds)
		if last := rounds[len(rounds)-1]; last.Computed["c"] == "" {
			t.Errorf("its word is no part of %s", text(last))
		}
		if c.metric("a", "peers_forgotten", "") != 0 {
			t.Error("it still counts as forgotten")
		}
		// And it can be forgotten again.
		c.kill("c")
		c.dead("c")
		if p := c.peerAt("a", log); p.State != api.PeerDead {
			t.Errorf("dead again: %s", text(p))
		}
		c.push("a", "s", weighted("x", 1), file(14))
		c.push("b", "s", weighted("y", 1), file(15))
		c.forget("b", "c")
		c.forgotten(log)
		c.counts()
		c.counted("s", c.agree("s"))
	})
}

// A proposal waits for those who have to agree, and says for whom.
func TestForgetWaitsForAll(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c", "d", "e")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		c.kill("e")
		c.dead("e")
		log := c.logOf("e")
		c.net.Partition([]string{"d"}, []string{"a", "b", "c"})
		for i, at := range []string{"a", "b", "a"} {
			f := c.forget(at, "e")
			if i > 0 && (f.Done || !slices.Contains(f.WaitingFor, "d")) {
				t.Errorf("ask %d: %s", i, text(f))
			}
			time.Sleep(100 * time.Millisecond)
		}
		c.eventually(time.Minute, func() error {
			for _, at := range []string{"a", "b", "c"} {
				if p := c.peerAt(at, log); p.State != api.PeerForgetting || !slices.Equal(p.WaitingFor, []string{"d"}) {
					return fmt.Errorf("%s: %s", at, text(p))
				}
			}
			return nil
		})
		if c.metric("a", "peers_forgetting", "") != 1 {
			t.Error("the metric does not tell of it")
		}
		entries := c.metric("a", "ledger_entries", "")
		if f := c.forget("b", "e"); f.Done || !slices.Equal(f.WaitingFor, []string{"d"}) {
			t.Errorf("pending: %s", text(f))
		}
		// It stands, and keeps others from being forgotten.
		c.eventually(time.Minute, func() error {
			if len(c.alive("a")) > 3 {
				return fmt.Errorf("a sees %v", c.alive("a"))
			}
			return nil
		})
		_, err := c.ask("a").Forget(t.Context(), []string{"d"})
		if !api.TypeForgettingInWay.Is(err) {
			t.Fatalf("a second forgetting: %v", err)
		}
		c.problem(err, http.StatusConflict, "forgetting of e must take effect first, and it still waits for d")
		if n := c.metric("a", "ledger_entries", ""); n != entries {
			t.Errorf("%v entries", n-entries)
		}
		// Also over a restart of those who have agreed.
		c.kill("b")
		c.start("b")
		c.net.Heal()
		c.together()
		c.forgotten(log)
		c.push("a", "s", weighted("x", 1), file(1))
		c.push("d", "s", weighted("y", 1), file(2))
		c.counts()
		c.counted("s", c.agree("s"))
	})
}

// Of two sides that forget each other at most one succeeds, and after the partition all are one mesh again.
func TestPartitionForgetsEachOther(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		left, right := []string{"a", "b", "c"}, []string{"d", "e"}
		c.up("a", "b", "c", "d", "e")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 1 })
		c.net.Partition(left, right)
		c.eventually(2*time.Minute, func() error {
			if len(c.alive("a")) != 3 || len(c.alive("b")) != 3 || len(c.alive("c")) != 3 || len(c.alive("d")) != 2 || len(c.alive("e")) != 2 {
				return fmt.Errorf("a sees %v, d sees %v", c.alive("a"), c.alive("d"))
			}
			return nil
		})
		c.push("a", "s", weighted("x", 1), file(1))
		c.push("d", "s", weighted("y", 1), file(2))
		_, err := c.ask("d").Forget(t.Context(), left)
		if !api.TypeTooFewRemain.Is(err) {
			t.Fatalf("the minority forgets: %v", err)
		}
		c.problem(err, http.StatusConflict, "2 of 5 members")
		c.forget("a", right...)
		c.eventually(time.Minute, func() error {
			for _, log := range []string{c.logOf("d"), c.logOf("e")} {
				if p := c.peerAt("b", log); p.State != api.PeerForgotten {
					return fmt.Errorf("%s", text(p))
				}
			}
			return nil
		})
		c.eventually(time.Minute, func() error {
			if r := c.rounds("a", "s")[0]; r.State != api.RoundFinal {
				return fmt.Errorf("%s", text(r))
			}
			return nil
		})
		final := c.rounds("a", "s")[0]
		if p := c.peerAt("d", c.logOf("a")); p.State != api.PeerDead {
			t.Errorf("d says of a: %s", text(p))
		}
		c.push("a", "s", weighted("x", 1), file(3))
		c.push("d", "s", weighted("y", 1), file(4))
		c.net.Heal()
		c.together()
		c.push("a", "s", weighted("z", 1), file(5))
		c.counts()
		c.eventually(time.Minute, func() error {
			if info := c.session("a", "s"); len(info.Members) != 5 {
				return fmt.Errorf("members %v", info.Members)
			}
			return nil
		})
		rounds := c.agree("s")
		c.counted("s", rounds)
		if rounds[0].Inputs != final.Inputs || rounds[0].Model != final.Model {
			t.Errorf("a final round changed: %s, was %s", text(rounds[0]), text(final))
		}
	})
}

// A peer that lost its disk is two logs under one name: the dead one is meant. When both are dead, only their ids tell.
func TestForgetOneOfTwoLogs(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", file(0), func(s *api.SessionConfig) { s.TargetCombiners = 2 })
		c.kill("c")
		first := c.logOf("c")
		if err := os.RemoveAll(filepath.Join(c.dir, "c")); err != nil {
			t.Fatal(err)
		}
		c.up("c")
		second := c.logOf("c")
		if first == second {
			t.Fatal("one log")
		}
		c.push("a", "s", weighted("x", 1), file(1))
		c.push("b", "s", weighted("y", 1), file(2))
		c.settles("s", 1, "a", "b", "c")
		// Gossip may still tell the old log of c for a moment, and then the new one seems to be dead.
		c.eventually(time.Minute, func() error {
			f, err := c.ask("a").Forget(t.Context(), []string{"c"})
			if err == nil && !slices.Equal(f.Logs, []string{first}) {
				t.Errorf("forgotten: %s", text(f))
			}
			if err != nil && !api.TypeSilentPeers.Is(err) {
				t.Errorf("refused: %v", err)
			}
			return err
		})
		c.forgotten(first)
		c.counts()
		if p := c.peerAt("a", second); p.State != api.PeerAlive {
			t.Errorf("the living c: %s", text(p))
		}
		_, err := c.ask("a").Forget(t.Context(), []string{second})
		if !api.TypePeerAlive.Is(err) {
			t.Errorf("the living log: %v", err)
		}
		c.eventually(time.Minute, func() error { // until the joiner is a member
			if info := c.session("a", "s"); !slices.Equal(info.Members, []string{"a", "b", "c"}) {
				return fmt.Errorf("members %v", info.Members)
			}
			return nil
		})
		c.kill("c")
		c.dead("c")
		if err := os.RemoveAll(filepath.Join(c.dir, "c")); err != nil {
			t.Fatal(err)
		}
		// The one is forgotten already, so the other is meant.
		if f := c.forget("b", "c"); !slices.Equal(f.Logs, []string{second}) {
			t.Errorf("forgotten: %s", text(f))
		}
		c.forgotten(first, second)
		_, err = c.ask("b").Forget(t.Context(), []string{"c"})
		if !api.TypeAmbiguousPeer.Is(err) {
			t.Fatalf("two dead logs: %v", err)
		}
		c.problem(err, http.StatusConflict, first)
		c.problem(err, http.StatusConflict, second)
		if f := c.forget("b", strings.ToUpper(second[:8])); !f.Done || !slices.Equal(f.Logs, []string{second}) {
			t.Errorf("by id: %s", text(f))
		}
		c.counts()
		c.counted("s", c.agree("s"))
	})
}
