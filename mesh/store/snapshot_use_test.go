package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/store"
)

func TestSnapshotRefuses(t *testing.T) {
	d := open(t, t.TempDir(), store.Options{})
	l := d.Log()
	refused := func(what string, pos uint64) {
		t.Helper()
		err := l.Snapshot(t.Context(), pos, func(io.Writer) error {
			t.Errorf("%s: write was called", what)
			return nil
		})
		if err == nil {
			t.Fatal(what)
		}
	}
	refused("before Replay", 1)
	must(t, l.Replay(nil, nop))
	refused("without records", 0)
	refused("without records", 1)
	appendAll(t, l, records(5, 10)...)
	refused("of nothing", 0)
	refused("of a record to come", 6)
	must(t, l.Snapshot(t.Context(), 3, func(w io.Writer) error {
		refused("another meanwhile", 4)
		return writing([]byte("three"))(w)
	}))
	refused("before the last", 2)
	must(t, l.Snapshot(t.Context(), 3, writing([]byte("three again"))))
	must(t, d.Close())
	refused("after Close", 5)
	if err := l.Snapshot(t.Context(), 5, writing(nil)); !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
}

// A snapshot may be replaced by another one of the same records.
func TestSnapshotAgain(t *testing.T) {
	mem := newMemFS()
	d := open(t, "/data", store.Options{FS: mem})
	must(t, d.Log().Replay(nil, nop))
	appendAll(t, d.Log(), records(5, 10)...)
	for i := range 3 {
		must(t, d.Log().Snapshot(t.Context(), 4, writing([]byte{byte(i)})))
	}
	must(t, d.Close())
	c, err := replayAll(open(t, "/data", store.Options{FS: mem}).Log())
	must(t, err)
	if c.pos != 4 || !bytes.Equal(c.snap, []byte{2}) {
		t.Fatalf("%+v", c)
	}
	mustEqual(t, c.recs, records(5, 10)[4:])
	checkLogFiles(t, mem, 4)
}

func TestSnapshotBrokenOff(t *testing.T) {
	mem := newMemFS()
	d := open(t, "/data", store.Options{FS: mem})
	l := d.Log()
	must(t, l.Replay(nil, nop))
	appendAll(t, l, records(3, 10)...)

	gone, cancel := context.WithCancel(t.Context())
	err := l.Snapshot(gone, 3, func(w io.Writer) error {
		must(t, writing([]byte("some"))(w))
		cancel()
		return writing([]byte("more"))(w)
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// One that takes no heed of errors is broken off as well.
	err = l.Snapshot(gone, 3, func(w io.Writer) error {
		_, _ = w.Write([]byte("some"))
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Fatal("no panic")
			}
		}()
		_ = l.Snapshot(t.Context(), 3, func(io.Writer) error { panic("write") })
	}()
	for _, name := range mem.logFiles() {
		if !strings.HasSuffix(name, ".log") {
			t.Fatalf("%s is left", name)
		}
	}

	closed := make(chan error, 1)
	err = l.Snapshot(t.Context(), 3, func(w io.Writer) error {
		go func() { closed <- d.Close() }()
		for {
			if err := writing([]byte("x"))(w); err != nil {
				select {
				case err := <-closed:
					t.Errorf("closed while a snapshot was being written: %v", err)
				default:
				}
				return err
			}
		}
	})
	if !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	must(t, <-closed)
	if names := mem.misused(); len(names) > 0 {
		t.Fatal(names)
	}
	c, err := replayAll(open(t, "/data", store.Options{FS: mem}).Log())
	must(t, err)
	if c.pos != 0 {
		t.Fatalf("%+v", c)
	}
	mustEqual(t, c.recs, records(3, 10))
}

// A log that fails meanwhile keeps all it has, and a caller that goes away at the last moment is heeded.
func TestSnapshotFailsWithTheLog(t *testing.T) {
	mem := newMemFS()
	d := open(t, "/data", store.Options{FS: mem})
	l := d.Log()
	must(t, l.Replay(nil, nop))
	appendAll(t, l, records(3, 10)...)
	gone, cancel := context.WithCancel(t.Context())
	mem.setFault(func(op, name string) error {
		if op == "sync" && strings.HasSuffix(name, "snapshot") {
			cancel()
		}
		return nil
	})
	if err := l.Snapshot(gone, 3, writing(nil)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	mem.setFault(nil)
	err := l.Snapshot(t.Context(), 3, func(io.Writer) error {
		appendAll(t, l, []byte("four"))
		mem.failOnce("sync", syscall.EIO)
		if err := l.Sync(t.Context(), 4); !errors.Is(err, store.ErrFailed) {
			t.Error(err)
		}
		return nil
	})
	if !errors.Is(err, store.ErrFailed) {
		t.Fatal(err)
	}
	if err := d.Close(); !errors.Is(err, store.ErrFailed) {
		t.Fatal(err)
	}
	c, err := replayAll(open(t, "/data", store.Options{FS: mem}).Log())
	must(t, err)
	if c.pos != 0 {
		t.Fatalf("%+v", c)
	}
	mustEqual(t, c.recs, append(records(3, 10), []byte("four")))
}

// A temporary file that a crash has left is removed, whatever is in it.
func TestTornSnapshotIsRemoved(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, store.Options{})
	must(t, d.Log().Replay(nil, nop))
	must(t, d.Close())
	must(t, os.WriteFile(segmentPath(dir, ".tmp-snapshot"), []byte("fmsnap"), 0o600))
	d = open(t, dir, store.Options{})
	must(t, d.Log().Replay(nil, nop))
	if names := logFiles(t, dir); !slices.Equal(names, []string{"00000001.log"}) {
		t.Fatal(names)
	}
}

// What cannot be removed is no error, is left without a gap, and goes later.
func TestSnapshotThatCannotRemove(t *testing.T) {
	mem := newMemFS()
	var out bytes.Buffer
	d := open(t, "/data", store.Options{FS: mem, SegmentBytes: 100, Logger: zerolog.New(&out)})
	must(t, d.Log().Replay(nil, nop))
	appendAll(t, d.Log(), records(8, 40)...)
	mem.setFault(func(op, name string) error {
		if op == "remove" && filepath.Base(name) == "00000002.log" {
			return syscall.EACCES
		}
		return nil
	})
	before := d.Log().Stats()
	must(t, d.Log().Snapshot(t.Context(), 8, writing([]byte("eight"))))
	names := mem.logFiles()
	if !strings.Contains(out.String(), "00000002.log") || names[0] != "00000002.log" || names[1] != "00000003.log" {
		t.Fatal(names, out.String())
	}
	if after := d.Log().Stats(); after.Segments >= before.Segments || after.Segments < 100 {
		t.Fatalf("%+v, then %+v", before, after)
	}
	mem.setFault(nil)
	appendAll(t, d.Log(), []byte("nine"))
	must(t, d.Log().Snapshot(t.Context(), 9, writing([]byte("nine"))))
	checkLogFiles(t, mem, 9)
	if s := d.Log().Stats(); s.Segments >= 100 {
		t.Fatalf("%+v", s)
	}
}

func TestReplayOfSnapshot(t *testing.T) {
	payload := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // more than three chunks
	mem := newMemFS()
	d := open(t, "/data", store.Options{FS: mem})
	must(t, d.Log().Replay(nil, nop))
	appendAll(t, d.Log(), records(3, 10)...)
	must(t, d.Log().Snapshot(t.Context(), 2, writing(payload)))
	must(t, d.Close())
	const path = "/data/log/00000002.snapshot"
	whole := mem.content(path)
	stop := errors.New("stop")
	for name, c := range map[string]struct {
		damaged int // byte to flip
		callee  func(io.Reader) error
		want    error
	}{
		"reads nothing":             {0, func(io.Reader) error { return nil }, nil},
		"reads half":                {0, func(r io.Reader) error { _, err := io.CopyN(io.Discard, r, 1<<20+5); return err }, nil},
		"reads all":                 {0, func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }, nil},
		"fails":                     {0, func(io.Reader) error { return stop }, stop},
		"fails at the end":          {0, func(r io.Reader) error { _, _ = io.Copy(io.Discard, r); return stop }, stop},
		"reads nothing of damaged":  {len(whole) - 1, func(io.Reader) error { return nil }, store.ErrCorrupt},
		"reads sound part, fails":   {len(whole) - 1, func(io.Reader) error { return stop }, stop},
		"meets damage":              {len(whole) - 1, func(r io.Reader) error { _, err := io.Copy(io.Discard, r); return err }, store.ErrCorrupt},
		"meets damage, says stop":   {2 << 20, func(r io.Reader) error { _, _ = io.Copy(io.Discard, r); return stop }, store.ErrCorrupt},
		"meets damage, thinks none": {2 << 20, func(r io.Reader) error { _, _ = io.Copy(io.Discard, r); return nil }, store.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			mem := mem.killed()
			if c.damaged > 0 {
				b := bytes.Clone(whole)
				b[c.damaged] ^= 4
				mem.setContent(path, b)
			}
			d := open(t, "/data", store.Options{FS: mem})
			recs := 0
			err := d.Log().Replay(func(r io.Reader, _ uint64) error { return c.callee(r) },
				func([]byte) error { recs++; return nil })
			if !errors.Is(err, c.want) || (err == nil) != (recs == 1) {
				t.Fatal(recs, err)
			}
			must(t, d.Close())
			if names := mem.misused(); len(names) > 0 {
				t.Fatal(names)
			}
		})
	}
}

// pattern makes n bytes that depend on where they stand.
type pattern struct{ at, n int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at == p.n {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.n-p.at))
	for i := range b[:n] {
		at := p.at + int64(i)
		b[i] = byte(at ^ at>>8 ^ at>>16)
	}
	p.at += int64(n)
	return n, nil
}

// A snapshot that is large is neither written nor read in one piece.
func TestLargeSnapshotInLittleMemory(t *testing.T) {
	const size, most = 64 << 20, 10 << 20
	allocated := func(what string, f func()) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > most {
			t.Errorf("%s takes %d bytes of memory", what, n)
		}
	}
	dir := t.TempDir()
	d := open(t, dir, store.Options{})
	must(t, d.Log().Replay(nil, nop))
	appendAll(t, d.Log(), []byte("one"))
	allocated("writing", func() {
		must(t, d.Log().Snapshot(t.Context(), 1, func(w io.Writer) error {
			_, err := io.Copy(w, &pattern{n: size})
			return err
		}))
	})
	if s := d.Log().Stats(); s.Snapshot < size || s.Snapshot > size+size/1000 {
		t.Fatalf("%+v", s)
	}
	must(t, d.Close())
	d = open(t, dir, store.Options{})
	allocated("reading", func() {
		must(t, d.Log().Replay(func(r io.Reader, _ uint64) error {
			got, want := make([]byte, 100_000), make([]byte, 100_000)
			for p := (&pattern{n: size}); ; {
				n, err := io.ReadFull(p, want)
				m, _ := io.ReadFull(r, got)
				if !bytes.Equal(got[:m], want[:n]) {
					return fmt.Errorf("other bytes before %d", p.at)
				}
				if err != nil {
					return nil
				}
			}
		}, nop))
	})
	if s := d.Log().Stats(); s.Snapshot < size {
		t.Fatalf("%+v", s)
	}
}

// Snapshots are written while others append, sync and begin segments.
func TestSnapshotWhileAppending(t *testing.T) {
	const writers, each = 8, 150
	dir := t.TempDir()
	d := open(t, dir, store.Options{SegmentBytes: 1000})
	l := d.Log()
	must(t, l.Replay(nil, nop))
	// The owner's lock, under which record and number meet; a snapshot is made of what it guards.
	var mu sync.Mutex
	var state []uint64
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				v := uint64(w)<<32 | uint64(i)
				mu.Lock()
				pos, err := l.Append(binary.LittleEndian.AppendUint64(nil, v))
				state = append(state, v)
				mu.Unlock()
				if err == nil {
					err = l.Sync(t.Context(), pos)
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	taken := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		default:
		}
		mu.Lock()
		now := slices.Clip(state)
		mu.Unlock()
		if len(now) == 0 {
			runtime.Gosched()
			continue
		}
		must(t, l.Snapshot(t.Context(), uint64(len(now)), func(w io.Writer) error {
			for _, v := range now {
				if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, v)); err != nil {
					return err
				}
			}
			return nil
		}))
		taken++
	}
	if n := len(logFiles(t, dir)); n > 3 {
		t.Errorf("%d files after the last snapshot", n)
	}
	must(t, d.Close())
	d = open(t, dir, store.Options{})
	c, err := replayAll(d.Log())
	must(t, err)
	b := slices.Concat(append([][]byte{c.snap}, c.recs...)...)
	if len(b) != 8*writers*each {
		t.Fatalf("%d bytes after %d snapshots", len(b), taken)
	}
	for i, want := range state {
		if v := binary.LittleEndian.Uint64(b[8*i:]); v != want {
			t.Fatalf("record %d is %x, want %x", i+1, v, want)
		}
	}
}

func TestSnapshotWithoutFsync(t *testing.T) {
	for mode, want := range map[store.Fsync]bool{store.Auto: true, store.Always: true, store.Never: false} {
		files := &countingFS{FS: store.OS()}
		d := open(t, t.TempDir(), store.Options{FS: files, Fsync: mode})
		must(t, d.Log().Replay(nil, nop))
		appendAll(t, d.Log(), []byte("one"))
		files.syncs.Store(0)
		must(t, d.Log().Snapshot(t.Context(), 1, func(w io.Writer) error {
			_, err := io.Copy(w, &pattern{n: 10 << 20})
			return err
		}))
		if starts, syncs := files.starts.Load(), files.syncs.Load(); (starts > 0) != want || (syncs > 0) != want {
			t.Errorf("%v: %d early starts, %d syncs", mode, starts, syncs)
		}
	}
}
