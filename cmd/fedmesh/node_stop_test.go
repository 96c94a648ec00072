package main

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// A pushFake tells when a push has begun.
type pushFake struct {
	*nodeFake
	begun chan struct{}
}

func (p pushFake) Push(ctx context.Context, req api.PushRequest) (api.Receipt, error) {
	close(p.begun)
	return p.nodeFake.Push(ctx, req)
}

// TestStopFinishes stops a node while a push is under way: that one is finished, a later one is told to go elsewhere.
func TestStopFinishes(t *testing.T) {
	p, _ := serve(t)
	fake := pushFake{&nodeFake{peer: p}, make(chan struct{})}
	var log lockedBuffer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- runNode(ctx, nodeFlags{name: "a", listen: "127.0.0.1:0"}, zerolog.New(&log),
			func(nodeFlags, zerolog.Logger, *prometheus.Registry) (nodePeer, error) { return fake, nil })
	}()
	url := log.waitServing(t)
	first := f32(t, 1, 2, 3)
	body, feed := io.Pipe()
	pushed := make(chan int, 1)
	go func() {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/v1/sessions/s/updates/c1?weight=1", body)
		if err != nil {
			t.Error(err)
			close(pushed)
			return
		}
		req.ContentLength = int64(len(first))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			close(pushed)
			return
		}
		resp.Body.Close()
		pushed <- resp.StatusCode
	}()
	if _, err := feed.Write(first[:10]); err != nil {
		t.Fatal(err)
	}
	<-fake.begun
	poll := make(chan int, 1)
	go func() { // who waits for news does not keep it
		resp, err := http.Get(url + "/v1/events")
		if err != nil {
			close(poll)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		poll <- resp.StatusCode
	}()
	cancel()
	for tick := time.Tick(time.Millisecond); !fake.draining.Load(); {
		<-tick
	}
	<-poll

	for _, path := range []string{"/readyz", "/v1/sessions/s/model"} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !resp.Close {
			t.Errorf("%s while it stops: %s, Retry-After %q, connection closed %v", path, resp.Status, resp.Header.Get("Retry-After"), resp.Close)
		}
	}
	select {
	case err := <-done:
		t.Fatalf("ended with a push under way: %v", err)
	default:
	}
	if fake.closed.Load() {
		t.Error("the peer was closed with a push under way")
	}
	if _, err := feed.Write(first[10:]); err != nil {
		t.Fatal(err)
	}
	feed.Close()
	if code := <-pushed; code/100 != 2 {
		t.Errorf("the push under way was answered with %d", code)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := http.Get(url + "/healthz"); err == nil {
		t.Error("it still serves")
	}
}
