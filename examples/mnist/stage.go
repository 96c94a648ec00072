package main

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// stage collects the receipts and directs the kill: in the middle round some
// combiners push, then one more sets off and a peer that holds an update of this
// round is killed meanwhile, and only then the others may push. Nothing of this
// may change what is trained.
type stage struct {
	killRound int // 0: never
	before    int // receipts in the kill round before the kill
	kill      func(victim string) error
	live      *live

	free   chan struct{} // a token for each combiner that may push before the kill
	killed chan struct{} // closed after the kill

	mu       sync.Mutex
	receipts []api.Receipt
	inRound  map[int]int
	victim   string
	err      error
}

func newStage(c Config, live *live, kill func(string) error) *stage {
	s := &stage{
		kill: kill, live: live,
		free: make(chan struct{}, c.Combiners), killed: make(chan struct{}),
		inRound: map[int]int{},
	}
	if c.Kill == killMiddle {
		s.killRound = c.Rounds / 2
		s.before = max(1, c.Combiners/2)
		for range s.before {
			s.free <- struct{}{}
		}
	}
	return s
}

// enter waits until a combiner may push in a round.
func (s *stage) enter(ctx context.Context, round int) error {
	if round != s.killRound {
		return nil
	}
	select {
	case <-s.free:
		return nil
	case <-s.killed:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pushed takes the receipt of a push, and kills when it is time.
func (s *stage) pushed(round int, receipt api.Receipt) {
	s.mu.Lock()
	s.receipts = append(s.receipts, receipt)
	s.inRound[round]++
	n := s.inRound[round]
	now := round == s.killRound && n == s.before
	if now {
		s.victim = receipt.Copies[len(receipt.Copies)-1]
	}
	victim := s.victim
	s.mu.Unlock()
	s.live.progress(round, n)
	if !now {
		return
	}
	s.free <- struct{}{} // in flight while the peer dies
	err := s.kill(victim)
	if err == nil {
		s.live.line(fmt.Sprintf("%s killed with SIGKILL in round %d, after %d updates, one of which it held", victim, round, n))
	}
	s.mu.Lock()
	s.err = err
	s.mu.Unlock()
	close(s.killed)
}

// result is what has happened so far.
func (s *stage) result() (receipts []api.Receipt, victim string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.receipts), s.victim
}
