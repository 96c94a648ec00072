//go:build linux && netns

package netns_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/netns"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

var (
	netCut   = flag.Duration("net.cut", 12*time.Second, "how long TestPartition cuts the mesh in two")
	netHeals = flag.Duration("net.heals", 2*time.Second, "how long after the first contact TestPartition's mesh may take to have one model")
)

const (
	megabyte = 1 << 20
	// Members that are not alive are looked for every 15 s, give or take half, by each
	// peer; the first of five is sooner. The rest is for a machine that has other work.
	contactWithin = time.Minute
)

// sessionConfig lets a round end when two combiners have brought something, or after two seconds.
func sessionConfig() api.SessionConfig {
	c := api.DefaultSessionConfig()
	c.TargetCombiners = 2
	c.RoundTimeout = api.Duration(2 * time.Second)
	return c
}

// Both sides of a cut go on training, and do so while it heals. They then have one
// model, which contains the work of both, and what was final stays.
func TestPartition(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), *netCut+8*time.Minute)
	defer cancel()
	config := sessionConfig()
	// What was under way when the cut came may be held on the other side only. A side
	// goes on without that after this long.
	config.LostAfter = min(config.LostAfter, api.Duration(*netCut/4))
	s := newScene(ctx, t, 5, megabyte, config, "left", "right")
	left, right := []string{"a", "b", "c"}, []string{"d", "e"}
	l := s.work(ctx, "left", "left", 2, *netTrain, left...)
	r := s.work(ctx, "right", "right", 2, *netTrain, right...)
	s.until(ctx, "final rounds before the cut", patience, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.finals) < 3*len(s.peers) {
			return fmt.Errorf("%d", len(s.finals))
		}
		return nil
	})

	s.net.Between(append(left, "left"), append(right, "right"), netns.Link{Cut: true})
	before := map[string]int{"left": s.acknowledged("left"), "right": s.acknowledged("right")}
	s.pause(ctx, *netCut)
	for side, n := range before {
		t.Logf("%d updates acknowledged on the %s side during the cut of %v", s.acknowledged(side)-n, side, *netCut)
		// Each side goes on, as fast as the machine is: the cut lasts until both have.
		s.until(ctx, "updates on the "+side+" side", patience, func() error {
			if done, want := s.acknowledged(side)-n, int(*netCut/time.Second)/4; done < want {
				return fmt.Errorf("%d of %d: the side stands still", done, want)
			}
			return nil
		})
	}
	_, one := s.agreed(ctx)
	var apart look
	s.until(ctx, "the rounds of all", patience, func() error {
		apart = s.rounds(ctx)
		return apart.err()
	})
	work := apart.computed()
	if one || apart.contain(work) {
		t.Error("the two sides have one model while they are cut apart")
	}

	busy := s.cpu(ctx)
	s.net.Heal()
	healed := time.Now()
	s.until(ctx, "contact", contactWithin, func() error {
		if s.net.Contact(left, right).IsZero() {
			return fmt.Errorf("none")
		}
		return nil
	})
	contact := s.net.Contact(left, right)
	var last time.Time
	var healthy look
	s.until(ctx, "one model", patience, func() error {
		now := time.Now()
		views, one := s.agreed(ctx)
		if !one || !views.contain(work) {
			return fmt.Errorf("%s", views)
		}
		last, healthy = now, views
		return nil
	})
	l.stop()
	r.stop()
	busy = s.cpu(ctx) - busy
	t.Logf("contact %v after healing; one model on all, of round %d, %v after contact, for %v of CPU", contact.Sub(healed).Round(time.Millisecond),
		healthy[0].Session.ModelRound, last.Sub(contact).Round(time.Millisecond), busy.Round(time.Millisecond))
	if took := last.Sub(contact); took > *netHeals {
		t.Errorf("one model on all peers %v after the first contact, want at most %v", took, *netHeals)
	}

	// And then they train on together.
	again := s.work(ctx, "again", client, 2, training, s.peers...)
	s.until(ctx, "updates after healing", patience, func() error {
		if n := s.acknowledged("again"); n < 6 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	again.stop()
	s.judge(ctx)
}

// cpu is how much of it all peers have used.
func (s *scene) cpu(ctx context.Context) time.Duration {
	s.t.Helper()
	var total time.Duration
	for _, p := range s.peers {
		total += s.mustHold(ctx, p).cpu
	}
	return total
}

// A look is what each peer says of the session, in the order of the peers.
type look []process.View

func (l look) String() string {
	var b strings.Builder
	for _, v := range l {
		fmt.Fprintf(&b, "%s: %.8s of round %d (%v); ", v.Peer, v.Session.Model, v.Session.ModelRound, v.Err)
	}
	return b.String()
}

// err is why some peer could not be asked; nil when all were.
func (l look) err() error {
	var errs []error
	for _, v := range l {
		errs = append(errs, v.Err)
	}
	return errors.Join(errs...)
}

// agreed asks all peers at once and tells whether they serve the same model of the same
// round. Rounds are listed only when they do: lists are long, and the peers have other work.
func (s *scene) agreed(ctx context.Context) (look, bool) {
	s.t.Helper()
	views := s.look(func(v *process.View, c *api.Client) {
		v.Session, v.Err = c.Session(ctx, s.session)
	})
	for _, v := range views {
		if v.Err != nil || v.Session.Model != views[0].Session.Model || v.Session.ModelRound != views[0].Session.ModelRound {
			return views, false
		}
	}
	return s.rounds(ctx), true
}

// rounds asks all peers at once for their rounds.
func (s *scene) rounds(ctx context.Context) look {
	return s.look(func(v *process.View, c *api.Client) {
		if v.Session, v.Err = c.Session(ctx, s.session); v.Err == nil {
			v.Rounds, v.Err = process.AllRounds(ctx, c, s.session)
		}
	})
}

func (s *scene) look(ask func(v *process.View, c *api.Client)) look {
	views := make(look, len(s.peers))
	var asked sync.WaitGroup
	for i, name := range s.peers {
		views[i].Peer = name
		asked.Go(func() { ask(&views[i], s.one[name]) })
	}
	asked.Wait()
	return views
}

// computed are the updates in rounds of which some peer has a model.
func (l look) computed() map[process.Key]bool {
	keys := map[process.Key]bool{}
	for _, v := range l {
		for k := range computed(v) {
			keys[k] = true
		}
	}
	return keys
}

func computed(v process.View) map[process.Key]bool {
	keys := map[process.Key]bool{}
	for _, r := range v.Rounds {
		if r.Round > v.Session.ModelRound {
			break
		}
		for _, u := range r.Updates {
			keys[process.Key{Combiner: u.Combiner, ID: u.ID}] = true
		}
	}
	return keys
}

// contain tells whether the model of every peer is made of all these updates.
func (l look) contain(keys map[process.Key]bool) bool {
	for _, v := range l {
		have := computed(v)
		for k := range keys {
			if !have[k] {
				return false
			}
		}
	}
	return true
}
