package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/store"
)

func TestOneProcessPerDirectory(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, store.Options{})
	_, err := store.Open(dir, store.Options{})
	if !errors.Is(err, store.ErrLocked) {
		t.Fatal(err)
	}
	for _, part := range []string{dir, fmt.Sprint(os.Getpid())} {
		if !strings.Contains(err.Error(), part) {
			t.Fatalf("no %q in %q", part, err)
		}
	}
	must(t, d.Close())
	open(t, dir, store.Options{})
}

func TestOpenRefuses(t *testing.T) {
	_, err := store.Open(t.TempDir(), store.Options{Fsync: 7, SegmentBytes: -1})
	if err == nil || !strings.Contains(err.Error(), "mode 7") || !strings.Contains(err.Error(), "-1") {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	if _, err := store.Open(file, store.Options{}); err == nil {
		t.Fatal("a file is no directory")
	}
	// Whatever fails, the lock is given up.
	for _, op := range []string{"mkdir", "readdir", "syncdir"} {
		mem := newMemFS()
		mem.failOnce(op, syscall.EIO)
		if _, err := store.Open("/data", store.Options{FS: mem}); !errors.Is(err, syscall.EIO) {
			t.Fatal(op, err)
		}
		open(t, "/data", store.Options{FS: mem})
	}
}

func TestFsyncText(t *testing.T) {
	for _, m := range []store.Fsync{store.Auto, store.Always, store.Never} {
		b, err := json.Marshal(m)
		must(t, err)
		var got store.Fsync
		must(t, json.Unmarshal(b, &got))
		if got != m {
			t.Fatalf("%v came back as %v", m, got)
		}
	}
	var m store.Fsync
	if err := m.UnmarshalText([]byte("sometimes")); err == nil {
		t.Fatal("no error")
	}
}

func TestJSON(t *testing.T) {
	type peers struct{ Addrs []string }
	dir := t.TempDir()
	d := open(t, dir, store.Options{})
	var got peers
	if err := d.LoadJSON("peers", &got); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, addr := range []string{"a", "b"} {
		must(t, d.SaveJSON("peers", peers{[]string{addr}}))
		got = peers{}
		must(t, d.LoadJSON("peers", &got))
		if len(got.Addrs) != 1 || got.Addrs[0] != addr {
			t.Fatal(got)
		}
	}
	for _, name := range []string{"", "..", "a/b", "A", ".tmp-x", strings.Repeat("x", 65)} {
		if d.SaveJSON(name, 1) == nil || d.LoadJSON(name, &got) == nil {
			t.Fatalf("name %q", name)
		}
	}
	if err := d.SaveJSON("x", make(chan int)); err == nil {
		t.Fatal("a channel is no JSON")
	}
	if err := d.SaveJSON("x", strings.Repeat("x", 4<<20)); err == nil {
		t.Fatal("too large")
	}
	for _, content := range []string{"", "{", strings.Repeat(" ", 5<<20)} {
		must(t, os.WriteFile(filepath.Join(dir, "peers.json"), []byte(content), 0o600))
		if err := d.LoadJSON("peers", &got); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), "peers.json") {
			t.Fatal(err)
		}
	}
	must(t, d.Close())
	if err := d.SaveJSON("peers", 1); !errors.Is(err, os.ErrClosed) {
		t.Fatal(err)
	}
}

func TestFailedSaveKeepsTheOldFile(t *testing.T) {
	for _, op := range []string{"open", "write", "sync", "rename"} {
		mem := newMemFS()
		d := open(t, "/data", store.Options{FS: mem})
		must(t, d.SaveJSON("n", 1))
		mem.failOnce(op, syscall.ENOSPC)
		if op == "sync" { // which hints do without
			must(t, d.SaveHint("n", 1))
		}
		if err := d.SaveJSON("n", 2); !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(op, err)
		}
		var n int
		must(t, d.LoadJSON("n", &n))
		if n != 1 || len(mem.dirs["/data"].names) != 1 {
			t.Fatalf("%s: %d, %d files", op, n, len(mem.dirs["/data"].names))
		}
	}
}
