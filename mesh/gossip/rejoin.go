package gossip

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// joinAtOnce is how many addresses one round tries, joinSeeds how many of them
	// seeds come first.
	joinAtOnce, joinSeeds = 4, 2
	// resolveTimeout bounds the name lookups of one round.
	resolveTimeout = 2 * time.Second
	// saveAfter is how long membership must have changed before it is saved.
	saveAfter = time.Second
	// tellAlone is at which of the rounds that find nobody, from the sixth on, the log says so.
	tellAlone = 10
	// maxSaved bounds the addresses handed to SavePeers.
	maxSaved = 128
)

// eager returns how long to wait after the n-th round that found nobody.
func eager(n int) time.Duration {
	waits := [...]time.Duration{
		200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second,
	}
	return waits[min(n, len(waits)-1)]
}

// rejoin looks for members that are not alive until ctx ends.
func (g *Gossip) rejoin(ctx context.Context) {
	alone := 0
	for {
		tried := g.joinRound(ctx)
		wait := g.cfg.RejoinEvery
		switch {
		case g.members.numAlive() > 1:
			alone = 0
			if wait < 0 {
				return
			}
		case wait < 0:
			wait = eager(alone)
			alone++
		default:
			wait = min(wait, eager(alone))
			alone++
			if tried > 0 && alone > 5 && (alone-6)%tellAlone == 0 {
				g.log.Warn().Int("tried", tried).Msg("no other member can be reached, still trying")
			}
		}
		// Half to one and a half times: members must not move in step.
		if !sleep(ctx, wait/2+rand.N(wait+1)) {
			return
		}
	}
}

// joinRound tries a few addresses at once and returns how many. Memberlist's
// Join is serial and each address may take its full timeout.
func (g *Gossip) joinRound(ctx context.Context) int {
	targets := g.joinTargets(ctx)
	var wg sync.WaitGroup
	for _, addr := range targets {
		wg.Go(func() { g.joinOne(addr) })
	}
	wg.Wait()
	return len(targets)
}

// joinOne exchanges states with whoever is at an address.
func (g *Gossip) joinOne(addr string) bool {
	if _, err := g.list.Join([]string{addr}); err != nil {
		g.metrics.joins.WithLabelValues("failed").Inc()
		g.log.Debug().Err(err).Str("address", addr).Msg("join failed")
		return false
	}
	g.metrics.joins.WithLabelValues("ok").Inc()
	g.log.Debug().Str("address", addr).Msg("joined")
	return true
}

// joinTargets picks the addresses of a round: seeds, members that died, and
// members of earlier runs, none of which is alive.
func (g *Gossip) joinTargets(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	skip := map[string]bool{}
	for _, a := range g.members.addrs(Alive) {
		skip[a] = true
	}
	if self, ok := g.members.selfEntry(); ok {
		skip[self.Addr] = true
	}
	pick := func(from []string, most int) []string {
		from = slices.Clone(from)
		rand.Shuffle(len(from), func(i, j int) { from[i], from[j] = from[j], from[i] })
		var picked []string
		for _, name := range from {
			if len(picked) >= most {
				break
			}
			// A name may have more addresses than one round tries, some of them of members long gone.
			addrs := g.resolveAddr(ctx, name)
			rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
			for _, a := range addrs {
				if !skip[a] && len(picked) < most {
					skip[a] = true
					picked = append(picked, a)
				}
			}
		}
		return picked
	}
	targets := pick(g.cfg.Join, joinSeeds)
	known := g.members.addrs(Dead)
	if g.cfg.LoadPeers != nil {
		known = append(known, g.cfg.LoadPeers()...)
	}
	targets = append(targets, pick(known, joinAtOnce-len(targets))...)
	return append(targets, pick(g.cfg.Join, joinAtOnce-len(targets))...)
}

// resolveAddr turns host:port into addresses with numbers, so that those alive
// are recognised and memberlist has nothing to look up.
func (g *Gossip) resolveAddr(ctx context.Context, addr string) []string {
	host, port, err := splitAddr(addr)
	if err != nil || host == "" || port == 0 {
		g.log.Warn().Str("address", addr).Msg("address ignored: not host:port")
		return nil
	}
	ips, err := resolve(ctx, host, g.cfg.Lookup)
	if err != nil {
		g.log.Debug().Err(err).Str("address", addr).Msg("address not found")
		return nil
	}
	addrs := make([]string, len(ips))
	for i, ip := range ips {
		addrs[i] = net.JoinHostPort(ip.String(), strconv.Itoa(int(port)))
	}
	return addrs
}

// resolve returns the addresses of a host, IPv4 first, or an error.
// A nil lookup is the system's.
func resolve(ctx context.Context, host string, lookup func(context.Context, string) ([]netip.Addr, error)) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	ips, err := lookup(ctx, host)
	if err == nil && len(ips) == 0 {
		err = fmt.Errorf("gossip: %q has no addresses", host)
	}
	if err != nil {
		return nil, err
	}
	for i := range ips {
		ips[i] = ips[i].Unmap()
	}
	slices.SortStableFunc(ips, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return ips, nil
}

// save hands the known addresses to SavePeers after membership has changed, and
// a last time when ctx ends.
func (g *Gossip) save(ctx context.Context) {
	var loaded []string
	if g.cfg.LoadPeers != nil {
		loaded = g.cfg.LoadPeers()
	}
	last := slices.Sorted(slices.Values(loaded))
	for {
		select {
		case <-g.dirty:
			sleep(ctx, saveAfter)
		case <-ctx.Done():
		}
		if known := g.knownPeers(loaded); !slices.Equal(known, last) {
			last = known
			g.cfg.SavePeers(slices.Clone(known))
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// knownPeers returns what is worth trying after a restart, sorted: members alive,
// then members dead, then those of earlier runs, without those that left.
func (g *Gossip) knownPeers(loaded []string) []string {
	skip := map[string]bool{}
	if self, ok := g.members.selfEntry(); ok {
		skip[self.Addr] = true
	}
	alive := g.members.addrs(Alive)
	for _, a := range g.members.addrs(Left) {
		skip[a] = !slices.Contains(alive, a)
	}
	known := []string{}
	for _, a := range slices.Concat(alive, g.members.addrs(Dead), loaded) {
		if len(known) < maxSaved && !skip[a] {
			skip[a] = true
			known = append(known, a)
		}
	}
	slices.Sort(known)
	return known
}

// sleep waits and reports true, or false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
