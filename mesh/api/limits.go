package api

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// TypeTooManyRequests is a caller that asks for more than its share, answered with 429.
const TypeTooManyRequests ProblemType = "too-many-requests"

// Limits bound what callers may take of a server. The zero value is good.
type Limits struct {
	// Uploads is how many models are received at a time; default 256. Each takes a connection, buffers of some 100 KiB here and as much towards the
	// peer that it is passed on to. Who comes when there are that many waits for its turn.
	Uploads int
	// UploadsPerToken is how many of them one token may bring; 0: all.
	UploadsPerToken int
	// Wait is how long one may wait, until it is answered with 503 and Retry-After; default 5 s.
	Wait time.Duration
	// Waiting is how many may wait, beyond whom it is answered at once; default 4 for each of Uploads.
	Waiting int
	// Requests is how many requests one token may make in a second over time, and twice as many at once; requests without a token are counted by
	// address, an IPv6 one by its /64. 0: any number.
	Requests float64
}

func (l Limits) withDefaults() Limits {
	l.Uploads = cmp.Or(l.Uploads, 256)
	l.Wait = cmp.Or(l.Wait, 5*time.Second)
	l.Waiting = cmp.Or(l.Waiting, 4*l.Uploads)
	return l
}

// maxAccounts bounds how many callers are told apart. More of them share one account, until others have been idle.
const maxAccounts = 16 << 10

// limits keeps the account of callers.
type limits struct {
	o       Limits
	all     *semaphore.Weighted
	waiting atomic.Int64

	mu       sync.Mutex
	accounts map[string]*account
	swept    time.Time
}

// account is one caller's.
type account struct {
	rate   *rate.Limiter
	places *semaphore.Weighted
	using  int // guarded by limits.mu: uploads that have a place in places, or wait for one
}

func newLimits(o Limits) *limits {
	o = o.withDefaults()
	return &limits{o: o, all: semaphore.NewWeighted(int64(o.Uploads)), accounts: map[string]*account{}}
}

// of returns a caller's account. It is called with mu held.
func (l *limits) of(caller string) *account {
	if a := l.accounts[caller]; a != nil {
		return a
	}
	if now := time.Now(); len(l.accounts) >= maxAccounts && now.Sub(l.swept) > time.Second {
		l.swept = now
		for name, a := range l.accounts {
			if a.using == 0 && a.rate.TokensAt(now) >= float64(a.rate.Burst()) {
				delete(l.accounts, name)
			}
		}
	}
	if len(l.accounts) >= maxAccounts {
		caller = "" // all that are too many
		if a := l.accounts[caller]; a != nil {
			return a
		}
	}
	a := &account{
		rate:   rate.NewLimiter(rate.Limit(l.o.Requests), max(1, int(min(2*l.o.Requests, math.MaxInt32)))),
		places: semaphore.NewWeighted(int64(cmp.Or(l.o.UploadsPerToken, l.o.Uploads))),
	}
	l.accounts[caller] = a
	return a
}

// request counts a request, or refuses it.
func (l *limits) request(r *http.Request, who bearer) error {
	if l.o.Requests <= 0 {
		return nil
	}
	caller, name := address(r.RemoteAddr), "this address"
	if who.known {
		caller, name = who.hash.String(), fmt.Sprintf("the token %q", who.grant.Name)
	}
	l.mu.Lock()
	a := l.of(caller)
	l.mu.Unlock()
	now := time.Now()
	reserved := a.rate.ReserveN(now, 1)
	wait := reserved.DelayFrom(now)
	if wait <= 0 {
		return nil
	}
	reserved.CancelAt(now)
	return NewProblem(TypeTooManyRequests, http.StatusTooManyRequests, "Too many requests",
		fmt.Sprintf("%s may make %g requests a second; come back after Retry-After", name, l.o.Requests)).With("limit", l.o.Requests).After(wait)
}

// address is what requests without a token are counted by.
func address(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return "unknown"
	}
	ip := at.Addr().Unmap()
	if ip.Is4() {
		return ip.String()
	}
	p, err := ip.WithZone("").Prefix(64) // who has one address has them all
	if err != nil {
		return "unknown"
	}
	return p.String()
}

// enter gives an upload its place, which leave gives back.
func (l *limits) enter(ctx context.Context, who bearer) (leave func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, l.o.Wait)
	defer cancel()
	free := func() {}
	if who.known && l.o.UploadsPerToken > 0 {
		l.mu.Lock()
		a := l.of(who.hash.String())
		a.using++
		l.mu.Unlock()
		forget := func() {
			l.mu.Lock()
			a.using--
			l.mu.Unlock()
		}
		if !l.wait(waiting, a.places) {
			forget()
			return nil, l.full(ctx, NewProblem(TypeTooManyRequests, http.StatusTooManyRequests, "Too many uploads",
				fmt.Sprintf("the token %q may bring %d models at a time", who.grant.Name, l.o.UploadsPerToken)).With("limit", l.o.UploadsPerToken))
		}
		free = func() {
			a.places.Release(1)
			forget()
		}
	}
	if !l.wait(waiting, l.all) {
		free()
		return nil, l.full(ctx, Unavailable(fmt.Sprintf("this peer receives %d models already; another may have room", l.o.Uploads), 0).With("limit", l.o.Uploads))
	}
	return func() {
		l.all.Release(1)
		free()
	}, nil
}

// wait waits for a place, first come first served; false when there is none in time.
func (l *limits) wait(ctx context.Context, places *semaphore.Weighted) bool {
	if places.TryAcquire(1) {
		return true
	}
	defer l.waiting.Add(-1)
	return l.waiting.Add(1) <= int64(l.o.Waiting) && places.Acquire(ctx, 1) == nil
}

// full is a refusal; those that come together are told to come back apart.
func (l *limits) full(ctx context.Context, p *Problem) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return p.After(time.Duration(1+rand.IntN(4)) * time.Second)
}
