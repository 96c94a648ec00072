package store_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/store"
)

func TestLogKeepsRecordsOverSegments(t *testing.T) {
	dir := t.TempDir()
	recs := append(records(20, 50), make([]byte, 5000)) // the last is larger than a segment
	for i := range 3 {
		d := open(t, dir, store.Options{SegmentBytes: 300})
		got, err := replay(d.Log())
		must(t, err)
		mustEqual(t, got, recs[:min(i*7, len(recs))])
		if n := d.Log().Last(); n != uint64(len(got)) {
			t.Fatalf("last is %d after %d records", n, len(got))
		}
		appendAll(t, d.Log(), recs[i*7:(i+1)*7]...)
		must(t, d.Close())
		must(t, d.Close())
	}
	d := open(t, dir, store.Options{})
	got, err := replay(d.Log())
	must(t, err)
	mustEqual(t, got, recs)
	segments, err := os.ReadDir(filepath.Join(dir, "log"))
	must(t, err)
	if len(segments) < 5 {
		t.Fatalf("%d segments for 6 KB of records at 300 B each", len(segments))
	}
}

func TestLogRefuses(t *testing.T) {
	d := open(t, t.TempDir(), store.Options{})
	l := d.Log()
	if _, err := l.Append([]byte("x")); err == nil {
		t.Fatal("append before replay")
	}
	must(t, l.Replay(nil, nop))
	if err := l.Replay(nil, nop); err == nil {
		t.Fatal("second replay")
	}
	for _, n := range []int{0, store.MaxRecord + 1} {
		if _, err := l.Append(make([]byte, n)); err == nil {
			t.Fatalf("record of %d bytes", n)
		}
	}
	_, err := l.Append(make([]byte, store.MaxRecord))
	must(t, err)
	if err := l.Sync(t.Context(), 2); err == nil {
		t.Fatal("sync of a record that is not there")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Sync(gone, 1); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	must(t, l.Sync(t.Context(), 1))
	must(t, l.Sync(gone, 1)) // nothing to wait for
	must(t, d.Close())
	if _, err := l.Append([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	if err := l.Err(); !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
}

func TestReplayStopsAtCallersError(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, store.Options{})
	must(t, d.Log().Replay(nil, nop))
	appendAll(t, d.Log(), records(3, 9)...)
	must(t, d.Close())

	d = open(t, dir, store.Options{})
	stop := errors.New("stop")
	calls := 0
	err := d.Log().Replay(nil, func([]byte) error {
		calls++
		return stop
	})
	if !errors.Is(err, stop) || calls != 1 || !strings.Contains(err.Error(), "record 1") {
		t.Fatal(calls, err)
	}
	if _, err := d.Log().Append([]byte("x")); err == nil {
		t.Fatal("append after a replay that failed")
	}
}

func TestReplayRefusesStrangeFiles(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, store.Options{})
	must(t, d.Log().Replay(nil, nop))
	must(t, d.Close())
	must(t, os.WriteFile(segmentPath(dir, "1.log"), []byte("?"), 0o600))
	must(t, os.WriteFile(segmentPath(dir, "notes.txt"), []byte("?"), 0o600))
	d = open(t, dir, store.Options{})
	must(t, d.Log().Replay(nil, nop)) // names that are not ours are ignored
	must(t, d.Close())
	must(t, os.WriteFile(segmentPath(dir, "00000003.log"), []byte("?"), 0o600))
	d = open(t, dir, store.Options{})
	if err := d.Log().Replay(nil, nop); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "00000002.log") {
		t.Fatal(err)
	}
}

// syncCounter counts the fsyncs of the log and whether two ever ran at once.
type syncCounter struct {
	store.FS
	syncs, running atomic.Int64
	overlap        atomic.Bool
}

func (c *syncCounter) OpenFile(name string, flag int, perm fs.FileMode) (store.File, error) {
	f, err := c.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return countedFile{f, c}, nil
}

type countedFile struct {
	store.File
	c *syncCounter
}

func (f countedFile) Sync() error {
	if f.c.running.Add(1) > 1 {
		f.c.overlap.Store(true)
	}
	defer f.c.running.Add(-1)
	f.c.syncs.Add(1)
	return f.File.Sync()
}

func TestGroupCommit(t *testing.T) {
	const writers, each = 32, 25
	dir := t.TempDir()
	count := &syncCounter{FS: store.OS()}
	d := open(t, dir, store.Options{FS: count, SegmentBytes: 4000})
	l := d.Log()
	must(t, l.Replay(nil, nop))
	numbers := make([][]uint64, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				rec := binary.LittleEndian.AppendUint64(nil, uint64(w)<<32|uint64(i))
				pos, err := l.Append(rec)
				if err == nil {
					err = l.Sync(t.Context(), pos)
				}
				if err != nil {
					t.Error(err)
					return
				}
				numbers[w] = append(numbers[w], pos)
			}
		})
	}
	wg.Wait()
	if count.overlap.Load() {
		t.Error("two fsyncs of the log at once")
	}
	must(t, d.Close())

	d = open(t, dir, store.Options{})
	got, err := replay(d.Log())
	must(t, err)
	if len(got) != writers*each {
		t.Fatalf("%d records of %d", len(got), writers*each)
	}
	for w := range writers {
		for i, pos := range numbers[w] {
			if v := binary.LittleEndian.Uint64(got[pos-1]); v != uint64(w)<<32|uint64(i) {
				t.Fatalf("record %d is %x", pos, v)
			}
		}
	}
}

func TestSyncWaitsForItsOwnRecords(t *testing.T) {
	mem := newMemFS()
	d := open(t, "/data", store.Options{FS: mem})
	l := d.Log()
	must(t, l.Replay(nil, nop))
	appendAll(t, l, []byte("one"))
	// While the fsync for one runs, others are appended: they need another one, and share it.
	entered, release := make(chan struct{}), make(chan struct{})
	var syncs atomic.Int64
	mem.setFault(func(op, _ string) error {
		if op == "sync" && syncs.Add(1) == 1 {
			mem.mu.Unlock()
			close(entered)
			<-release
			mem.mu.Lock()
		}
		return nil
	})
	const more = 10
	one, others := make(chan error), make(chan error)
	go func() { one <- l.Sync(t.Context(), 1) }()
	<-entered
	gone, cancel := context.WithCancel(t.Context())
	for i := range more {
		pos, err := l.Append([]byte{byte(i)})
		must(t, err)
		go func() { others <- l.Sync(t.Context(), pos) }()
	}
	lone := make(chan error)
	go func() { lone <- l.Sync(gone, 2) }()
	cancel()
	if err := <-lone; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(release)
	must(t, <-one)
	for range more {
		must(t, <-others)
	}
	if syncs.Load() != 2 {
		t.Fatalf("%d fsyncs", syncs.Load())
	}
}

func TestFailedFsyncIsFinal(t *testing.T) {
	for _, turn := range []bool{false, true} {
		t.Run(fmt.Sprintf("new segment %v", turn), func(t *testing.T) {
			mem := newMemFS()
			d := open(t, "/data", store.Options{FS: mem, SegmentBytes: 100})
			l := d.Log()
			must(t, l.Replay(nil, nop))
			appendAll(t, l, []byte("one"))
			must(t, l.Sync(t.Context(), 1))
			appendAll(t, l, []byte("two"))
			mem.failOnce("sync", syscall.EIO)
			var err error
			if turn {
				_, err = l.Append(make([]byte, 90))
			} else {
				err = l.Sync(t.Context(), 2)
			}
			if !errors.Is(err, store.ErrFailed) || !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			if err := l.Sync(t.Context(), 2); !errors.Is(err, store.ErrFailed) {
				t.Fatalf("a later fsync passes for the failed one: %v", err)
			}
			if _, err := l.Append([]byte("three")); !errors.Is(err, store.ErrFailed) {
				t.Fatal(err)
			}
			must(t, l.Sync(t.Context(), 1)) // was durable before
			if err := l.Err(); !errors.Is(err, store.ErrFailed) {
				t.Fatal(err)
			}
			if err := d.Close(); !errors.Is(err, store.ErrFailed) {
				t.Fatal(err)
			}
		})
	}
}

func TestFullDiskIsNotFinal(t *testing.T) {
	mem := newMemFS()
	d := open(t, "/data", store.Options{FS: mem, SegmentBytes: 100})
	l := d.Log()
	must(t, l.Replay(nil, nop))
	recs := records(6, 30) // every record or two a new segment
	for i, rec := range recs {
		for _, op := range []string{"write", "open"} {
			mem.failOnce(op, syscall.ENOSPC)
			_, err := l.Append(rec)
			switch {
			case errors.Is(err, syscall.ENOSPC) && !errors.Is(err, store.ErrFailed):
			case err == nil && op == "open": // no new file was needed
				recs[i] = nil
			default:
				t.Fatal(err)
			}
			mem.setFault(nil)
			if recs[i] == nil {
				recs[i] = rec
				break
			}
			if op == "open" {
				appendAll(t, l, rec)
			}
		}
	}
	must(t, d.Close())
	d = open(t, "/data", store.Options{FS: mem.killed()})
	got, err := replay(d.Log())
	must(t, err)
	mustEqual(t, got, recs)
}

// When a new segment was begun in vain and its file is still there, the old one takes no more
// records: only the last segment may have a torn tail.
func TestNoRecordBehindABegunSegment(t *testing.T) {
	mem := newMemFS()
	d := open(t, "/data", store.Options{FS: mem, SegmentBytes: 100})
	l := d.Log()
	must(t, l.Replay(nil, nop))
	appendAll(t, l, make([]byte, 40))
	before := len(mem.content(seg1))
	mem.setFault(func(op, _ string) error {
		if op == "write" || op == "remove" {
			return syscall.ENOSPC
		}
		return nil
	})
	if _, err := l.Append(make([]byte, 60)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	mem.setFault(nil)
	appendAll(t, l, []byte{1}) // would fit the old one
	if n := len(mem.content(seg1)); n != before {
		t.Fatalf("the old segment grew from %d to %d bytes", before, n)
	}
	must(t, d.Close())
	d = open(t, "/data", store.Options{FS: mem.killed()})
	got, err := replay(d.Log())
	must(t, err)
	mustEqual(t, got, [][]byte{make([]byte, 40), {1}})
}

func TestFailedCutIsFinal(t *testing.T) {
	mem := newMemFS()
	d := open(t, "/data", store.Options{FS: mem})
	l := d.Log()
	must(t, l.Replay(nil, nop))
	appendAll(t, l, []byte("one"))
	mem.setFault(func(op, _ string) error {
		if op == "write" || op == "truncate" {
			return syscall.EIO
		}
		return nil
	})
	for range 2 {
		if _, err := l.Append([]byte("two")); !errors.Is(err, store.ErrFailed) {
			t.Fatal(err)
		}
	}
	mem.setFault(nil)
	if err := d.Close(); !errors.Is(err, store.ErrFailed) {
		t.Fatal(err)
	}
	d = open(t, "/data", store.Options{FS: mem.killed()})
	got, err := replay(d.Log())
	must(t, err)
	mustEqual(t, got, [][]byte{[]byte("one")})
}

func TestNeverDoesNotSync(t *testing.T) {
	count := &syncCounter{FS: store.OS()}
	d := open(t, t.TempDir(), store.Options{FS: count, Fsync: store.Never, SegmentBytes: 100})
	must(t, d.Log().Replay(nil, nop))
	appendAll(t, d.Log(), records(9, 40)...)
	must(t, d.Log().Sync(t.Context(), 9))
	must(t, d.SaveJSON("x", 1))
	must(t, d.Close())
	if n := count.syncs.Load(); n != 0 {
		t.Fatalf("%d fsyncs", n)
	}
}
