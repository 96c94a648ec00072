package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/fedmesh/fedmesh/mesh/store/internal/segment"
	"github.com/fedmesh/fedmesh/mesh/store/internal/snapshot"
)

// Replay hands out what the log holds, in order, and makes it ready for Append. It must be
// called once, before anything else. If there is a snapshot, snap is called first, with the
// bytes of it and the number of the last record it stands for; it need not read all of them,
// and if it is nil there must be no snapshot. Then fn is called with each record behind the
// snapshot. A reader and a record belong to the callee only during the call; an error of it
// ends the replay and is returned, wrapped.
//
// A torn tail is cut off and what is left made durable, so that all of it may be shown to
// others. On any other damage the error wraps ErrCorrupt and nothing has been changed; what the
// callees have made of what came before it is of no use then.
func (l *Log) Replay(snap func(r io.Reader, pos uint64) error, fn func(rec []byte) error) error {
	l.mu.Lock()
	if l.state != logUnread {
		err := l.usable()
		l.mu.Unlock()
		if err == nil {
			err = errors.New("store: log: replayed already")
		}
		return err
	}
	l.state = logReplaying
	l.mu.Unlock()

	end, err := l.replay(snap, fn)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && l.state == logClosed {
		err = errors.Join(errClosed, end.file.Close())
	}
	if err != nil {
		return err
	}
	l.state = logOpen
	l.file, l.head, l.size = end.file, end.head, end.size
	l.last, l.durable = end.next-1, end.next-1
	l.snap = end.snap
	// All that is kept is durable, so the rest can go.
	l.remove(end.stale)
	n := l.remove(l.superseded(end.sealed, end.head.First, end.snap.pos))
	l.sealed = end.sealed[n:]
	return nil
}

// tail is the end of the log: its last segment, and the offset and number of the
// record to come; and what else there is of it.
type tail struct {
	file File
	head segment.Header
	size int64
	next uint64

	sealed []sealed
	snap   snapInfo
	stale  []string // files that the snapshot stands for
}

func (l *Log) replay(snap func(r io.Reader, pos uint64) error, fn func(rec []byte) error) (t tail, err error) {
	numbers, snapshots, err := l.list()
	if err != nil {
		return t, err
	}
	if len(numbers) == 0 && len(snapshots) == 0 {
		t.next, t.size = 1, segment.HeaderSize
		if t.file, t.head, err = l.create(1, t.next); err != nil {
			return t, err
		}
		if err := l.settled(t.file); err != nil {
			return t, errors.Join(err, t.file.Close())
		}
		return t, nil
	}
	for i, pos := range snapshots {
		t.snap.pos = pos
		if i < len(snapshots)-1 {
			t.stale = append(t.stale, l.snapshotPath(pos))
		}
	}
	start, err := l.start(&t, numbers)
	if err != nil {
		return t, err
	}
	for _, number := range numbers[:start] {
		t.stale = append(t.stale, l.segmentPath(number))
	}
	if t.snap.pos > 0 {
		if err := l.replaySnapshot(&t, snap); err != nil {
			return t, err
		}
	}
	return t, l.replayFrom(&t, numbers[start:], fn)
}

// start finds the last segment that starts no later than behind the snapshot, where reading the log
// has to begin, and sets t.next to its first record. The segments before it hold nothing that the
// snapshot does not stand for; as their removals reach the disk in any order, any of
// them may be missing.
func (l *Log) start(t *tail, numbers []uint64) (int, error) {
	behind := t.snap.pos + 1
	for i, number := range slices.Backward(numbers) {
		last := i == len(numbers)-1
		if !last && number+1 != numbers[i+1] {
			return 0, l.missing(number+1, behind)
		}
		head, torn, err := l.headOf(number, last)
		switch {
		case err != nil:
			return 0, err
		case i == 0 && t.snap.pos == 0 && number != 1:
			return 0, l.missing(1, behind)
		case torn && i == 0:
			t.next = behind
			return 0, nil
		case !torn && head.First <= behind && (i == 0 || t.snap.pos > 0):
			t.next = head.First
			return i, nil
		}
	}
	if len(numbers) == 0 || numbers[0] == 1 {
		return 0, l.missing(1, behind)
	}
	return 0, l.missing(numbers[0]-1, behind)
}

func (l *Log) missing(number, behind uint64) error {
	return corrupt(l.segmentPath(number), 0, fmt.Sprintf("it is missing, and records from %d on may be in it", behind))
}

// headOf reads the header of a segment. It is torn if the segment is the last and no more than
// that.
func (l *Log) headOf(number uint64, last bool) (head segment.Header, torn bool, err error) {
	file, err := l.fs.OpenFile(l.segmentPath(number), os.O_RDONLY, 0)
	if err != nil {
		return head, false, fmt.Errorf("store: log: %w", err)
	}
	head, size, err := l.readHead(file, number, last)
	return head, size == 0, errors.Join(err, file.Close())
}

// readHead reads the header in file and returns the size of it, 0 if its header is torn.
func (l *Log) readHead(file File, number uint64, last bool) (head segment.Header, size int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return head, 0, fmt.Errorf("store: log: %w", err)
	}
	size = info.Size()
	b := make([]byte, min(size, segment.HeaderSize))
	if _, err := file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return head, 0, fmt.Errorf("store: log: %w", err)
	}
	head, err = segment.ParseHeader(b)
	switch {
	case err != nil && last && size <= segment.HeaderSize:
		return head, 0, nil
	case err != nil:
		return head, 0, corrupt(l.segmentPath(number), 0, err.Error())
	case head.Number != number:
		return head, 0, corrupt(l.segmentPath(number), 0, fmt.Sprintf("it is segment %d by its header", head.Number))
	}
	return head, size, nil
}

// replaySnapshot calls fn with the snapshot of the records up to t.snap.pos and sees to it that
// it is sound and durable.
func (l *Log) replaySnapshot(t *tail, fn func(r io.Reader, pos uint64) error) error {
	if fn == nil {
		return fmt.Errorf("store: log: there is a snapshot of the records up to %d, but none is expected", t.snap.pos)
	}
	path := l.snapshotPath(t.snap.pos)
	file, err := l.fs.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("store: log: %w", err)
	}
	return errors.Join(l.readSnapshot(t, file, path, fn), file.Close())
}

func (l *Log) readSnapshot(t *tail, file File, path string, fn func(r io.Reader, pos uint64) error) error {
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("store: log: %w", err)
	}
	t.snap.size = info.Size()
	r, err := snapshot.NewReader(file, t.snap.size)
	var failed error
	if err == nil {
		if r.Pos() != t.snap.pos {
			return corrupt(path, 0, fmt.Sprintf("it is the snapshot of the records up to %d by its header", r.Pos()))
		}
		if failed = fn(r, t.snap.pos); failed == nil {
			err = r.Check()
		} else {
			err = r.Err() // the cause, if there is one
		}
	}
	var damage *snapshot.Damage
	switch {
	case errors.As(err, &damage):
		return corrupt(path, damage.Offset, damage.Reason)
	case err != nil:
		return fmt.Errorf("store: log: read %s: %w", path, err)
	case failed != nil:
		return fmt.Errorf("store: log: replay of the snapshot of the records up to %d: %w", t.snap.pos, failed)
	}
	if err := l.sync(file); err != nil {
		return fmt.Errorf("store: log: %w", err)
	}
	return nil
}

// replayFrom reads the segments numbers, the first of which starts with record t.next, and
// settles the last.
func (l *Log) replayFrom(t *tail, numbers []uint64, fn func(rec []byte) error) (err error) {
	for i, number := range numbers {
		last := i == len(numbers)-1
		if t.file, err = l.fs.OpenFile(l.segmentPath(number), os.O_RDWR, 0); err != nil {
			return fmt.Errorf("store: log: %w", err)
		}
		err = l.replaySegment(t, number, last, fn)
		if err == nil && last {
			if err = l.settle(t, number); err == nil {
				return nil
			}
		}
		if err == nil { // an earlier process may have written it without fsyncs
			if err = l.sync(t.file); err != nil {
				err = fmt.Errorf("store: log: %w", err)
			}
		}
		if err = errors.Join(err, t.file.Close()); err != nil {
			return err
		}
		t.sealed = append(t.sealed, sealed{number, t.head.First, t.size})
	}
	return nil
}

// replaySegment reads the segment in t.file, which should start with record
// t.next, and sets t to its end. A size of 0 stands for a header that was torn.
func (l *Log) replaySegment(t *tail, number uint64, last bool, fn func(rec []byte) error) (err error) {
	var size int64
	if t.head, size, err = l.readHead(t.file, number, last); err != nil || size == 0 {
		t.size = 0
		return err
	}
	path := l.segmentPath(number)
	if t.head.First != t.next {
		return corrupt(path, 0, fmt.Sprintf("it starts with record %d, but the segments before it end with %d", t.head.First, t.next-1))
	}
	r := segment.NewReader(t.file, size, t.head)
	for {
		rec, err := r.Next()
		t.size = r.Offset()
		var damage *segment.Damage
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &damage):
			if !last {
				return corrupt(path, damage.Offset, damage.Reason)
			}
			return l.torn(r, path, size, damage)
		case err != nil:
			return fmt.Errorf("store: log: read %s: %w", path, err)
		}
		if t.next > t.snap.pos {
			if err := fn(rec); err != nil {
				return fmt.Errorf("store: log: replay of record %d: %w", t.next, err)
			}
		}
		t.next++
	}
}

// torn returns nil if the damage in the last segment can be an interrupted write.
func (l *Log) torn(r *segment.Reader, path string, size int64, damage *segment.Damage) error {
	at, found, err := r.Find(damage.Offset + 1)
	if err != nil {
		return fmt.Errorf("store: log: read %s: %w", path, err)
	}
	if found {
		return corrupt(path, damage.Offset, fmt.Sprintf(
			"%s, and as a whole record follows at offset %d it is no interrupted write", damage.Reason, at))
	}
	l.logger.Warn().Str("file", path).Int64("offset", damage.Offset).
		Int64("bytes", size-damage.Offset).Str("reason", damage.Reason).
		Msg("cutting off the end of the log, an interrupted write")
	return nil
}

// settle cuts the last segment off at t.size and makes all of it durable: what an earlier
// process wrote may so far be in the page cache only.
func (l *Log) settle(t *tail, number uint64) error {
	if err := t.file.Truncate(t.size); err != nil {
		return fmt.Errorf("store: log: cut %s at %d: %w", l.segmentPath(number), t.size, err)
	}
	short := t.next <= t.snap.pos
	if short {
		l.logger.Warn().Uint64("last", t.next-1).Uint64("snapshot", t.snap.pos).
			Msg("the log ends before its snapshot does; records behind that may have been lost")
		t.next = t.snap.pos + 1
	}
	switch {
	case t.size == 0:
		var err error
		if t.head, err = writeHeader(t.file, number, t.next); err != nil {
			return err
		}
		t.size = segment.HeaderSize
	case short:
		if err := l.skip(t, number); err != nil {
			return err
		}
	}
	return l.settled(t.file)
}

// skip goes on in a new segment, as records in one are numbered without gaps.
func (l *Log) skip(t *tail, number uint64) error {
	file, head, err := l.create(number+1, t.next)
	if err != nil {
		return err
	}
	if err := t.file.Close(); err != nil {
		l.logger.Warn().Err(err).Msg("closing a log segment failed")
	}
	t.sealed = append(t.sealed, sealed{number, t.head.First, t.size})
	t.file, t.head, t.size = file, head, segment.HeaderSize
	return nil
}
