// Package raftctl is how the benchmark speaks with the reducers under Raft
// beside their API: it tells them once who they are, and asks them who leads.
//
//	err := raftctl.Form(ctx, http.DefaultClient, urls)
//	state, err := raftctl.Ask(ctx, http.DefaultClient, url)
//
// Its functions keep nothing and may be called from many goroutines.
package raftctl

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Path is where they listen for it: GET answers with a State, POST takes the
// Servers of a new cluster.
const Path = "/v1/peer/raft"

// Server is one process.
type Server struct {
	ID      string `json:"id"`      // host:port of its API
	Address string `json:"address"` // host:port of its Raft transport
}

// State is what a process says of itself.
type State struct {
	Self   Server `json:"self"`
	Leader string `json:"leader"` // id of the one it takes for the leader; empty when it knows none
}

// Leads reports whether the process says that it leads.
func (s State) Leads() bool { return s.Leader != "" && s.Leader == s.Self.ID }

// Ask asks the process with that URL.
func Ask(ctx context.Context, client *http.Client, url string) (State, error) {
	var s State
	return s, call(ctx, time.Second, client, http.MethodGet, url, nil, &s)
}

// forming bounds each request of Form, which is made once.
const forming = 30 * time.Second

// Form makes a cluster of processes that have just been started with empty
// folders, and waits until all of them know the first leader.
func Form(ctx context.Context, client *http.Client, urls []string) error {
	var servers []Server
	for _, url := range urls {
		var s State
		if err := call(ctx, forming, client, http.MethodGet, url, nil, &s); err != nil {
			return err
		}
		servers = append(servers, s.Self)
	}
	if err := call(ctx, forming, client, http.MethodPost, urls[0], servers, nil); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		known := 0
		for _, url := range urls {
			if s, err := Ask(ctx, client, url); err == nil && s.Leader != "" {
				known++
			}
		}
		if known == len(urls) {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("raftctl: only %d of %d processes know a leader: %w", known, len(urls), ctx.Err())
		}
	}
}

// call makes a request, JSON in and out, within a time.
func call(ctx context.Context, within time.Duration, client *http.Client, method, url string, question, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("raftctl: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, url+Path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("raftctl: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("raftctl: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("raftctl: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("raftctl: %s answers %s: %s", url, resp.Status, strings.TrimSpace(string(text)))
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("raftctl: %s: %w", url, err)
	}
	return nil
}
