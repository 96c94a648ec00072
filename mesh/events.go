package mesh

import (
	"context"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// eventBuffer is how many events a subscriber may be behind before it is cut off.
const eventBuffer = 256

// events hands what happens to whoever subscribed, and never waits for them.
type events struct {
	mu     sync.Mutex
	seq    uint64
	subs   map[chan api.Event]bool
	closed bool
}

func newEvents() *events { return &events{subs: map[chan api.Event]bool{}} }

func (e *events) subscribe(ctx context.Context) <-chan api.Event {
	ch := make(chan api.Event, eventBuffer)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		close(ch)
		return ch
	}
	e.subs[ch] = true
	context.AfterFunc(ctx, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.drop(ch)
	})
	return ch
}

// drop is called with e.mu held.
func (e *events) drop(ch chan api.Event) {
	if e.subs[ch] {
		delete(e.subs, ch)
		close(ch)
	}
}

func (e *events) add(ev api.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seq++
	ev.Seq, ev.Time = e.seq, time.Now().UTC()
	for ch := range e.subs {
		select {
		case ch <- ev:
		default:
			e.drop(ch)
		}
	}
}

func (e *events) warn(session, detail string) {
	e.add(api.Event{Type: api.EventWarning, Session: session, Detail: detail})
}

func (e *events) peer(m member) {
	state := api.PeerDead
	switch {
	case m.left:
		state = api.PeerLeft
	case m.alive:
		state = api.PeerAlive
	}
	e.add(api.Event{Type: api.EventPeer, Peer: m.name, State: state})
}

func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for ch := range e.subs {
		e.drop(ch)
	}
}
