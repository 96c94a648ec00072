package store_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

// BenchmarkGroupCommit appends and syncs records of 300 bytes from as many writers; an op is a record.
func BenchmarkGroupCommit(b *testing.B) {
	for _, mode := range []store.Fsync{store.Auto, store.Never} {
		for _, writers := range []int{1, 64} {
			b.Run(fmt.Sprintf("fsync=%v/writers=%d", mode, writers), func(b *testing.B) {
				count := &syncCounter{FS: store.OS()}
				d, err := store.Open(b.TempDir(), store.Options{Fsync: mode, FS: count})
				must(b, err)
				defer func() { _ = d.Close() }()
				l := d.Log()
				must(b, l.Replay(nil, nop))
				var left atomic.Int64
				left.Store(int64(b.N))
				count.syncs.Store(0)
				b.ResetTimer()
				var wg sync.WaitGroup
				for range writers {
					wg.Go(func() {
						rec := make([]byte, 300)
						for left.Add(-1) >= 0 {
							pos, err := l.Append(rec)
							if err == nil {
								err = l.Sync(b.Context(), pos)
							}
							if err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
				if n := count.syncs.Load(); n > 0 {
					b.ReportMetric(float64(b.N)/float64(n), "records/fsync")
				}
			})
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	dir := b.TempDir()
	const recs, size = 20_000, 300
	d, err := store.Open(dir, store.Options{})
	must(b, err)
	must(b, d.Log().Replay(nil, nop))
	for range recs {
		appendAll(b, d.Log(), make([]byte, size))
	}
	must(b, d.Close())
	b.SetBytes(recs * size)
	for b.Loop() {
		d, err := store.Open(dir, store.Options{})
		must(b, err)
		must(b, d.Log().Replay(nil, nop))
		must(b, d.Close())
	}
}

func BenchmarkVerify(b *testing.B) {
	d, err := store.Open(b.TempDir(), store.Options{})
	must(b, err)
	defer func() { _ = d.Close() }()
	data := make([]byte, 16<<20)
	w, err := d.Blobs().Create()
	must(b, err)
	_, err = w.Write(data)
	must(b, err)
	digest := model.Sum(data)
	must(b, w.Commit(b.Context(), digest, false))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		must(b, d.Blobs().Verify(b.Context(), digest))
	}
}
