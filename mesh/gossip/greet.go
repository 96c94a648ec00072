package gossip

import (
	"context"
	"math/rand/v2"
	"net"
	"time"
)

const (
	// greetEvery is how often, ±50%, members that died lately are pinged, and
	// greetFor what lately is. Later they are looked for with the others.
	greetEvery = time.Second
	greetFor   = 10 * time.Minute
	// greetAtOnce bounds the pings of one round.
	greetAtOnce = 16
	// A member that is met does not hear in the same exchange that it is taken
	// for dead and refute it: that takes another.
	meetTries = 4
	meetAgain = 100 * time.Millisecond
)

// Greet says that a member was heard from by other means. If it is taken for dead
// here, it is met at once.
func (g *Gossip) Greet(name string) {
	m, ok := g.members.dead(name)
	if !ok {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == started && !g.left { // Close waits for the tasks, and none may be added then
		g.tasks.Go(func() { g.meet(g.run, m) })
	}
}

// greet pings members that died lately until ctx ends, and meets those that
// answer. A cut ends for all members within moments of each other, so the return
// of one is a reason to ask for the others at once.
func (g *Gossip) greet(ctx context.Context) {
	timer := time.NewTimer(greetEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-g.returned:
		}
		lately := g.members.lately(greetFor)
		rand.Shuffle(len(lately), func(i, j int) { lately[i], lately[j] = lately[j], lately[i] })
		for _, m := range lately[:min(len(lately), greetAtOnce)] {
			g.tasks.Go(func() {
				// The answer may come from another member that has its address now; then
				// meeting it does no harm.
				if addr, err := net.ResolveUDPAddr("udp", m.Addr); err == nil {
					if _, err := g.list.Ping("", addr); err == nil {
						g.meet(ctx, m)
					}
				}
			})
		}
		timer.Reset(greetEvery/2 + rand.N(greetEvery))
	}
}

// meet joins a member that is taken for dead, until it is not. One call for each
// member does so at a time.
func (g *Gossip) meet(ctx context.Context, m Member) {
	if _, busy := g.meeting.LoadOrStore(m.Name, true); busy {
		return
	}
	defer g.meeting.Delete(m.Name)
	for range meetTries {
		if _, dead := g.members.dead(m.Name); !dead || !g.joinOne(m.Addr) || !sleep(ctx, meetAgain) {
			return
		}
	}
}
