package store_test

import (
	"bytes"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/fedmesh/fedmesh/mesh/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fataler is what testing.TB and rapid.T have in common.
type fataler interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens dir and closes it when the test ends.
func open(t *testing.T, dir string, o store.Options) *store.Dir {
	t.Helper()
	d, err := store.Open(dir, o)
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// replay returns copies of all records.
func replay(l *store.Log) ([][]byte, error) {
	var recs [][]byte
	err := l.Replay(nil, func(rec []byte) error {
		recs = append(recs, bytes.Clone(rec))
		return nil
	})
	return recs, err
}

func appendAll(t fataler, l *store.Log, recs ...[]byte) {
	t.Helper()
	for _, rec := range recs {
		_, err := l.Append(rec)
		must(t, err)
	}
}

// mustEqual fails unless got is want.
func mustEqual(t fataler, got, want [][]byte) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("record %d is %x, want %x", i+1, got[i], want[i])
		}
	}
}

func records(n, size int) [][]byte {
	recs := make([][]byte, n)
	for i := range recs {
		recs[i] = bytes.Repeat([]byte{byte(i + 1)}, size)
	}
	return recs
}

func segmentPath(dir, name string) string { return filepath.Join(dir, "log", name) }

func nop([]byte) error { return nil }
