package ledger_test

import (
	"bytes"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// What a start costs after 1,000 rounds: adding all entries and deriving, and merging a snapshot.
func BenchmarkStart(b *testing.B) {
	l, key := history(b, 1000, 1)
	es := entries(l)
	size := 0
	for _, e := range es {
		size += len(e.Raw)
	}
	b.Run("entries", func(b *testing.B) {
		for b.Loop() {
			l := ledger.New()
			for _, e := range es {
				e, err := ledger.DecodeEntry(e.Raw)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := l.Add(e); err != nil {
					b.Fatal(err)
				}
			}
			if l.Session(key).Final() != 1000 {
				b.Fatal("not final")
			}
		}
		b.ReportMetric(float64(size)/1000, "B/round")
	})
	l.CompactAll()
	snapshot := encode(b, l.Snapshot())
	b.Run("snapshot", func(b *testing.B) {
		for b.Loop() {
			n, err := ledger.DecodeSnapshot(bytes.NewReader(snapshot), 1<<30)
			if err != nil {
				b.Fatal(err)
			}
			l := ledger.New()
			if _, err := l.Merge(n); err != nil || l.Session(key).Final() != 1000 {
				b.Fatal("not final")
			}
		}
		b.ReportMetric(float64(len(snapshot))/1000, "B/round")
	})
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			_ = encode(b, l.Snapshot())
		}
	})
}
