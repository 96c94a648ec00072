//go:build linux && netns

package netns_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/meshtest/netns"
)

// progress fails the test unless each of the peers, or of all, serves a model of at least so many rounds more
// within the time, and so many more updates are acknowledged.
func (s *scene) progress(ctx context.Context, rounds uint64, updates int, peers ...string) {
	s.t.Helper()
	if len(peers) == 0 {
		peers = s.peers
	}
	had := s.acknowledged("")
	first := map[string]uint64{}
	start := time.Now()
	s.until(ctx, fmt.Sprintf("%d rounds and %d updates more", rounds, updates), patience, func() error {
		for _, p := range peers {
			info, err := s.one[p].Session(ctx, s.session)
			if err != nil {
				return err
			}
			if _, ok := first[p]; !ok {
				first[p] = info.ModelRound
			}
			if more := info.ModelRound - first[p]; more < rounds {
				return fmt.Errorf("%s is %d rounds further", p, more)
			}
		}
		if n := s.acknowledged("") - had; n < updates {
			return fmt.Errorf("%d updates", n)
		}
		return nil
	})
	s.t.Logf("%d rounds and %d updates in %v", rounds, updates, time.Since(start).Round(time.Millisecond))
}

// settle stops the work, and waits until all peers serve one model.
func (s *scene) settle(ctx context.Context, w *combiners) {
	s.t.Helper()
	w.stop()
	s.net.Heal()
	healed := time.Now()
	s.until(ctx, "one model after healing", contactWithin, func() error {
		if views, one := s.agreed(ctx); !one {
			return fmt.Errorf("%s", views)
		}
		return nil
	})
	s.t.Logf("one model on all %v after healing", time.Since(healed).Round(time.Millisecond))
}

// A link goes down and up faster than its peers can tell.
func TestFlapping(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	s := newScene(ctx, t, 3, 2*megabyte, sessionConfig())
	w := s.work(ctx, "c", client, 3, training, s.peers...)
	s.progress(ctx, 2, 4)
	r := rand.New(rand.NewPCG(s.seed, 7))
	const enough = 10 // updates, under way or acknowledged while it flapped
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end) || s.acknowledged("") < enough; {
		s.net.Between([]string{"c"}, []string{"a", "b"}, netns.Link{Cut: true})
		s.pause(ctx, time.Duration(100+r.IntN(1500))*time.Millisecond)
		s.net.Heal()
		s.pause(ctx, time.Duration(100+r.IntN(1500))*time.Millisecond)
	}
	s.settle(ctx, w)
	s.judge(ctx)
}

// One peer hears another that does not hear it; the third hears and is heard by both.
func TestOneWay(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	s := newScene(ctx, t, 3, 2*megabyte, sessionConfig())
	w := s.work(ctx, "c", client, 3, training, s.peers...)
	s.progress(ctx, 2, 4)
	s.net.Set([]string{"b"}, []string{"a"}, netns.Link{Cut: true}) // b hears a, a does not hear b
	s.progress(ctx, 3, 6)
	s.pause(ctx, 10*time.Second)
	s.progress(ctx, 3, 6)
	if heard, lost := s.net.Counts([]string{"b"}, []string{"a"}); heard > 0 || lost == 0 {
		t.Errorf("a heard %d packets of b, and missed %d", heard, lost)
	}
	s.settle(ctx, w)
	s.judge(ctx)
}

// Nearly every third packet between the peers is lost, and with them most of TCP's speed.
func TestLoss(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	s := newScene(ctx, t, 3, megabyte, sessionConfig())
	w := s.work(ctx, "c", client, 2, training, s.peers...)
	s.progress(ctx, 2, 4)
	s.net.Between(s.peers, s.peers, netns.Link{Loss: 0.3})
	s.progress(ctx, 3, 8)
	there, lost := s.net.Counts(s.peers, s.peers)
	t.Logf("%d packets delivered, %d lost", there, lost)
	s.settle(ctx, w)
	s.judge(ctx)
}

// Each packet between the peers takes 200 ms, so each answer 400.
func TestDelay(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	s := newScene(ctx, t, 3, 2*megabyte, sessionConfig())
	w := s.work(ctx, "c", client, 3, training, s.peers...)
	s.progress(ctx, 2, 4)
	s.net.Between(s.peers, s.peers, netns.Link{Delay: 200 * time.Millisecond})
	s.progress(ctx, 3, 6)
	// So slow a network is no reason to take anybody for dead.
	s.waitAlive(ctx)
	s.progress(ctx, 3, 6)
	w.stop()
	// It ends while the network is as slow as ever.
	s.judge(ctx)
}

// Gossip's datagrams say that a peer lives, and nothing that needs a connection
// reaches it.
func TestDeadTCP(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	s := newScene(ctx, t, 3, 2*megabyte, sessionConfig())
	w := s.work(ctx, "c", client, 3, training, s.peers...)
	s.progress(ctx, 2, 4)
	s.net.Between([]string{"c"}, []string{"a", "b", client}, netns.Link{CutTCP: true})
	s.progress(ctx, 3, 6, "a", "b")
	s.pause(ctx, 10*time.Second)
	s.progress(ctx, 3, 6, "a", "b")
	s.settle(ctx, w)
	s.judge(ctx)
}
