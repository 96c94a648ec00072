package store_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

func put(t *testing.T, b *store.Blobs, data []byte) model.Digest {
	t.Helper()
	w, err := b.Create()
	must(t, err)
	defer w.Abort()
	_, err = w.Write(data)
	must(t, err)
	d := model.Sum(data)
	must(t, w.Commit(t.Context(), d, true))
	return d
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "blobs"))
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestBlobLifeCycle(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, store.Options{}).Blobs()
	w, err := b.Create()
	must(t, err)
	for _, part := range []struct {
		off  int64
		data string
	}{{6, "world"}, {0, "hello "}} {
		_, err := w.WriteAt([]byte(part.data), part.off)
		must(t, err)
	}
	p := make([]byte, 5)
	_, err = w.ReadAt(p, 4)
	must(t, err)
	if string(p) != "o wor" {
		t.Fatalf("%q", p)
	}
	d := model.Sum([]byte("hello world"))
	if b.Has(d) {
		t.Fatal("there before Commit")
	}
	must(t, w.Commit(t.Context(), d, false))
	w.Abort() // does nothing now
	if err := w.Commit(t.Context(), d, false); err == nil {
		t.Fatal("second Commit")
	}
	if n, err := b.Size(d); err != nil || n != 11 || !b.Has(d) || b.Usage() != 11 {
		t.Fatal(n, err, b.Usage())
	}
	must(t, b.Sync(t.Context(), d))
	must(t, b.Verify(t.Context(), d))

	blob, err := b.Open(d)
	must(t, err)
	if blob.Size() != 11 {
		t.Fatal(blob.Size())
	}
	must(t, b.Remove(d))
	must(t, b.Remove(d))
	data, err := io.ReadAll(blob) // open files outlive their name
	must(t, err)
	if string(data) != "hello world" {
		t.Fatalf("%q", data)
	}
	must(t, blob.Close())
	must(t, blob.Close())
	_, err = b.Open(d)
	_, sizeErr := b.Size(d)
	for _, err := range []error{err, sizeErr, b.Sync(t.Context(), d), b.Verify(t.Context(), d)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if b.Has(d) || b.Usage() != 0 || len(b.List()) != 0 || len(names(t, dir)) != 0 {
		t.Fatal(b.Usage(), b.List(), names(t, dir))
	}
}

func TestBlobsAreFoundAgain(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, store.Options{})
	var want []model.Digest
	for i := range 20 {
		want = append(want, put(t, d.Blobs(), make([]byte, i)))
	}
	slices.SortFunc(want, func(a, b model.Digest) int { return bytes.Compare(a[:], b[:]) })
	left, err := d.Blobs().Create()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "blobs", "README"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(dir, ".tmp-identity"), nil, 0o600))
	must(t, d.Close())
	if err := left.Commit(t.Context(), model.Digest{1}, false); !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
	if !slices.Contains(names(t, dir), ".tmp-21") {
		t.Fatal("a file was removed from a directory that may be another process's by now")
	}
	if _, err := d.Blobs().Create(); !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}

	must(t, os.WriteFile(filepath.Join(dir, "blobs", ".tmp-9"), []byte("left"), 0o600))
	d = open(t, dir, store.Options{})
	if got := d.Blobs().List(); !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	if n := d.Blobs().Usage(); n != 190 {
		t.Fatal(n)
	}
	if n := names(t, dir); slices.ContainsFunc(n, func(s string) bool { return s[0] == '.' }) || len(n) != 21 {
		t.Fatal(n)
	}
	if _, err := os.Stat(filepath.Join(dir, ".tmp-identity")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, store.Options{}).Blobs()
	d := put(t, b, bytes.Repeat([]byte("model"), 20))
	path := filepath.Join(dir, "blobs", d.String()+".safetensors")
	data, err := os.ReadFile(path)
	must(t, err)
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 1
		must(t, os.WriteFile(path, bad, 0o600))
		if err := b.Verify(t.Context(), d); !errors.Is(err, store.ErrCorrupt) || !b.Has(d) {
			t.Fatal(i, err)
		}
	}
	// A blob of the wrong size is mended by the next Commit.
	must(t, os.Truncate(path, 3))
	put(t, b, data)
	must(t, b.Verify(t.Context(), d))
	if b.Usage() != 100 {
		t.Fatal(b.Usage())
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Verify(gone, d); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// What an operator takes away is noticed when it is next asked for.
	must(t, os.Remove(path))
	if _, err := b.Open(d); !errors.Is(err, fs.ErrNotExist) || b.Has(d) || b.Usage() != 0 {
		t.Fatal(err, b.Usage())
	}
	put(t, b, data)
	must(t, os.Remove(path))
	put(t, b, data) // and does not pass for an equal blob
	must(t, b.Verify(t.Context(), d))
}

func TestFailedCommitLeavesNothing(t *testing.T) {
	for _, op := range []string{"sync", "rename", "ctx", "abort"} {
		mem := newMemFS()
		b := open(t, "/data", store.Options{FS: mem}).Blobs()
		w, err := b.Create()
		must(t, err)
		_, err = w.Write([]byte("data"))
		must(t, err)
		d := model.Sum([]byte("data"))
		ctx, cancel := context.WithCancel(t.Context())
		want := error(syscall.EIO)
		switch op {
		case "ctx":
			cancel()
			want = context.Canceled
		case "abort":
			w.Abort()
			w.Abort()
			want = nil
		default:
			mem.failOnce(op, syscall.EIO)
		}
		if err := w.Commit(ctx, d, true); err == nil || want != nil && !errors.Is(err, want) {
			t.Fatal(op, err)
		}
		cancel()
		if n := len(mem.dirs["/data/blobs"].names); n != 0 || b.Has(d) {
			t.Fatalf("%s: %d files left", op, n)
		}
	}
}

func TestFsyncModesOfBlobs(t *testing.T) {
	for _, c := range []struct {
		mode    store.Fsync
		durable bool
		want    bool
	}{
		{store.Auto, false, false},
		{store.Auto, true, true},
		{store.Always, false, true},
		{store.Never, true, false},
	} {
		mem := newMemFS()
		b := open(t, "/data", store.Options{FS: mem, Fsync: c.mode}).Blobs()
		var ops []string
		mem.setFault(func(op, _ string) error {
			if op == "sync" || op == "rename" || op == "syncdir" {
				ops = append(ops, op)
			}
			return nil
		})
		for range 2 { // the second finds the blob there
			w, err := b.Create()
			must(t, err)
			_, err = w.Write([]byte("data"))
			must(t, err)
			must(t, w.Commit(t.Context(), model.Sum([]byte("data")), c.durable))
		}
		want := []string{"rename"}
		if c.want {
			want = []string{"sync", "rename", "syncdir", "sync", "syncdir"}
		}
		if !slices.Equal(ops, want) {
			t.Errorf("%v, durable %v: %v, want %v", c.mode, c.durable, ops, want)
		}
	}
}

func TestBlobsTogether(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, store.Options{}).Blobs()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				data := []byte{byte(j % 3)}
				d := model.Sum(data)
				w, err := b.Create()
				if err == nil {
					_, err = w.Write(data)
				}
				if err == nil {
					err = w.Commit(t.Context(), d, j%2 == 0)
				}
				if err == nil && i%4 == 0 {
					err = b.Remove(d)
				}
				if blob, openErr := b.Open(d); openErr == nil {
					_ = blob.Close()
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := names(t, dir); len(n) != len(b.List()) || int(b.Usage()) != len(n) {
		t.Fatalf("files %v, list %v, usage %d", n, b.List(), b.Usage())
	}
}

func TestServeContent(t *testing.T) {
	b := open(t, t.TempDir(), store.Options{}).Blobs()
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	d := put(t, b, data)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		blob, err := b.Open(d)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = blob.Close() }()
		var _ syscall.Conn = blob // which net needs for sendfile
		http.ServeContent(w, r, "", time.Time{}, blob)
	}))
	defer srv.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	must(t, err)
	req.Header.Set("Range", "bytes=500001-")
	resp, err := srv.Client().Do(req)
	must(t, err)
	got, err := io.ReadAll(resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	if resp.StatusCode != http.StatusPartialContent || !bytes.Equal(got, data[500_001:]) {
		t.Fatalf("%s, %d bytes", resp.Status, len(got))
	}
}

func TestSetAside(t *testing.T) {
	dir := open(t, t.TempDir(), store.Options{})
	b := dir.Blobs()
	d := put(t, b, []byte("damaged"))
	path, err := b.SetAside(d)
	if err != nil || b.Has(d) || b.Usage() != 0 {
		t.Fatal(err, b.Has(d), b.Usage())
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "damaged" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := b.SetAside(d); err != nil {
		t.Errorf("again: %v", err)
	}
	if put(t, b, []byte("damaged")); !b.Has(d) {
		t.Error("it cannot be put back")
	}
}
