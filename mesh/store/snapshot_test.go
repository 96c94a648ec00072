package store_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/store"
)

func logFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "log"))
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestSnapshotReplacesRecords(t *testing.T) {
	dir := t.TempDir()
	recs := records(20, 50)
	d := open(t, dir, store.Options{SegmentBytes: 300})
	must(t, d.Log().Replay(nil, nop))
	appendAll(t, d.Log(), recs[:12]...)
	must(t, d.Log().Snapshot(t.Context(), 10, writing([]byte("ten"))))
	appendAll(t, d.Log(), recs[12:15]...)
	if s := d.Log().Stats(); s.Last != 15 || s.Pos != 10 || s.Snapshot == 0 {
		t.Fatalf("%+v", s)
	}
	must(t, d.Close())

	d = open(t, dir, store.Options{SegmentBytes: 300})
	c, err := replayAll(d.Log())
	must(t, err)
	if c.pos != 10 || string(c.snap) != "ten" {
		t.Fatalf("snapshot %d, %q", c.pos, c.snap)
	}
	mustEqual(t, c.recs, recs[10:15])
	appendAll(t, d.Log(), recs[15:]...)
	must(t, d.Log().Snapshot(t.Context(), 20, writing(nil)))
	if names := logFiles(t, dir); !slices.Equal(names, []string{"00000006.log", "00000020.snapshot"}) {
		t.Fatal(names)
	}
	must(t, d.Close())

	d = open(t, dir, store.Options{})
	if err := d.Log().Replay(nil, nop); err == nil {
		t.Fatal("a snapshot was passed over")
	}
	must(t, d.Close())
	d = open(t, dir, store.Options{})
	c, err = replayAll(d.Log())
	must(t, err)
	if c.pos != 20 || len(c.snap)+len(c.recs) > 0 || d.Log().Last() != 20 {
		t.Fatalf("%+v", c)
	}
}

func TestSnapshotThatFailsChangesNothing(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, store.Options{})
	must(t, d.Log().Replay(nil, nop))
	appendAll(t, d.Log(), records(3, 5)...)
	want := errors.New("no")
	err := d.Log().Snapshot(t.Context(), 3, func(w io.Writer) error {
		_, err := w.Write([]byte("part"))
		must(t, err)
		return want
	})
	if !errors.Is(err, want) {
		t.Fatal(err)
	}
	must(t, d.Close())
	d = open(t, dir, store.Options{})
	c, err := replayAll(d.Log())
	must(t, err)
	if c.pos != 0 || c.snap != nil {
		t.Fatalf("%+v", c)
	}
	mustEqual(t, c.recs, records(3, 5))
}
