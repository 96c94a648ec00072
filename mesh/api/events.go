package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	maxStreams  = 256 // event streams at once
	streamQueue = 256 // events that wait for a slow client before it is dropped
)

// getEvents streams events (text/event-stream) until the client goes, cannot keep up, or the server closes.
func (s *Server) getEvents(w *response, r *http.Request) error {
	q, err := query(r, "session")
	if err != nil {
		return err
	}
	session := q.Get("session")
	if q.Has("session") {
		if err := CheckName("session", session); err != nil {
			return InvalidRequest("session", err)
		}
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		return Unavailable(fmt.Sprintf("this peer serves %d event streams already", maxStreams), 5*time.Second)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	queue := make(chan Event, streamQueue)
	events := s.backend.Subscribe(ctx)
	var pump sync.WaitGroup
	defer pump.Wait()
	defer cancel()
	pump.Go(func() {
		defer close(queue)
		forward(ctx, cancel, events, queue)
	})

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	if err := w.say(": fedmesh\nretry: 2000\n\n"); err != nil {
		return nil // the client is gone
	}
	heartbeat := time.NewTicker(s.opts.Timeouts.Heartbeat)
	defer heartbeat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-heartbeat.C:
			err = w.say(":\n\n")
		case e, ok := <-queue:
			if !ok {
				return nil
			}
			if session != "" && e.Session != session {
				continue
			}
			var b []byte
			if b, err = json.Marshal(e); err != nil {
				return fmt.Errorf("api: encoding an event: %w", err)
			}
			err = w.say(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.Seq, oneLine(e.Type), b))
		}
		if err != nil {
			return nil // the client is gone
		}
	}
}

// forward moves events into the queue without ever waiting for it; when it is full, the stream ends.
func forward(ctx context.Context, cancel context.CancelFunc, events <-chan Event, queue chan<- Event) {
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			select {
			case queue <- e:
			default:
				cancel()
				return
			}
		}
	}
}

// say writes a piece of an event stream through to the client.
func (w *response) say(s string) error {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	if _, err := w.Write([]byte(s)); err != nil {
		return err
	}
	return w.flush()
}

// oneLine keeps a field of an event stream one field.
func oneLine(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' {
			b[i] = ' '
		}
	}
	return string(b)
}
