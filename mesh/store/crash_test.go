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

// twoSegments writes recs into two segments of a new directory and returns the
// offset behind each record that is in the second.
func twoSegments(t *testing.T, recs [][]byte) (dir string, ends []int64) {
	t.Helper()
	dir = t.TempDir()
	half := int64(segment.HeaderSize)
	for _, rec := range recs[:len(recs)/2] {
		half += segment.RecordOverhead + int64(len(rec))
	}
	d := open(t, dir, store.Options{SegmentBytes: half})
	must(t, d.Log().Replay(nop))
	appendAll(t, d.Log(), recs...)
	must(t, d.Close())
	end := int64(segment.HeaderSize)
	for _, rec := range recs[len(recs)/2:] {
		end += segment.RecordOverhead + int64(len(rec))
		ends = append(ends, end)
	}
	info, err := os.Stat(segmentPath(dir, "00000002.log"))
	must(t, err)
	if info.Size() != end {
		t.Fatalf("second segment has %d bytes, want %d", info.Size(), end)
	}
	return dir, ends
}

// replayDir opens the log of dir, appends one more record if it is sound, and says what
// it logged.
func replayDir(t *testing.T, dir string) (recs [][]byte, logged string, err error) {
	t.Helper()
	var out bytes.Buffer
	d := open(t, dir, store.Options{Logger: zerolog.New(&out)})
	if recs, err = replay(d.Log()); err == nil {
		appendAll(t, d.Log(), []byte("more"))
	}
	must(t, d.Close())
	return recs, out.String(), err
}

func TestTornTailAtEveryByte(t *testing.T) {
	recs := [][]byte{{1}, bytes.Repeat([]byte{2}, 60), {3}, []byte("four"), bytes.Repeat([]byte{5}, 40), {6}}
	dir, ends := twoSegments(t, recs)
	last := segmentPath(dir, "00000002.log")
	whole, err := os.ReadFile(last)
	must(t, err)
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
			must(t, os.WriteFile(last, append(bytes.Clone(whole[:cut]), tail(cut)...), 0o600))
			want := len(recs) / 2
			untouched := len(tail(cut)) == 0
			clean := untouched && cut == segment.HeaderSize
			for _, end := range ends {
				if int64(cut) >= end {
					want++
					clean = clean || untouched && int64(cut) == end
				}
			}
			got, logged, err := replayDir(t, dir)
			if err != nil {
				t.Fatalf("cut at %d, then %s: %v", cut, name, err)
			}
			mustEqual(t, got, recs[:want])
			if cut >= segment.HeaderSize && clean == strings.Contains(logged, "interrupted") {
				t.Fatalf("cut at %d, then %s: logged %q", cut, name, logged)
			}
			got, logged, err = replayDir(t, dir)
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
	dir, ends := twoSegments(t, recs)
	before := ends[len(ends)-2] // where the last record starts
	for _, name := range []string{"00000001.log", "00000002.log"} {
		path := segmentPath(dir, name)
		whole, err := os.ReadFile(path)
		must(t, err)
		for bit := range len(whole) * 8 {
			b := bytes.Clone(whole)
			b[bit/8] ^= 1 << (bit % 8)
			must(t, os.WriteFile(path, b, 0o600))
			d := open(t, dir, store.Options{})
			got, err := replay(d.Log())
			must(t, d.Close())
			mustEqual(t, got, recs[:len(got)])
			if name == "00000002.log" && int64(bit/8) >= before {
				if err != nil || len(got) != len(recs)-1 {
					t.Fatalf("bit %d of the last record: %d records, %v", bit, len(got), err)
				}
				continue
			}
			if !errors.Is(err, store.ErrCorrupt) {
				t.Fatalf("%s, bit %d: %v", name, bit, err)
			}
			for _, part := range []string{path, "offset", "backup"} {
				if !strings.Contains(err.Error(), part) {
					t.Fatalf("no %q in %q", part, err)
				}
			}
			after, err := os.ReadFile(path)
			must(t, err)
			if !bytes.Equal(after, b) {
				t.Fatalf("%s, bit %d: a corrupt log was changed", name, bit)
			}
		}
		must(t, os.WriteFile(path, whole, 0o600))
	}
}

func TestLostPartsAreCorruption(t *testing.T) {
	recs := records(6, 10)
	const record = segment.RecordOverhead + 10
	for name, damage := range map[string]func(first, second string) error{
		"earlier segment cut within a record":  func(first, _ string) error { return os.Truncate(first, segment.HeaderSize+2*record+5) },
		"earlier segment cut between records":  func(first, _ string) error { return os.Truncate(first, segment.HeaderSize+2*record) },
		"earlier segment cut within its head":  func(first, _ string) error { return os.Truncate(first, 5) },
		"first segment missing":                func(first, _ string) error { return os.Remove(first) },
		"segment under another one's name":     func(first, second string) error { return os.Rename(first, second) },
		"first segment replaced by the second": func(first, second string) error { return os.Rename(second, first) },
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := twoSegments(t, recs)
			must(t, damage(segmentPath(dir, "00000001.log"), segmentPath(dir, "00000002.log")))
			if _, _, err := replayDir(t, dir); !errors.Is(err, store.ErrCorrupt) {
				t.Fatal(err)
			}
		})
	}
}

// A payload that contains what looks like records is no proof of whole records behind a torn one.
func TestTornRecordWithRecordsInside(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, store.Options{})
	must(t, d.Log().Replay(nop))
	appendAll(t, d.Log(), records(3, 10)...)
	must(t, d.Close())
	path := segmentPath(dir, "00000001.log")
	image, err := os.ReadFile(path)
	must(t, err)
	d = open(t, dir, store.Options{})
	must(t, d.Log().Replay(nop))
	appendAll(t, d.Log(), append(image, make([]byte, 100)...))
	must(t, d.Close())
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.Truncate(path, info.Size()-1))
	got, logged, err := replayDir(t, dir)
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
	must(t, l.Replay(nop))
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
		got, _, err := replayDir(t, to)
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
