//go:build unix

package main

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// TestNodeNotifies plays the service manager: it is told of a peer that is ready, not of one that only runs, and of its stop.
func TestNodeNotifies(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	hear := func(patience time.Duration) string {
		b := make([]byte, 100)
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(b)
		if err != nil {
			return err.Error()
		}
		return string(b[:n])
	}

	p, _ := serve(t)
	fake := &nodeFake{peer: p}
	fake.draining.Store(true) // not ready
	var log lockedBuffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- runNode(ctx, nodeFlags{name: "a", listen: "127.0.0.1:0"}, zerolog.New(&log),
			func(nodeFlags, zerolog.Logger, *prometheus.Registry) (nodePeer, error) { return fake, nil })
	}()
	log.waitServing(t)
	if got := hear(3 * readyEvery); got == "READY=1" {
		t.Error("said to be ready before it is")
	}
	fake.draining.Store(false)
	if got := hear(30 * time.Second); got != "READY=1" {
		t.Errorf("heard %q", got)
	}
	cancel()
	if got := hear(30 * time.Second); got != "STOPPING=1" {
		t.Errorf("heard %q", got)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
