package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// dialer makes connections; nil stands for real sockets of this machine.
type dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// follow asks a peer for its newest model until ctx ends, and every second for
// its final rounds.
func (w *watch) follow(ctx context.Context, peer process.Peer, session string, dial dialer) error {
	client, err := api.NewClient([]string{peer.URL}, api.ClientOptions{Passes: 1, ResponseTimeout: 5 * time.Second, DialContext: dial})
	if err != nil {
		return err
	}
	defer client.Close()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for from := uint64(1); ; {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			rounds, err := client.Rounds(ctx, session, from, 200)
			if err != nil {
				continue // it is dead, or busy with its start
			}
			w.final(rounds)
			// Finality comes in order.
			if i := slices.IndexFunc(rounds, func(r api.RoundInfo) bool { return r.State != api.RoundFinal }); i >= 0 {
				rounds = rounds[:i]
			}
			from += uint64(len(rounds))
		}
	})
	transport := &http.Transport{DialContext: dial}
	defer transport.CloseIdleConnections()
	for digest := ""; ctx.Err() == nil; {
		round, d, err := newer(ctx, transport, peer.URL, session, digest)
		switch {
		case err != nil:
			digest = "" // it may know less after a start
			command.Pause(ctx, 30*time.Millisecond)
		case d != "":
			digest = d
			w.see(peer.Name, round, d)
		}
	}
	return nil
}

// newer waits for a peer to serve a newer model than the one with a digest, and
// says which, or that there is none. The model itself is not taken.
func newer(ctx context.Context, transport http.RoundTripper, url, session, digest string) (uint64, string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	url += "/v1/sessions/" + session + "/model"
	if digest != "" {
		url += "?wait=2s&after=" + digest
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	_ = resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		round, err := strconv.ParseUint(resp.Header.Get("Fedmesh-Round"), 10, 64)
		return round, strings.Trim(resp.Header.Get("ETag"), `"`), err
	case http.StatusNoContent, http.StatusNotModified:
		return 0, "", nil
	}
	return 0, "", fmt.Errorf("kill: %s answers %s", url, resp.Status)
}
