package process

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// Peer is a node's name and the URL of its API.
type Peer struct {
	Name string `json:"name"`
	URL  string `json:"url"`
}

// CheckOptions say what to check.
type CheckOptions struct {
	Session  string // name or, better, key
	Peers    []Peer // all of them are asked
	Receipts []api.Receipt
	Timeout  time.Duration // for the rounds to become final and equal everywhere; a minute when zero
	// Dial reaches the peers; nil: real sockets of this machine.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	TLS  *tls.Config // for peers that speak https
}

// Check asks every peer for its rounds until the closed session is final and
// equal everywhere, or the time is over, and judges what it saw last. The error
// is about the asking only: see Verdict.Err for what is wrong with the answers.
func Check(ctx context.Context, o CheckOptions) (Verdict, error) {
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if len(o.Peers) == 0 {
		return Verdict{}, errors.New("process: no peers to check")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, errTimeout)
	defer cancel()
	clients := make([]*api.Client, len(o.Peers))
	for i, p := range o.Peers {
		c, err := api.NewClient([]string{p.URL}, api.ClientOptions{Passes: 1, ResponseTimeout: 5 * time.Second, DialContext: o.Dial, TLS: o.TLS})
		if err != nil {
			return Verdict{}, fmt.Errorf("process: %w", err)
		}
		defer c.Close()
		clients[i] = c
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var verdict Verdict
	for {
		views := look(ctx, o, clients)
		// A look that the end of the time cut short says less than the one before.
		if ctx.Err() == nil || verdict.Peers == nil {
			verdict = Judge(o.Receipts, views)
		}
		if verdict.Agreed {
			return verdict, nil
		}
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errTimeout) {
				return verdict, nil
			}
			return verdict, fmt.Errorf("process: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

var errTimeout = errors.New("process: check timed out")

// look asks all peers at once.
func look(ctx context.Context, o CheckOptions, clients []*api.Client) []View {
	views := make([]View, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			views[i] = lookAt(ctx, o.Session, c)
			views[i].Peer = o.Peers[i].Name
		})
	}
	wg.Wait()
	return views
}

func lookAt(ctx context.Context, session string, c *api.Client) View {
	info, err := c.Session(ctx, session)
	if err != nil {
		return View{Err: err}
	}
	rounds, err := AllRounds(ctx, c, info.Key)
	if err != nil {
		return View{Err: err}
	}
	return View{Session: info, Rounds: rounds}
}

// AllRounds lists the rounds of a session from the first on, page by page.
func AllRounds(ctx context.Context, c *api.Client, session string) ([]api.RoundInfo, error) {
	const page = 500
	var all []api.RoundInfo
	for {
		part, err := c.Rounds(ctx, session, uint64(len(all))+1, page)
		if err != nil {
			return nil, fmt.Errorf("process: rounds from %d: %w", len(all)+1, err)
		}
		for _, r := range part {
			if want := uint64(len(all)) + 1; r.Round != want {
				return nil, fmt.Errorf("process: round %d is listed where %d was expected", r.Round, want)
			}
			all = append(all, r)
		}
		if len(part) < page {
			return all, nil
		}
	}
}
