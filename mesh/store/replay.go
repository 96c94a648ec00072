package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/fedmesh/fedmesh/mesh/store/internal/segment"
)

// Replay calls fn with each record in order and makes the log ready for Append. It
// must be called once, before anything else. A record belongs to fn only during
// the call; an error of fn ends the replay and is returned, wrapped. A torn tail is cut off
// and what is left made durable, so that all of it may be shown to others. On any other
// damage the error wraps ErrCorrupt and nothing has been changed.
func (l *Log) Replay(fn func(rec []byte) error) error {
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

	end, err := l.replay(fn)
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
	return nil
}

// tail is the end of the log: its last segment, and the offset and number of the
// record to come.
type tail struct {
	file File
	head segment.Header
	size int64
	next uint64
}

func (l *Log) replay(fn func(rec []byte) error) (t tail, err error) {
	t.next = 1
	count, err := l.segments()
	if err != nil {
		return t, err
	}
	if count == 0 {
		if t.file, t.head, err = l.create(1, t.next); err != nil {
			return t, err
		}
		t.size = segment.HeaderSize
		if err := l.settled(t.file); err != nil {
			return t, errors.Join(err, t.file.Close())
		}
		return t, nil
	}
	for number := uint64(1); ; number++ {
		last := number == count
		if t.file, err = l.fs.OpenFile(l.path(number), os.O_RDWR, 0); err != nil {
			return t, fmt.Errorf("store: log: %w", err)
		}
		err = l.replaySegment(&t, number, last, fn)
		if err == nil && last {
			if err = l.settle(&t, number); err == nil {
				return t, nil
			}
		}
		if err = errors.Join(err, t.file.Close()); err != nil {
			return t, err
		}
	}
}

// replaySegment reads the segment in t.file, which should start with record
// t.next, and sets t to its end. A size of 0 stands for a header that was torn.
func (l *Log) replaySegment(t *tail, number uint64, last bool, fn func(rec []byte) error) error {
	info, err := t.file.Stat()
	if err != nil {
		return fmt.Errorf("store: log: %w", err)
	}
	size := info.Size()
	b := make([]byte, min(size, segment.HeaderSize))
	if _, err := t.file.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("store: log: %w", err)
	}
	t.head, err = segment.ParseHeader(b)
	switch {
	case err != nil && last && size <= segment.HeaderSize:
		t.size = 0
		return nil
	case err != nil:
		return l.corrupt(number, 0, err.Error())
	case t.head.Number != number:
		return l.corrupt(number, 0, fmt.Sprintf("it is segment %d by its header", t.head.Number))
	case t.head.First != t.next:
		return l.corrupt(number, 0, fmt.Sprintf("it starts with record %d, but the segments before it end with %d", t.head.First, t.next-1))
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
				return l.corrupt(number, damage.Offset, damage.Reason)
			}
			return l.torn(r, number, size, damage)
		case err != nil:
			return fmt.Errorf("store: log: read %s: %w", l.path(number), err)
		}
		if err := fn(rec); err != nil {
			return fmt.Errorf("store: log: replay of record %d: %w", t.next, err)
		}
		t.next++
	}
}

// torn returns nil if the damage in the last segment can be an interrupted write.
func (l *Log) torn(r *segment.Reader, number uint64, size int64, damage *segment.Damage) error {
	at, found, err := r.Find(damage.Offset + 1)
	if err != nil {
		return fmt.Errorf("store: log: read %s: %w", l.path(number), err)
	}
	if found {
		return l.corrupt(number, damage.Offset, fmt.Sprintf(
			"%s, and as a whole record follows at offset %d it is no interrupted write", damage.Reason, at))
	}
	l.logger.Warn().Str("file", l.path(number)).Int64("offset", damage.Offset).
		Int64("bytes", size-damage.Offset).Str("reason", damage.Reason).
		Msg("cutting off the end of the log, an interrupted write")
	return nil
}

// settle cuts the last segment off at t.size and makes all of it durable: what an earlier
// process wrote may so far be in the page cache only.
func (l *Log) settle(t *tail, number uint64) error {
	if err := t.file.Truncate(t.size); err != nil {
		return fmt.Errorf("store: log: cut %s at %d: %w", l.path(number), t.size, err)
	}
	if t.size == 0 {
		var err error
		if t.head, err = writeHeader(t.file, number, t.next); err != nil {
			return err
		}
		t.size = segment.HeaderSize
	}
	return l.settled(t.file)
}

// settled makes a segment durable, its name included.
func (l *Log) settled(file File) error {
	if err := l.sync(file); err != nil {
		return fmt.Errorf("store: log: %w", err)
	}
	return l.syncDir(l.dir)
}

// create makes segment number, empty and not yet durable. Its first record will
// be number first.
func (l *Log) create(number, first uint64) (File, segment.Header, error) {
	name := l.path(number)
	file, err := l.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return nil, segment.Header{}, fmt.Errorf("store: log: %w", err)
	}
	head, err := writeHeader(file, number, first)
	if err != nil {
		l.discard(file, name)
		return nil, segment.Header{}, err
	}
	return file, head, nil
}

func writeHeader(file File, number, first uint64) (segment.Header, error) {
	var salt [4]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return segment.Header{}, fmt.Errorf("store: log: salt: %w", err)
	}
	head := segment.Header{Number: number, First: first, Salt: binary.LittleEndian.Uint32(salt[:])}
	if _, err := file.WriteAt(head.Encode(), 0); err != nil {
		return segment.Header{}, fmt.Errorf("store: log: write segment header: %w", err)
	}
	return head, nil
}

// segments returns how many segments there are, numbered from 1 without gaps.
func (l *Log) segments() (uint64, error) {
	entries, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return 0, fmt.Errorf("store: log: %w", err)
	}
	var numbers []uint64
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), ".log")
		number, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil || segmentName(number) != e.Name() {
			l.logger.Warn().Str("file", filepath.Join(l.dir, e.Name())).Msg("ignoring a file that is no log segment")
			continue
		}
		numbers = append(numbers, number)
	}
	slices.Sort(numbers)
	for i, number := range numbers {
		if want := uint64(i) + 1; number != want {
			return 0, l.corrupt(want, 0, fmt.Sprintf("it is missing, but %s is there", segmentName(number)))
		}
	}
	return uint64(len(numbers)), nil
}

func segmentName(number uint64) string { return fmt.Sprintf("%08d.log", number) }

func (l *Log) path(number uint64) string { return filepath.Join(l.dir, segmentName(number)) }

// corrupt is the error for damage that no crash can have done.
func (l *Log) corrupt(number uint64, off int64, reason string) error {
	return fmt.Errorf("store: log: %w: %s at offset %d: %s; restore the data directory from a backup, or move it away and let this peer join as a new one",
		ErrCorrupt, l.path(number), off, reason)
}
