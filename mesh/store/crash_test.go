package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/mesh/store/internal/segment"
)

const (
	seg1 = "/data/log/00000001.log"
	seg2 = "/data/log/00000002.log"
)

// twoSegments writes recs into two segments of a new directory and returns the
// offset behind each record that is in the second.
func twoSegments(t *testing.T, recs [][]byte) (mem *memFS, ends []int64) {
	t.Helper()
	mem = newMemFS()
	half := int64(segment.HeaderSize)
	for _, rec := range recs[:len(recs)/2] {
		half += segment.RecordOverhead + int64(len(rec))
	}
	d := open(t, "/data", store.Options{FS: mem, SegmentBytes: half})
	must(t, d.Log().Replay(nil, nop))
	appendAll(t, d.Log(), recs...)
	must(t, d.Close())
	end := int64(segment.HeaderSize)
	for _, rec := range recs[len(recs)/2:] {
		end += segment.RecordOverhead + int64(len(rec))
		ends = append(ends, end)
	}
	if n := len(mem.content(seg2)); int64(n) != end {
		t.Fatalf("second segment has %d bytes, want %d", n, end)
	}
	return mem, ends
}

// replayDir opens the log of dir, appends one more record if it is sound, and says what
// was logged meanwhile.
func replayDir(t *testing.T, dir string, fs store.FS) (recs [][]byte, logged string, err error) {
	t.Helper()
	var out bytes.Buffer
	d := open(t, dir, store.Options{FS: fs, Logger: zerolog.New(&out)})
	if recs, err = replay(d.Log()); err == nil {
		appendAll(t, d.Log(), []byte("more"))
	}
	must(t, d.Close())
	return recs, out.String(), err
}

func TestTornTailAtEveryByte(t *testing.T) {
	recs := [][]byte{{1}, bytes.Repeat([]byte{2}, 60), {3}, []byte("four"), bytes.Repeat([]byte{5}, 40), {6}}
	mem, ends := twoSegments(t, recs)
	whole := mem.content(seg2)
	tails := map[string]func(cut int) []byte{
		"nothing": func(int) []byte { return nil },
		"zeros":   func(cut int) []byte { return make([]byte, len(whole)-cut+50) },
		"rubbish": func(cut int) []byte { return bytes.Repeat([]byte{0, 1, 0}, len(whole)-cut) },
	}
	for name, tail := range tails {
		for cut := range len(whole) + 1 {
			if name != "nothing" && cut < segment.HeaderSize {
				continue // no crash makes a file that is longer than a header without one
			}
			mem.setContent(seg2, append(bytes.Clone(whole[:cut]), tail(cut)...))
			want := len(recs) / 2
			untouched := len(tail(cut)) == 0
			clean := untouched && cut == segment.HeaderSize
			for _, end := range ends {
				if int64(cut) >= end {
					want++
					clean = clean || untouched && int64(cut) == end
				}
			}
			got, logged, err := replayDir(t, "/data", mem)
			if err != nil {
				t.Fatalf("cut at %d, then %s: %v", cut, name, err)
			}
			mustEqual(t, got, recs[:want])
			if cut >= segment.HeaderSize && clean == strings.Contains(logged, "interrupted") {
				t.Fatalf("cut at %d, then %s: logged %q", cut, name, logged)
			}
			got, logged, err = replayDir(t, "/data", mem)
			if err != nil || logged != "" {
				t.Fatalf("opened again: %v %s", err, logged)
			}
			mustEqual(t, got, append(recs[:want:want], []byte("more")))
		}
	}
}

// Every flipped bit is either refused with place and advice, or sits in the last record and is
// cut with it; no record is ever read wrong.
func TestFlippedBits(t *testing.T) {
	recs := records(6, 10)
	mem, ends := twoSegments(t, recs)
	before := ends[len(ends)-2] // where the last record starts
	for _, path := range []string{seg1, seg2} {
		whole := mem.content(path)
		for bit := range len(whole) * 8 {
			b := bytes.Clone(whole)
			b[bit/8] ^= 1 << (bit % 8)
			mem.setContent(path, b)
			d := open(t, "/data", store.Options{FS: mem})
			got, err := replay(d.Log())
			must(t, d.Close())
			mustEqual(t, got, recs[:len(got)])
			if path == seg2 && int64(bit/8) >= before {
				if err != nil || len(got) != len(recs)-1 {
					t.Fatalf("bit %d of the last record: %d records, %v", bit, len(got), err)
				}
				continue
			}
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatalf("%s, bit %d: %v", path, bit, err)
			}
			for _, part := range []string{path, "offset", "backup"} {
				if !strings.Contains(err.Error(), part) {
					t.Fatalf("no %q in %q", part, err)
				}
			}
			if !bytes.Equal(mem.content(path), b) {
				t.Fatalf("%s, bit %d: a corrupt log was changed", path, bit)
			}
		}
		mem.setContent(path, whole)
	}
}

func TestLostPartsAreCorruption(t *testing.T) {
	const record = segment.RecordOverhead + 10
	cut := func(n int) func(*memFS) {
		return func(m *memFS) { m.setContent(seg1, m.content(seg1)[:n]) }
	}
	for name, damage := range map[string]func(*memFS){
		"earlier segment cut within a record":   cut(segment.HeaderSize + 2*record + 5),
		"earlier segment cut between records":   cut(segment.HeaderSize + 2*record),
		"earlier segment cut within its header": cut(5),
		"first segment missing":                 func(m *memFS) { _ = m.Remove(seg1) },
		"first segment in the second's place":   func(m *memFS) { _ = m.Rename(seg1, seg2) },
		"second segment in the first's place":   func(m *memFS) { _ = m.Rename(seg2, seg1) },
		"first segment missing, second torn": func(m *memFS) {
			_ = m.Remove(seg1)
			m.setContent(seg2, m.content(seg2)[:5])
		},
		"second segment starts with the first's records": func(m *memFS) {
			m.setContent(seg2, segment.Header{Number: 2, First: 1}.Encode())
		},
		"number in the header is another": func(m *memFS) {
			_ = m.Remove(seg2)
			m.setContent(seg1, segment.Header{Number: 9, First: 1}.Encode())
		},
	} {
		t.Run(name, func(t *testing.T) {
			mem, _ := twoSegments(t, records(6, 10))
			damage(mem)
			if _, _, err := replayDir(t, "/data", mem); !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
		})
	}
}

// A payload that contains what looks like records is no proof of whole records behind a torn one.
func TestTornRecordWithRecordsInside(t *testing.T) {
	mem := newMemFS()
	d := open(t, "/data", store.Options{FS: mem})
	must(t, d.Log().Replay(nil, nop))
	appendAll(t, d.Log(), records(3, 10)...)
	appendAll(t, d.Log(), append(mem.content(seg1), make([]byte, 100)...))
	must(t, d.Close())
	whole := mem.content(seg1)
	mem.setContent(seg1, whole[:len(whole)-1])
	got, logged, err := replayDir(t, "/data", mem)
	must(t, err)
	mustEqual(t, got, records(3, 10))
	if !strings.Contains(logged, "interrupted") {
		t.Fatal(logged)
	}
}

// A copy of the directory, taken while others append, holds all that was synced before it.
func TestCopyWhileWriting(t *testing.T) {
	dir, copies := t.TempDir(), t.TempDir()
	d := open(t, dir, store.Options{SegmentBytes: 2000})
	l := d.Log()
	must(t, l.Replay(nil, nop))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := uint64(1); i <= 20_000; i++ {
			select {
			case <-stop:
				return
			default:
			}
			rec := binary.LittleEndian.AppendUint64(make([]byte, i%100), i)
			if pos, err := l.Append(rec); err != nil || pos != i {
				t.Errorf("record %d: %d, %v", i, pos, err)
				return
			}
		}
	}()
	for i := range 20 {
		synced := l.Last()
		must(t, l.Sync(t.Context(), synced))
		to := filepath.Join(copies, fmt.Sprint(i))
		must(t, os.MkdirAll(filepath.Join(to, "log"), 0o700))
		// Later segments first, none that is begun meanwhile: a copy of a moment.
		names, err := filepath.Glob(segmentPath(dir, "*.log"))
		must(t, err)
		newest := names[len(names)-1]
		b, err := os.ReadFile(newest)
		must(t, err)
		must(t, os.WriteFile(segmentPath(to, filepath.Base(newest)), b, 0o600))
		for _, name := range names[:len(names)-1] {
			b, err := os.ReadFile(name)
			must(t, err)
			must(t, os.WriteFile(segmentPath(to, filepath.Base(name)), b, 0o600))
		}
		got, _, err := replayDir(t, to, nil)
		must(t, err)
		if uint64(len(got)) < synced {
			t.Fatalf("copy has %d records, %d were synced", len(got), synced)
		}
		for j, rec := range got {
			if n := binary.LittleEndian.Uint64(rec[len(rec)-8:]); n != uint64(j)+1 {
				t.Fatalf("record %d is number %d", j+1, n)
			}
		}
	}
	close(stop)
	<-done
}
