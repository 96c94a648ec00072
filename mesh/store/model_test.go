package store_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

// machine holds a Dir on a memFS and what it should contain.
type machine struct {
	fs  *memFS
	dir *store.Dir

	recs   [][]byte
	synced int                   // so many of them are durable
	pos    uint64                // of the last snapshot
	blobs  map[model.Digest]bool // durable or not
	saved  int
}

func (m *machine) open(t *rapid.T) {
	var err error
	m.dir, err = store.Open("/data", store.Options{FS: m.fs, SegmentBytes: 100})
	must(t, err)
	c, err := replayAll(m.dir.Log())
	must(t, err)
	if c.pos != m.pos {
		t.Fatalf("snapshot of %d, want that of %d", c.pos, m.pos)
	}
	got := c.all(t)
	checkLogFiles(t, m.fs, c.pos)
	if len(got) < m.synced || len(got) > len(m.recs) {
		t.Fatalf("%d records, %d were synced and %d written", len(got), m.synced, len(m.recs))
	}
	mustEqual(t, got, m.recs[:len(got)])
	m.recs, m.synced = m.recs[:len(got)], len(got)
	var saved int
	if err := m.dir.LoadJSON("n", &saved); m.saved > 0 {
		must(t, err)
	}
	if saved != m.saved {
		t.Fatalf("loaded %d, saved %d", saved, m.saved)
	}
	for _, name := range slices.Sorted(maps.Keys(m.fs.dirs["/data/blobs"].names)) {
		if name[0] == '.' {
			t.Fatalf("%s is left", name)
		}
	}
}

func (m *machine) powerLost(t *rapid.T) {
	old := m.dir
	m.fs = m.fs.powerLost(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)))
	_ = old.Close() // on the file system of before, where it changes nothing any more
	m.open(t)
	for d, durable := range m.blobs {
		if err := m.dir.Blobs().Verify(t.Context(), d); err != nil {
			if durable {
				t.Fatalf("durable blob: %v", err)
			}
			must(t, m.dir.Blobs().Remove(d))
			delete(m.blobs, d)
		}
	}
	for _, d := range m.dir.Blobs().List() {
		if _, ok := m.blobs[d]; !ok { // removed before, which is not durable
			must(t, m.dir.Blobs().Remove(d))
		}
	}
	for d := range m.blobs {
		m.blobs[d] = true // what a machine finds after a start it also finds later
	}
}

func (m *machine) kill(t *rapid.T) {
	old := m.dir
	m.fs = m.fs.killed()
	_ = old.Close()
	recs := len(m.recs)
	m.open(t)
	if len(m.recs) != recs {
		t.Fatalf("a kill lost records: %d of %d", len(m.recs), recs)
	}
}

func (m *machine) append(t *rapid.T) {
	rec := rapid.SliceOfN(rapid.Byte(), 1, 200).Draw(t, "rec")
	pos, err := m.dir.Log().Append(rec)
	must(t, err)
	m.recs = append(m.recs, rec)
	if pos != uint64(len(m.recs)) {
		t.Fatalf("position %d of record %d", pos, len(m.recs))
	}
}

func (m *machine) snapshot(t *rapid.T) {
	if len(m.recs) == 0 {
		return
	}
	pos := rapid.Uint64Range(max(1, m.pos), uint64(len(m.recs))).Draw(t, "pos")
	write := writing(joined(m.recs[:pos]))
	gone := errors.New("gone")
	fails := rapid.IntRange(0, 3).Draw(t, "fails") == 0
	err := m.dir.Log().Snapshot(t.Context(), pos, func(w io.Writer) error {
		for range rapid.IntRange(0, 3).Draw(t, "meanwhile") {
			m.append(t)
		}
		if fails {
			return gone
		}
		return write(w)
	})
	if fails {
		if !errors.Is(err, gone) {
			t.Fatal(err)
		}
		return
	}
	must(t, err)
	m.pos, m.synced = pos, max(m.synced, int(pos))
}

func (m *machine) commit(t *rapid.T) {
	data := bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, rapid.IntRange(1, 100).Draw(t, "size"))
	durable := rapid.Bool().Draw(t, "durable")
	w, err := m.dir.Blobs().Create()
	must(t, err)
	_, err = w.Write(data)
	must(t, err)
	if rapid.IntRange(0, 3).Draw(t, "leave") == 0 {
		return // a Writer that is neither committed nor aborted
	}
	must(t, w.Commit(t.Context(), model.Sum(data), durable))
	m.blobs[model.Sum(data)] = durable || m.blobs[model.Sum(data)]
}

func (m *machine) check(t *rapid.T) {
	var want []model.Digest
	for d := range m.blobs {
		want = append(want, d)
		must(t, m.dir.Blobs().Verify(t.Context(), d))
	}
	slices.SortFunc(want, func(a, b model.Digest) int { return bytes.Compare(a[:], b[:]) })
	if got := m.dir.Blobs().List(); !slices.Equal(got, want) {
		t.Fatalf("blobs %v, want %v", got, want)
	}
	if s := m.dir.Log().Stats(); s.Last != uint64(len(m.recs)) || s.Pos != m.pos {
		t.Fatalf("%+v, want last record %d and snapshot of %d", s, len(m.recs), m.pos)
	}
	if len(m.fs.busy) > 0 {
		t.Fatalf("moved while open: %v", m.fs.busy)
	}
}

func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{fs: newMemFS(), blobs: make(map[model.Digest]bool)}
		m.open(t)
		t.Cleanup(func() { _ = m.dir.Close() })
		t.Repeat(map[string]func(*rapid.T){
			"append":   m.append,
			"snapshot": m.snapshot,
			"sync": func(t *rapid.T) {
				pos := rapid.IntRange(0, len(m.recs)).Draw(t, "pos")
				must(t, m.dir.Log().Sync(t.Context(), uint64(pos)))
				m.synced = max(m.synced, pos)
			},
			"save": func(t *rapid.T) {
				must(t, m.dir.SaveJSON("n", m.saved+1))
				m.saved++
			},
			"commit": m.commit,
			"remove": func(t *rapid.T) {
				if list := m.dir.Blobs().List(); len(list) > 0 {
					d := rapid.SampledFrom(list).Draw(t, "blob")
					must(t, m.dir.Blobs().Remove(d))
					delete(m.blobs, d)
				}
			},
			"reopen": func(t *rapid.T) {
				must(t, m.dir.Close())
				m.synced = len(m.recs)
				if rapid.Bool().Draw(t, "power lost") {
					m.powerLost(t)
				} else {
					m.open(t)
				}
			},
			"kill":      m.kill,
			"powerlost": m.powerLost,
			"":          m.check,
		})
	})
}
