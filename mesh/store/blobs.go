package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/fedmesh/fedmesh/model"
)

const blobExt = ".safetensors"

// Blobs is the set of a peer's immutable model files, each named by the digest of its
// content. Errors for a blob that is not there wrap fs.ErrNotExist.
type Blobs struct {
	*core
	dir string

	mu     sync.Mutex // also over the renames and removals, so that sizes follows them
	sizes  map[model.Digest]int64
	usage  int64
	next   uint64 // number of the next temporary file
	closed bool
}

func newBlobs(c *core) (*Blobs, error) {
	b := &Blobs{core: c, dir: filepath.Join(c.path, "blobs"), sizes: make(map[model.Digest]int64)}
	if err := b.removeTemporary(b.dir); err != nil {
		return nil, err
	}
	entries, err := b.fs.ReadDir(b.dir)
	if err != nil {
		return nil, fmt.Errorf("store: blobs: %w", err)
	}
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), blobExt)
		d, err := model.ParseDigest(name)
		if !ok || err != nil || d.String() != name {
			b.logger.Warn().Str("file", filepath.Join(b.dir, e.Name())).Msg("ignoring a file that is no blob")
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, fmt.Errorf("store: blobs: %w", err)
		}
		b.set(d, info.Size())
	}
	return b, nil
}

// set notes that blob d now has n bytes, or with n < 0 that it is gone; mu is held.
func (b *Blobs) set(d model.Digest, n int64) {
	b.usage -= b.sizes[d]
	delete(b.sizes, d)
	if n >= 0 {
		b.sizes[d] = n
		b.usage += n
	}
}

// forget is called with the error of a file operation on d. A file that somebody
// took away behind our back is no blob any more.
func (b *Blobs) forget(d model.Digest, err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// It may have been committed again since.
	if f, err := b.fs.OpenFile(b.path(d), os.O_RDONLY, 0); err == nil {
		_ = f.Close() // nothing was written
		return
	}
	b.set(d, -1)
}

func (b *Blobs) path(d model.Digest) string { return filepath.Join(b.dir, d.String()+blobExt) }

// Create returns a Writer for a new blob. Commit or Abort must be called on it.
func (b *Blobs) Create() (*Writer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errClosed
	}
	b.next++
	name := filepath.Join(b.dir, tmpPrefix+strconv.FormatUint(b.next, 10))
	f, err := b.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return nil, fmt.Errorf("store: blobs: %w", err)
	}
	return &Writer{b: b, f: f, name: name, early: b.opts.Fsync == Always}, nil
}

// Open opens blob d for reading. It stays readable until closed even if it is
// removed meanwhile (not on Windows).
func (b *Blobs) Open(d model.Digest) (*Blob, error) {
	f, err := b.fs.OpenFile(b.path(d), os.O_RDONLY, 0)
	if err != nil {
		b.forget(d, err)
		return nil, fmt.Errorf("store: blob: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("store: blob: %w", err), f.Close())
	}
	return &Blob{f: f, size: info.Size()}, nil
}

// Has reports whether blob d is there.
func (b *Blobs) Has(d model.Digest) bool {
	_, err := b.Size(d)
	return err == nil
}

// Size returns the size of blob d in bytes.
func (b *Blobs) Size(d model.Digest) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, ok := b.sizes[d]
	if !ok {
		return 0, fmt.Errorf("store: blob %s: %w", d, fs.ErrNotExist)
	}
	return n, nil
}

// List returns the digests of all blobs in ascending order.
func (b *Blobs) List() []model.Digest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.SortedFunc(maps.Keys(b.sizes), func(x, y model.Digest) int {
		return bytes.Compare(x[:], y[:])
	})
}

// Usage returns the size of all blobs in bytes.
func (b *Blobs) Usage() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.usage
}

// Remove removes blob d; nil if it is not there. A removal is not made durable:
// after a loss of power the blob may be back.
func (b *Blobs) Remove(d model.Digest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errClosed
	}
	if err := b.fs.Remove(b.path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store: blob: %w", err)
	}
	b.set(d, -1)
	return nil
}

// SetAside takes blob d out of the set and keeps its file in the folder damaged, for whoever wants to look; nil if it is not there.
// It returns where the file is now.
func (b *Blobs) SetAside(d model.Digest) (path string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return "", errClosed
	}
	dir := filepath.Join(b.core.path, "damaged")
	path = filepath.Join(dir, d.String()+blobExt)
	err = b.fs.MkdirAll(dir, dirPerm)
	if err == nil {
		err = b.fs.Rename(b.path(d), path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("store: blob: %w", err)
	}
	b.set(d, -1)
	return path, nil
}

// Sync makes blob d durable, name and content; with [Never] it does nothing.
func (b *Blobs) Sync(ctx context.Context, d model.Digest) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("store: blob %s: %w", d, err)
	}
	f, err := b.fs.OpenFile(b.path(d), os.O_RDWR, 0)
	if err != nil {
		b.forget(d, err)
		return fmt.Errorf("store: blob: %w", err)
	}
	if err := errors.Join(b.sync(f), f.Close()); err != nil {
		return fmt.Errorf("store: blob: %w", err)
	}
	return b.syncDir(b.dir)
}

// Verify reads blob d and compares its digest. The error wraps ErrCorrupt when
// the content is another; the blob is left where it is.
func (b *Blobs) Verify(ctx context.Context, d model.Digest) error {
	blob, err := b.Open(d)
	if err != nil {
		return err
	}
	got, err := digestOf(ctx, blob)
	if err := errors.Join(err, blob.Close()); err != nil {
		return fmt.Errorf("store: verify %s: %w", b.path(d), err)
	}
	if got != d {
		return fmt.Errorf("store: %w: %s has digest %s; remove it, and it can be fetched again",
			ErrCorrupt, b.path(d), got)
	}
	return nil
}

func digestOf(ctx context.Context, r io.Reader) (d model.Digest, err error) {
	h := model.NewHash()
	buf := make([]byte, 256<<10)
	for {
		if err := ctx.Err(); err != nil {
			return d, err
		}
		n, err := r.Read(buf)
		h.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			h.Sum(d[:0])
			return d, nil
		}
		if err != nil {
			return d, err
		}
	}
}

// drop does away with a temporary file. After Close the name may be another process's.
func (b *Blobs) drop(f File, name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		_ = f.Close() // the next Open removes it
		return
	}
	b.discard(f, name)
}

func (b *Blobs) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}
