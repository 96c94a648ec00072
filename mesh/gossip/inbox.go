package gossip

import (
	"context"
	"sync"
)

// itemKind says what waits for the handler.
type itemKind uint8

const (
	itemMessage itemKind = iota
	itemState
	itemConflict
	itemChanged
)

type item struct {
	kind                 itemKind
	data                 []byte
	name, known, claimed string // of a conflict
}

// inbox is the bounded queue between memberlist's goroutines and ours. Pushing
// never waits. Any number of membership changes wait as one.
type inbox struct {
	maxItems int
	maxBytes int64
	metrics  *metrics
	wake     chan struct{}

	mu      sync.Mutex
	items   []item
	bytes   int64
	changed bool
}

func newInbox(maxItems int, maxBytes int64, m *metrics) *inbox {
	return &inbox{maxItems: maxItems, maxBytes: maxBytes, metrics: m, wake: make(chan struct{}, 1)}
}

func (q *inbox) push(it item) {
	q.mu.Lock()
	// A single item may exceed the bytes, else a large message could never pass.
	full := len(q.items) >= q.maxItems || len(q.items) > 0 && q.bytes+int64(len(it.data)) > q.maxBytes
	if !full {
		q.items = append(q.items, it)
		q.bytes += int64(len(it.data))
	}
	q.mu.Unlock()
	if full {
		q.metrics.drop("inbound", "full", 1)
		return
	}
	q.signal()
}

func (q *inbox) pushChanged() {
	q.mu.Lock()
	q.changed = true
	q.mu.Unlock()
	q.signal()
}

func (q *inbox) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// next waits for the next item. It reports false when ctx ends.
func (q *inbox) next(ctx context.Context) (item, bool) {
	for {
		if ctx.Err() != nil {
			return item{}, false
		}
		if it, ok := q.pop(); ok {
			return it, true
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
		}
	}
}

func (q *inbox) pop() (item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.changed {
		q.changed = false
		return item{kind: itemChanged}, true
	}
	if len(q.items) == 0 {
		q.items = nil
		return item{}, false
	}
	it := q.items[0]
	q.items[0] = item{}
	q.items = q.items[1:]
	q.bytes -= int64(len(it.data))
	return it, true
}

func (q *inbox) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

// dispatch calls the handler until ctx ends. It is the only goroutine that does.
func (g *Gossip) dispatch(ctx context.Context) {
	for {
		it, ok := g.inbox.next(ctx)
		if !ok {
			return
		}
		switch it.kind {
		case itemMessage:
			g.handler.Message(it.data)
		case itemState:
			g.handler.RemoteState(it.data)
		case itemChanged:
			g.handler.Changed()
		case itemConflict:
			if g.cfg.Conflict != nil {
				g.cfg.Conflict(it.name, it.known, it.claimed)
			}
		}
	}
}
