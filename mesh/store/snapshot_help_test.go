package store_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"strconv"
	"strings"

	"github.com/fedmesh/fedmesh/mesh/store"
)

// contents is what a replay has handed out.
type contents struct {
	pos  uint64
	snap []byte
	recs [][]byte
}

func replayAll(l *store.Log) (c contents, err error) {
	err = l.Replay(func(r io.Reader, pos uint64) (err error) {
		c.pos = pos
		c.snap, err = io.ReadAll(r)
		return err
	}, func(rec []byte) error {
		c.recs = append(c.recs, bytes.Clone(rec))
		return nil
	})
	return c, err
}

// writing returns the function that writes b as a snapshot.
func writing(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// joined returns a snapshot that is nothing but the records it stands for.
func joined(recs [][]byte) (b []byte) {
	for _, rec := range recs {
		b = binary.AppendUvarint(b, uint64(len(rec)))
		b = append(b, rec...)
	}
	return b
}

// all returns the records that were once appended, which the snapshot holds joined.
func (c contents) all(t fataler) (recs [][]byte) {
	t.Helper()
	for b := c.snap; len(b) > 0; {
		n, k := binary.Uvarint(b)
		if k <= 0 || n > uint64(len(b)-k) {
			t.Fatalf("snapshot %x does not hold records", c.snap)
		}
		recs, b = append(recs, b[k:][:n]), b[k+int(n):]
	}
	if uint64(len(recs)) != c.pos {
		t.Fatalf("snapshot of %d holds %d records", c.pos, len(recs))
	}
	return append(recs, c.recs...)
}

// checkLogFiles fails unless the log in /data, just replayed, is the snapshot of pos and segments without a gap.
func checkLogFiles(t fataler, mem *memFS, pos uint64) {
	t.Helper()
	var snapshots, segments []uint64
	for _, name := range mem.logFiles() {
		number, ext, _ := strings.Cut(name, ".")
		n, err := strconv.ParseUint(number, 10, 64)
		switch {
		case err == nil && ext == "log":
			segments = append(segments, n)
		case err == nil && ext == "snapshot":
			snapshots = append(snapshots, n)
		default:
			t.Fatalf("%s is left", name)
		}
	}
	if pos == 0 && len(snapshots) != 0 || pos != 0 && (len(snapshots) != 1 || snapshots[0] != pos) {
		t.Fatalf("snapshots %v, want that of %d only", snapshots, pos)
	}
	if len(segments) == 0 || segments[len(segments)-1]-segments[0] != uint64(len(segments)-1) {
		t.Fatalf("segments %v", segments)
	}
}
