package main

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/rs/zerolog"
)

// readyEvery is how often a starting peer is asked whether it is ready.
const readyEvery = 50 * time.Millisecond

// notify tells the service manager that started this process how it is, as sd_notify(3) describes; nothing where none has asked.
func notify(state string, log zerolog.Logger) {
	socket := os.Getenv("NOTIFY_SOCKET") // "@" for the abstract ones means the same to net
	if socket == "" {
		return
	}
	conn, err := net.Dial("unixgram", socket)
	if err == nil {
		_, err = conn.Write([]byte(state))
		_ = conn.Close()
	}
	if err != nil {
		log.Warn().Err(err).Str("state", state).Msg("the service manager could not be told")
	}
}

// notifyReady tells the service manager once the peer is ready, unless ctx ends before.
func notifyReady(ctx context.Context, ready func() error, log zerolog.Logger) {
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for ready() != nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	notify("READY=1", log)
}
