package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/mesh/store/internal/segment"
)

// writer appends numbered records to a log, takes snapshots, and knows what the log has promised.
type writer struct {
	t       *testing.T
	l       *store.Log
	written int // records that Append has accepted
	acked   int // records that Sync or Snapshot has said are durable
	pos     int // of the last snapshot that succeeded
	err     error
}

func numbered(n int) [][]byte {
	recs := make([][]byte, n)
	for i := range recs {
		recs[i] = fmt.Appendf(nil, "record %d%s", i+1, strings.Repeat(".", i%4*9))
	}
	return recs
}

func (w *writer) append(n int) {
	for range n {
		_, err := w.l.Append(numbered(w.written + 1)[w.written])
		if err == nil {
			w.written++
		}
		w.err = errors.Join(w.err, err)
	}
}

func (w *writer) sync() {
	upto := w.written
	err := w.l.Sync(w.t.Context(), uint64(upto))
	if err == nil {
		w.acked = max(w.acked, upto)
	}
	w.err = errors.Join(w.err, err)
}

func (w *writer) snapshot(pos int, meanwhile func()) {
	err := w.l.Snapshot(w.t.Context(), uint64(pos), func(to io.Writer) error {
		meanwhile()
		return writing(joined(numbered(pos)))(to)
	})
	if err == nil {
		w.acked, w.pos = max(w.acked, pos), pos
	}
	w.err = errors.Join(w.err, err)
}

// work is what the faults below strike: three snapshots, and appends before, during and after.
func (w *writer) work() {
	w.append(7)
	w.sync()
	w.snapshot(min(4, w.written), func() { w.append(2) })
	w.append(3)
	w.snapshot(min(8, w.written), func() { w.append(3); w.sync(); w.append(1) })
	w.append(1)
	w.snapshot(w.written, func() {})
	w.append(2)
	w.sync()
}

// reopened checks what is in a log after a crash, goes on with it, and checks again.
func reopened(t *testing.T, mem *memFS, acked, written, pos int) {
	t.Helper()
	for round := range 2 {
		var out bytes.Buffer
		d, err := store.Open("/data", store.Options{FS: mem, SegmentBytes: 150, Logger: zerolog.New(&out)})
		must(t, err)
		c, err := replayAll(d.Log())
		must(t, err)
		got := c.all(t)
		if len(got) < acked || len(got) > written || c.pos < uint64(pos) {
			t.Fatalf("%d records behind a snapshot of %d, promised %d of %d and %d", len(got), c.pos, acked, written, pos)
		}
		mustEqual(t, got, numbered(len(got)))
		checkLogFiles(t, mem, c.pos)
		if strings.Contains(out.String(), "lost") {
			t.Fatal(out.String())
		}
		w := &writer{t: t, l: d.Log(), written: len(got)}
		w.append(3)
		w.snapshot(w.written-1, func() { w.append(1) })
		must(t, errors.Join(w.err, d.Close()))
		if round == 0 {
			checkLogFiles(t, mem, uint64(w.pos))
		}
		if names := mem.misused(); len(names) > 0 {
			t.Fatalf("files moved while open, or left open: %v", names)
		}
		acked, written, pos = w.written, w.written, w.pos
	}
}

// At every operation of the work the process is killed and the power goes, in several ways each.
func TestSnapshotCrashAnywhere(t *testing.T) {
	for _, mode := range []store.Fsync{store.Auto, store.Never} {
		mem := newMemFS()
		d := open(t, "/data", store.Options{FS: mem, SegmentBytes: 150, Fsync: mode})
		must(t, d.Log().Replay(nil, nop))
		w := &writer{t: t, l: d.Log()}
		type crash struct {
			what                string
			mem                 *memFS
			acked, written, pos int
		}
		var crashes []crash
		step := 0
		mem.setFault(func(op, name string) error {
			step++
			mem.mu.Unlock()
			defer mem.mu.Lock()
			what := fmt.Sprintf("fsync %v, step %d, %s %s", mode, step, op, name)
			crashes = append(crashes, crash{what + ", killed", mem.killed(), w.written, w.written, w.pos})
			for seed := range uint64(4) {
				if mode != store.Never {
					lost := mem.powerLost(rand.New(rand.NewPCG(uint64(step), seed)))
					crashes = append(crashes, crash{fmt.Sprintf("%s, power lost, seed %d", what, seed), lost, w.acked, w.written, w.pos})
				}
			}
			return nil
		})
		w.work()
		mem.setFault(nil)
		must(t, w.err)
		if step < 50 {
			t.Fatalf("only %d steps", step)
		}
		for _, c := range crashes {
			if !t.Run(c.what, func(t *testing.T) { reopened(t, c.mem, c.acked, c.written, c.pos) }) {
				return
			}
		}
	}
}

// Every operation of the work fails, once or from then on. Then the fault is gone, and the log works or
// says that it does not.
func TestSnapshotFaultAnywhere(t *testing.T) {
	for _, forEver := range []bool{false, true} {
		for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
			for k := 1; ; k++ {
				mem := newMemFS()
				d := open(t, "/data", store.Options{FS: mem, SegmentBytes: 150})
				must(t, d.Log().Replay(nil, nop))
				step, hit := 0, ""
				mem.setFault(func(op, name string) error {
					if step++; step < k || step > k && !forEver || op == "remove" && errors.Is(fault, syscall.ENOSPC) {
						return nil
					}
					if hit == "" {
						hit = op + " " + name
					}
					return fault
				})
				w := &writer{t: t, l: d.Log()}
				w.append(1) // a snapshot of nothing is refused
				w.work()
				mem.setFault(nil)
				done := step < k
				what := fmt.Sprintf("for ever %v, %v at step %d, %s", forEver, fault, k, hit)
				t.Run(what, func(t *testing.T) {
					if w.err != nil && !errors.Is(w.err, fault) && !errors.Is(w.err, store.ErrFailed) && w.written > 0 {
						t.Fatal(w.err)
					}
					if w.err == nil && hit != "" && !strings.HasPrefix(hit, "remove") {
						t.Fatal("the fault went unseen")
					}
					again := *w
					again.t, again.err = t, nil
					if d.Log().Err() == nil {
						again.work2()
						must(t, again.err)
						must(t, d.Close())
					} else if err := d.Close(); !errors.Is(err, store.ErrFailed) {
						t.Fatal(err)
					}
					if names := mem.misused(); len(names) > 0 {
						t.Fatalf("files moved while open, or left open: %v", names)
					}
					reopened(t, mem.killed(), again.written, again.written, again.pos)
					for seed := range uint64(3) {
						reopened(t, mem.powerLost(rand.New(rand.NewPCG(uint64(k), seed))), again.acked, again.written, again.pos)
					}
				})
				if t.Failed() || done {
					break
				}
			}
		}
	}
}

// work2 is a little more work.
func (w *writer) work2() {
	w.append(2)
	w.snapshot(w.written-1, func() { w.append(1) })
	w.sync()
}

// A snapshot of several chunks is torn and lost in the same ways.
func TestSnapshotOfChunksCrashAnywhere(t *testing.T) {
	mem := newMemFS()
	d := open(t, "/data", store.Options{FS: mem})
	must(t, d.Log().Replay(nil, nop))
	recs := records(3, 1_000_000)
	appendAll(t, d.Log(), recs...)
	var left []*memFS
	step := 0
	mem.setFault(func(string, string) error {
		step++
		mem.mu.Unlock()
		defer mem.mu.Lock()
		left = append(left, mem.killed(), mem.powerLost(rand.New(rand.NewPCG(1, uint64(step)))))
		return nil
	})
	must(t, d.Log().Snapshot(t.Context(), 3, writing(joined(recs))))
	mem.setFault(nil)
	for i, mem := range left {
		d := open(t, "/data", store.Options{FS: mem})
		c, err := replayAll(d.Log())
		must(t, err)
		got := c.all(t)
		if i%2 == 0 && len(got) != 3 {
			t.Fatalf("step %d: %d records", i/2, len(got))
		}
		mustEqual(t, got, recs[:len(got)])
		must(t, d.Close())
	}
}

// withSnapshot returns a log in two segments behind a snapshot, and the paths of the snapshot and them.
func withSnapshot(t *testing.T) (mem *memFS, snapshot, first, second string) {
	t.Helper()
	mem = newMemFS()
	d := open(t, "/data", store.Options{FS: mem, SegmentBytes: 150})
	must(t, d.Log().Replay(nil, nop))
	w := &writer{t: t, l: d.Log()}
	w.append(6)
	w.snapshot(4, func() {})
	w.append(6)
	must(t, errors.Join(w.err, d.Close()))
	names := mem.logFiles()
	if want := []string{"00000002.log", "00000003.log", "00000004.log", "00000004.snapshot"}; !slices.Equal(names, want) {
		t.Fatalf("%v, want %v", names, want)
	}
	return mem, "/data/log/00000004.snapshot", "/data/log/00000002.log", "/data/log/00000003.log"
}

func mustBeCorrupt(t *testing.T, mem *memFS, path string) {
	t.Helper()
	before := mem.killed()
	d := open(t, "/data", store.Options{FS: mem})
	c, err := replayAll(d.Log())
	must(t, d.Close())
	if !errors.Is(err, store.ErrCorrupt) {
		t.Fatalf("%+v, %v", c, err)
	}
	for _, part := range []string{path, "offset", "backup"} {
		if !strings.Contains(err.Error(), part) {
			t.Fatalf("no %q in %q", part, err)
		}
	}
	if !slices.Equal(mem.logFiles(), before.logFiles()) {
		t.Fatalf("a corrupt log was changed: %v", mem.logFiles())
	}
	for _, name := range mem.logFiles() {
		if path := "/data/log/" + name; !bytes.Equal(mem.content(path), before.content(path)) {
			t.Fatalf("a corrupt log was changed: %s", path)
		}
	}
}

func TestFlippedBitsOfSnapshot(t *testing.T) {
	mem, path, _, _ := withSnapshot(t)
	whole := mem.content(path)
	for bit := range len(whole) * 8 {
		b := bytes.Clone(whole)
		b[bit/8] ^= 1 << (bit % 8)
		mem.setContent(path, b)
		mustBeCorrupt(t, mem, path)
	}
	for n := range whole {
		mem.setContent(path, whole[:n])
		mustBeCorrupt(t, mem, path)
	}
	mem.setContent(path, append(bytes.Clone(whole), 0))
	mustBeCorrupt(t, mem, path)
}

func TestLostPartsBehindSnapshot(t *testing.T) {
	for name, damage := range map[string]func(m *memFS, snapshot, first, second string) (named string){
		"snapshot": func(m *memFS, snapshot, first, _ string) string {
			_ = m.Remove(snapshot)
			return strings.Replace(first, "2", "1", 1)
		},
		"first segment": func(m *memFS, _, first, _ string) string {
			_ = m.Remove(first)
			return first
		},
		"second segment": func(m *memFS, _, _, second string) string {
			_ = m.Remove(second)
			return second
		},
		"end of the first segment": func(m *memFS, _, first, second string) string {
			m.setContent(first, m.content(first)[:segment.HeaderSize])
			return second
		},
		"part of the first segment": func(m *memFS, _, first, _ string) string {
			b := m.content(first)
			m.setContent(first, b[:len(b)-1])
			return first
		},
		"all segments": func(m *memFS, _, _, _ string) string {
			for _, name := range m.logFiles() {
				if strings.HasSuffix(name, ".log") {
					_ = m.Remove("/data/log/" + name)
				}
			}
			return "00000001.log"
		},
		"all but the last": func(m *memFS, _, first, second string) string {
			_, _ = m.Remove(first), m.Remove(second)
			return second
		},
		"the right name of the snapshot": func(m *memFS, snapshot, _, _ string) string {
			to := strings.Replace(snapshot, "4", "5", 1)
			_ = m.Rename(snapshot, to)
			return to
		},
	} {
		t.Run(name, func(t *testing.T) {
			mem, snapshot, first, second := withSnapshot(t)
			mustBeCorrupt(t, mem, damage(mem, snapshot, first, second))
		})
	}
}

// Segments that the snapshot stands for were to be removed, and any of them may have been.
func TestLeftoversInAnyPattern(t *testing.T) {
	for pattern := range 16 {
		mem, _, _, _ := withSnapshot(t)
		d := open(t, "/data", store.Options{FS: mem, SegmentBytes: 150})
		_, err := replayAll(d.Log())
		must(t, err)
		i := 0
		mem.setFault(func(op, _ string) error {
			if op == "remove" {
				return syscall.EACCES
			}
			return nil
		})
		w := &writer{t: t, l: d.Log(), written: 12}
		w.append(6)
		w.snapshot(17, func() { w.append(2) })
		must(t, errors.Join(w.err, d.Close()))
		mem.setFault(nil)
		names := mem.logFiles()
		if len(names) != 8 || names[4] != "00000005.log" {
			t.Fatalf("%v", names)
		}
		for _, name := range names[:5] { // the sixth holds record 18
			if strings.HasSuffix(name, ".log") {
				if pattern>>i&1 != 0 {
					must(t, mem.Remove("/data/log/"+name))
				}
				i++
			}
		}
		reopened(t, mem, 20, 20, 17)
	}
}

// A log that is shorter than its snapshot, which only [store.Never] allows, goes on behind it.
func TestLogShorterThanSnapshot(t *testing.T) {
	for name, cut := range map[string]func(b []byte) []byte{
		"record":        func(b []byte) []byte { return b[:len(b)-1] },
		"all records":   func(b []byte) []byte { return b[:segment.HeaderSize] },
		"header":        func(b []byte) []byte { return b[:segment.HeaderSize-1] },
		"all its bytes": func([]byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			mem := newMemFS()
			d := open(t, "/data", store.Options{FS: mem, Fsync: store.Never})
			must(t, d.Log().Replay(nil, nop))
			w := &writer{t: t, l: d.Log()}
			w.append(5)
			before := mem.killed()
			w.snapshot(5, func() {})
			must(t, errors.Join(w.err, d.Close()))
			// The names of the new segment and of removals are lost, the snapshot is not.
			must(t, mem.Rename("/data/log/00000005.snapshot", "/data/log/x"))
			snapshot := mem.content("/data/log/x")
			f, err := before.OpenFile("/data/log/00000005.snapshot", 0o100, 0)
			must(t, err)
			must(t, f.Close())
			before.setContent("/data/log/00000005.snapshot", snapshot)
			before.setContent(seg1, cut(before.content(seg1)))

			var out bytes.Buffer
			d = open(t, "/data", store.Options{FS: before, Logger: zerolog.New(&out)})
			c, err := replayAll(d.Log())
			must(t, err)
			mustEqual(t, c.all(t), numbered(5))
			if !strings.Contains(out.String(), "lost") && (name == "record" || name == "all records") {
				t.Fatalf("logged %q", out.String())
			}
			if d.Log().Last() != 5 {
				t.Fatalf("last record %d", d.Log().Last())
			}
			checkLogFiles(t, before, 5)
			w = &writer{t: t, l: d.Log(), written: 5}
			w.append(2)
			must(t, errors.Join(w.err, d.Close()))
			reopened(t, before, 7, 7, 5)
		})
	}
}

// What was written without fsyncs is durable once it has been read with them.
func TestDurableAfterReplay(t *testing.T) {
	mem := newMemFS()
	d := open(t, "/data", store.Options{FS: mem, SegmentBytes: 150, Fsync: store.Never})
	must(t, d.Log().Replay(nil, nop))
	w := &writer{t: t, l: d.Log()}
	w.append(7)
	w.snapshot(6, func() {})
	w.append(10)
	must(t, errors.Join(w.err, d.Close()))
	d = open(t, "/data", store.Options{FS: mem, SegmentBytes: 150})
	_, err := replayAll(d.Log())
	must(t, err)
	for seed := range uint64(10) {
		reopened(t, mem.powerLost(rand.New(rand.NewPCG(seed, 0))), 17, 17, 6)
	}
}
