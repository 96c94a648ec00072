package store_test

import (
	"bytes"
	"cmp"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/fedmesh/fedmesh/mesh/store"
)

// memFS is a file system in memory that knows what is durable: the content of a
// file as of its last Sync, the names of a directory as of its last SyncDir.
type memFS struct {
	mu     sync.Mutex
	dirs   map[string]*memDir
	locked map[string]bool
	fault  func(op, name string) error // nil, or asked before each operation
	busy   []string                    // files of the log that were to be moved or removed while open
}

type memDir struct{ names, durable map[string]*memNode }

type memNode struct {
	data, durable []byte
	open          int
}

func newMemFS() *memFS {
	return &memFS{dirs: make(map[string]*memDir), locked: make(map[string]bool)}
}

func (m *memFS) begin(op, name string) error {
	m.mu.Lock()
	if m.fault == nil {
		return nil
	}
	if err := m.fault(op, name); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// content returns a copy of what is in file name.
func (m *memFS) content(name string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.dir(name).names[filepath.Base(name)].data)
}

// setContent makes b the content of the file name, which exists, behind the back of all.
func (m *memFS) setContent(name string, b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dir(name).names[filepath.Base(name)].data = slices.Clone(b)
}

// inUse refuses to move or remove an open file of the log, as Windows does. (An open
// blob may be removed where that is possible.)
func (m *memFS) inUse(name string) error {
	n := m.dir(name).names[filepath.Base(name)]
	if n == nil || n.open == 0 || filepath.Base(filepath.Dir(name)) != "log" {
		return nil
	}
	m.busy = append(m.busy, name)
	return &fs.PathError{Op: "move", Path: name, Err: syscall.EBUSY}
}

// logFiles returns the names of the files in /data/log.
func (m *memFS) logFiles() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.dirs["/data/log"].names))
}

// misused returns which files of the log were moved or removed while open, or are still open.
func (m *memFS) misused() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	names := slices.Clone(m.busy)
	for name, n := range m.dirs["/data/log"].names {
		if n.open != 0 {
			names = append(names, name)
		}
	}
	return names
}

func (m *memFS) setFault(f func(op, name string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
}

// failOnce makes the next operation op fail.
func (m *memFS) failOnce(op string, err error) {
	done := false
	m.setFault(func(o, _ string) error {
		if o != op || done {
			return nil
		}
		done = true
		return err
	})
}

// killed returns what the next process finds after a kill of this one.
func (m *memFS) killed() *memFS {
	return m.copied(false, func(d *memDir) map[string]*memNode { return d.names }, func(n *memNode) []byte { return n.data })
}

// powerLost returns what may be left after a loss of power: what is durable, and
// of the rest any part, the end of which may be zeros or rubbish.
func (m *memFS) powerLost(rng *rand.Rand) *memFS {
	names := func(d *memDir) map[string]*memNode {
		left := make(map[string]*memNode)
		all := maps.Clone(d.durable)
		maps.Copy(all, d.names)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			from := d.durable
			if rng.IntN(2) == 0 {
				from = d.names
			}
			if n, ok := from[name]; ok {
				left[name] = n
			}
		}
		return left
	}
	data := func(n *memNode) []byte {
		if len(n.data) <= len(n.durable) || !bytes.HasPrefix(n.data, n.durable) {
			return n.durable
		}
		b := slices.Clone(n.data[:len(n.durable)+rng.IntN(len(n.data)-len(n.durable)+1)])
		if more := len(b) - len(n.durable); more > 0 && rng.IntN(2) == 0 {
			for i := len(b) - 1 - rng.IntN(more); i < len(b); i++ {
				b[i] = byte(rng.IntN(2) * rng.IntN(256))
			}
		}
		return b
	}
	return m.copied(true, names, data)
}

func (m *memFS) copied(reboot bool, names func(*memDir) map[string]*memNode, data func(*memNode) []byte) *memFS {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := newMemFS()
	for _, path := range slices.Sorted(maps.Keys(m.dirs)) {
		d := &memDir{names: make(map[string]*memNode), durable: make(map[string]*memNode)}
		left := names(m.dirs[path])
		for _, name := range slices.Sorted(maps.Keys(left)) {
			b := data(left[name])
			n := &memNode{data: slices.Clone(b), durable: slices.Clone(left[name].durable)}
			d.names[name] = n
			if reboot {
				n.durable = slices.Clone(b)
			}
			if reboot || m.dirs[path].durable[name] == left[name] {
				d.durable[name] = n
			}
		}
		c.dirs[path] = d
	}
	return c
}

func (m *memFS) dir(name string) *memDir {
	d := m.dirs[filepath.Dir(name)]
	if d == nil {
		d = &memDir{}
	}
	return d
}

func (m *memFS) OpenFile(name string, flag int, _ fs.FileMode) (store.File, error) {
	err := m.begin("open", name)
	defer m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	d, base := m.dir(name), filepath.Base(name)
	n, ok := d.names[base]
	switch {
	case ok && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case !ok && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case !ok:
		n = &memNode{}
		d.names[base] = n
	case flag&os.O_TRUNC != 0:
		n.data = nil
	}
	n.open++
	return &memFile{fs: m, name: name, node: n}, nil
}

func (m *memFS) MkdirAll(name string, _ fs.FileMode) error {
	err := m.begin("mkdir", name)
	defer m.mu.Unlock()
	if err == nil && m.dirs[name] == nil {
		m.dirs[name] = &memDir{names: make(map[string]*memNode), durable: make(map[string]*memNode)}
	}
	return err
}

func (m *memFS) ReadDir(name string) ([]fs.DirEntry, error) {
	err := m.begin("readdir", name)
	defer m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var entries []fs.DirEntry
	names := m.dirs[name].names
	for _, base := range slices.Sorted(maps.Keys(names)) {
		entries = append(entries, fs.FileInfoToDirEntry(memInfo{base, int64(len(names[base].data))}))
	}
	return entries, nil
}

func (m *memFS) Rename(from, to string) error {
	err := m.begin("rename", to)
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	if err := cmp.Or(m.inUse(from), m.inUse(to)); err != nil {
		return err
	}
	n, ok := m.dir(from).names[filepath.Base(from)]
	if !ok {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	delete(m.dir(from).names, filepath.Base(from))
	m.dir(to).names[filepath.Base(to)] = n
	return nil
}

func (m *memFS) Remove(name string) error {
	err := m.begin("remove", name)
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	if err := m.inUse(name); err != nil {
		return err
	}
	if _, ok := m.dir(name).names[filepath.Base(name)]; !ok {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	delete(m.dir(name).names, filepath.Base(name))
	return nil
}

func (m *memFS) SyncDir(name string) error {
	err := m.begin("syncdir", name)
	defer m.mu.Unlock()
	if d := m.dirs[name]; err == nil && d != nil {
		d.durable = maps.Clone(d.names)
	}
	return err
}

func (m *memFS) Lock(name string) (io.Closer, error) {
	err := m.begin("lock", name)
	defer m.mu.Unlock()
	if err == nil && m.locked[name] {
		err = store.ErrLocked
	}
	if err != nil {
		return nil, err
	}
	m.locked[name] = true
	return closer(func() error {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.locked[name] = false
		return nil
	}), nil
}

type closer func() error

func (c closer) Close() error { return c() }

type memInfo struct {
	name string
	size int64
}

func (i memInfo) Name() string     { return i.name }
func (i memInfo) Size() int64      { return i.size }
func (memInfo) Mode() fs.FileMode  { return 0o640 }
func (memInfo) ModTime() time.Time { return time.Time{} }
func (memInfo) IsDir() bool        { return false }
func (memInfo) Sys() any           { return nil }

type memFile struct {
	fs   *memFS
	name string
	node *memNode
	off  int64

	closed bool
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	err := f.fs.begin("read", f.name)
	defer f.fs.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return bytes.NewReader(f.node.data).ReadAt(p, off)
}

func (f *memFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.off)
	f.off += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *memFile) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += f.off
	case io.SeekEnd:
		off += int64(len(f.node.data))
	}
	f.off = off
	return off, nil
}

// WriteAt writes half of p when it is to fail, as a full disk may do.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.fs.begin("write", f.name)
	defer f.fs.mu.Unlock()
	if err != nil {
		p = p[:len(p)/2]
	}
	if end := int(off) + len(p); end > len(f.node.data) {
		f.node.data = append(f.node.data, make([]byte, end-len(f.node.data))...)
	}
	return copy(f.node.data[off:], p), err
}

func (f *memFile) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.off)
	f.off += int64(n)
	return n, err
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return memInfo{filepath.Base(f.name), int64(len(f.node.data))}, nil
}

func (f *memFile) Truncate(size int64) error {
	err := f.fs.begin("truncate", f.name)
	defer f.fs.mu.Unlock()
	if err == nil {
		f.node.data = append(f.node.data[:min(int(size), len(f.node.data))], make([]byte, max(0, int(size)-len(f.node.data)))...)
	}
	return err
}

func (f *memFile) Sync() error {
	err := f.fs.begin("sync", f.name)
	defer f.fs.mu.Unlock()
	if err == nil {
		f.node.durable = slices.Clone(f.node.data)
	}
	return err
}

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if !f.closed {
		f.closed = true
		f.node.open--
	}
	return nil
}
