package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/fedmesh/fedmesh/mesh/store/internal/segment"
)

// MaxRecord is the largest record of a Log in bytes.
const MaxRecord = segment.MaxRecord

// Log is an append-only sequence of records. Records are numbered from 1 and keep their numbers
// over restarts. A record that was appended is in the operating system's hands; it survives a
// loss of power once Sync has returned for it.
type Log struct {
	*core
	dir     string
	wg      sync.WaitGroup // the goroutine of the fsync under way
	closing atomic.Bool    // set with logClosed, for those who do not hold mu

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when an fsync, a new segment or a snapshot is done
	state   logState
	err     error // why nothing more is accepted

	file    File // the last segment
	head    segment.Header
	size    int64  // where the next record goes
	last    uint64 // number of the last record
	durable uint64 // number of the last record known to be durable

	sealed []sealed // the segments before the last
	snap   snapInfo // what stands for the records before those

	syncing  bool // an fsync is under way outside of mu
	turning  bool // somebody waits for its end to start a new segment
	mustTurn bool // a new segment was begun in vain; no record may follow in the old one
	snapping bool // a snapshot is being written outside of mu
	scratch  []byte
}

// sealed is a segment that is not written to any more.
type sealed struct {
	number, first uint64
	size          int64
}

type logState uint8

const (
	logUnread logState = iota
	logReplaying
	logOpen
	logClosed
)

func newLog(c *core) *Log {
	return &Log{core: c, dir: filepath.Join(c.path, "log"), changed: make(chan struct{})}
}

// Append writes rec, 1 to MaxRecord bytes, behind the records before it and returns
// its number for Sync. It keeps no reference to rec. After an error the record is
// not in the log; unless the error wraps ErrFailed a later Append may succeed.
func (l *Log) Append(rec []byte) (uint64, error) {
	if len(rec) == 0 || len(rec) > MaxRecord {
		return 0, fmt.Errorf("store: log: a record of %d bytes is not between 1 and %d", len(rec), MaxRecord)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.room(int64(len(rec)) + segment.RecordOverhead); err != nil {
		return 0, err
	}
	b := l.head.AppendRecord(l.scratch[:0], l.size, rec)
	if cap(b) <= 1<<20 {
		l.scratch = b
	}
	if _, err := l.file.WriteAt(b, l.size); err != nil {
		err = fmt.Errorf("store: log: append: %w", err)
		if cut := l.file.Truncate(l.size); cut != nil {
			// Part of a record may stand where the next would go.
			return 0, l.fail(fmt.Errorf("%w; and cut it off: %w", err, cut))
		}
		return 0, err
	}
	l.size += int64(len(b))
	l.last++
	return l.last, nil
}

// Last returns the number of the last record, 0 when there is none.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// Err returns why the log accepts nothing, which wraps ErrFailed or os.ErrClosed, or nil.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.usable()
}

// Sync returns once all records up to number pos are durable; with [Never], at once.
// Callers that wait together share one fsync. When ctx ends first the fsync goes on without
// the caller.
func (l *Log) Sync(ctx context.Context, pos uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if pos > l.last {
		return fmt.Errorf("store: log: sync of record %d, but the last is %d", pos, l.last)
	}
	for {
		if pos <= l.durable {
			return nil
		}
		if err := l.usable(); err != nil {
			return err
		}
		if l.opts.Fsync == Never {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("store: log: sync: %w", err)
		}
		if !l.syncing && !l.turning {
			l.startSync()
		}
		l.wait(ctx)
	}
}

// wait gives up mu until something has changed or ctx ends.
func (l *Log) wait(ctx context.Context) {
	changed := l.changed
	l.mu.Unlock()
	select {
	case <-changed:
	case <-ctx.Done():
	}
	l.mu.Lock()
}

// notify wakes all who wait; mu is held.
func (l *Log) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// startSync fsyncs, in a goroutine, what has been appended so far; mu is held. There is
// never more than one fsync of a file under way: the kernel reports a failed
// write to only one of them.
func (l *Log) startSync() {
	l.syncing = true
	file := l.file
	l.wg.Go(func() {
		// Those that the last fsync woke get to append first and share this one.
		runtime.Gosched()
		l.mu.Lock()
		upto := l.last
		l.mu.Unlock()
		err := file.Sync()
		l.mu.Lock()
		defer l.mu.Unlock()
		l.syncing = false
		if err == nil {
			l.durable = max(l.durable, upto)
		} else {
			_ = l.fail(err) // the waiters find it in l.err
		}
		l.notify()
	})
}

// usable returns why nothing can be appended; mu is held.
func (l *Log) usable() error {
	switch {
	case l.err != nil:
		return l.err
	case l.state == logClosed:
		return errClosed
	case l.state != logOpen:
		return errors.New("store: log: not read yet; call Replay first")
	}
	return nil
}

// fail makes err the end of this log; mu is held.
func (l *Log) fail(err error) error {
	if l.err == nil {
		l.err = fmt.Errorf("store: log: %w: %w; see to the disk, then start again", ErrFailed, err)
		l.logger.Error().Err(err).Str("file", l.dir).Msg("log failed, accepting nothing more")
	}
	return l.err
}

// room sees to it that n bytes may be written to the last segment, starting a
// new one if it is full. It may give up mu for a while.
func (l *Log) room(n int64) error {
	return l.turnIf(func() bool {
		return l.mustTurn || l.size > segment.HeaderSize && l.size+n > l.opts.SegmentBytes
	})
}

// turnIf starts a new segment if need says so, which it asks again whenever it has
// given up mu for a while.
func (l *Log) turnIf(need func() bool) error {
	for {
		if err := l.usable(); err != nil {
			return err
		}
		if !need() {
			return nil
		}
		if l.syncing {
			l.turning = true // or one fsync after another could keep us waiting
			l.wait(context.Background())
			continue
		}
		err := l.turn()
		l.turning = false
		l.notify()
		if err != nil {
			return err
		}
	}
}

// turn makes the last segment durable and starts the next; mu is held throughout.
func (l *Log) turn() error {
	if err := l.sync(l.file); err != nil {
		return l.fail(err)
	}
	l.durable = l.last
	l.mustTurn = true
	file, head, err := l.create(l.head.Number+1, l.last+1)
	if err != nil {
		return err // the disk may be full; the next Append tries again
	}
	if err := l.file.Close(); err != nil {
		l.logger.Warn().Err(err).Msg("closing a full log segment failed")
	}
	if err := l.settled(file); err != nil {
		l.discard(file, l.segmentPath(head.Number))
		return l.fail(err)
	}
	l.mustTurn = false
	l.sealed = append(l.sealed, sealed{l.head.Number, l.head.First, l.size})
	l.file, l.head, l.size = file, head, segment.HeaderSize
	return nil
}

// close makes the log durable and closes it.
func (l *Log) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == logClosed {
		return nil
	}
	open := l.state == logOpen
	l.state = logClosed
	l.closing.Store(true)
	for l.syncing || l.snapping {
		l.wait(context.Background())
	}
	var err error
	if open {
		if err = l.err; err == nil && l.durable < l.last {
			if err = l.sync(l.file); err == nil {
				l.durable = l.last
			} else {
				err = l.fail(err)
			}
		}
		if closed := l.file.Close(); err == nil && closed != nil {
			err = fmt.Errorf("store: log: %w", closed)
		}
	}
	l.notify()
	l.mu.Unlock()
	l.wg.Wait()
	l.mu.Lock()
	return err
}
