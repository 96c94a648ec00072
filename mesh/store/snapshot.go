package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/fedmesh/fedmesh/mesh/store/internal/segment"
	"github.com/fedmesh/fedmesh/mesh/store/internal/snapshot"
)

// snapInfo says what the present snapshot is; pos is 0 when there is none.
type snapInfo struct {
	pos  uint64 // number of the last record that it stands for
	size int64  // of its file
}

// Stats says how large the log is, by which its owner can decide when to write a snapshot. When
// Segments is much larger than Snapshot, one will free space and shorten the next start.
type Stats struct {
	Last     uint64 // number of the last record
	Pos      uint64 // number of the last record that the snapshot stands for; 0 without one
	Snapshot int64  // bytes of the snapshot
	Segments int64  // bytes of the segments, which may still hold some records up to Pos
}

// Stats returns how large the log is.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{Last: l.last, Pos: l.snap.pos, Snapshot: l.snap.size, Segments: l.size}
	for _, seg := range l.sealed {
		s.Segments += seg.size
	}
	return s
}

// Snapshot has write write what stands for all records up to number pos, which is at least that of
// the snapshot before. From then on Replay hands out those bytes in the place of these records.
// Append and Sync go on meanwhile; there is one Snapshot at a time.
//
// The change is atomic: a crash leaves either all as it was or the new snapshot and the records
// behind pos. The snapshot is durable (see [Never]) before anything that it stands for is
// removed, which is the snapshot before, and each segment of the log with no record behind pos.
// A file that cannot be removed is no error; it is logged, and Replay tries again.
//
// After an error nothing has been removed and no record is lost, and unless it wraps ErrFailed
// the log goes on and a later Snapshot may succeed. Only if the directory could not be fsynced
// is the new snapshot there all the same, which the next Replay may then find or not.
//
// write is called once, in this goroutine, with a writer that must not be used after it has
// returned. It may write any number of bytes, in parts of any size, which are buffered; an
// error of it is returned, wrapped. Its Writes fail when ctx ends and when the directory is
// being closed. As Close waits for Snapshot, write must not wait for Close.
func (l *Log) Snapshot(ctx context.Context, pos uint64, write func(w io.Writer) error) error {
	if err := l.beginSnapshot(pos); err != nil {
		return err
	}
	defer l.endSnapshot()
	size, err := l.writeSnapshot(ctx, pos, write)
	if err != nil {
		return fmt.Errorf("store: log: snapshot of the records up to %d: %w", pos, err)
	}
	l.mu.Lock()
	old := l.snap
	l.snap = snapInfo{pos, size}
	l.mu.Unlock()
	if err := l.syncDir(l.dir); err != nil {
		return err
	}

	if old.pos != 0 && old.pos != pos {
		l.remove([]string{l.snapshotPath(old.pos)})
	}
	l.mu.Lock()
	paths := l.superseded(l.sealed, l.head.First, pos)
	l.mu.Unlock()
	n := l.remove(paths)
	l.mu.Lock()
	l.sealed = slices.Delete(l.sealed, 0, n)
	l.mu.Unlock()
	return nil
}

// beginSnapshot makes the records up to pos durable and, if it can, the end of a segment out of
// the end of the log, so that it can go with the others.
func (l *Log) beginSnapshot(pos uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.usable()
	switch {
	case err != nil:
		return err
	case l.snapping:
		return errors.New("store: log: another snapshot is being written")
	case pos == 0 || pos > l.last:
		return fmt.Errorf("store: log: snapshot of the records up to %d, but there are those from 1 to %d", pos, l.last)
	case pos < l.snap.pos:
		return fmt.Errorf("store: log: snapshot of the records up to %d, but there is one of those up to %d", pos, l.snap.pos)
	}
	l.snapping = true
	// A snapshot that outlives the records it stands for would leave a gap behind them.
	// What is not in the last segment is durable.
	err = l.turnIf(func() bool { return l.head.First <= pos && l.size > segment.HeaderSize })
	if err != nil {
		l.snapping = false
		l.notify()
	}
	return err
}

func (l *Log) endSnapshot() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.snapping = false
	l.notify()
}

// writeSnapshot writes the snapshot to a temporary file, makes it durable and renames it. It
// returns its size.
func (l *Log) writeSnapshot(ctx context.Context, pos uint64, write func(w io.Writer) error) (size int64, err error) {
	salt, err := newSalt()
	if err != nil {
		return 0, err
	}
	name := filepath.Join(l.dir, tmpPrefix+"snapshot")
	file, err := l.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return 0, err
	}
	placed := false
	defer func() {
		if !placed {
			l.discard(file, name)
		}
	}()
	stopped := func() error {
		if l.closing.Load() {
			return errClosed
		}
		return ctx.Err()
	}
	w := snapshot.NewWriter(&snapshotSink{file: file, early: l.opts.Fsync != Never}, pos, salt, snapshot.MaxChunk)
	if err := write(stoppable{w, stopped}); err != nil {
		return 0, err
	}
	if err := stopped(); err != nil {
		return 0, err
	}
	if size, err = w.Finish(); err != nil {
		return 0, err
	}
	if err := l.sync(file); err != nil {
		return 0, err
	}
	if err := file.Close(); err != nil {
		return 0, err
	}
	if err := errors.Join(ctx.Err(), l.Err()); err != nil {
		return 0, err
	}
	if err := l.fs.Rename(name, l.snapshotPath(pos)); err != nil {
		return 0, err
	}
	placed = true
	return size, nil
}

// superseded returns the paths of those of segs, ascending and without gaps, all of whose
// records are numbered up to pos. The segment behind them starts with record next.
func (l *Log) superseded(segs []sealed, next, pos uint64) (paths []string) {
	for i, seg := range segs {
		behind := next
		if i+1 < len(segs) {
			behind = segs[i+1].first
		}
		if behind > pos+1 {
			break
		}
		paths = append(paths, l.segmentPath(seg.number))
	}
	return paths
}

// stoppable is a Writer that writes until there is a reason not to.
type stoppable struct {
	w       io.Writer
	stopped func() error
}

func (s stoppable) Write(p []byte) (int, error) {
	if err := s.stopped(); err != nil {
		return 0, err
	}
	return s.w.Write(p)
}

// snapshotSink has the disk begin while there is more to come, or the one long fsync at the end
// would hold up those of the log.
type snapshotSink struct {
	file  File
	early bool
	fresh int // bytes written since the disk was last told to begin
}

func (s *snapshotSink) WriteAt(p []byte, off int64) (int, error) {
	n, err := s.file.WriteAt(p, off)
	if s.fresh += n; s.early && s.fresh >= earlyBytes {
		s.fresh = 0
		if f, ok := s.file.(interface{ StartSync() }); ok {
			f.StartSync()
		}
	}
	return n, err
}
