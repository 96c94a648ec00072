package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/fedmesh/fedmesh/model"
)

// Blob is an open blob, for http.ServeContent among others, which sends it without
// copying it through this process.
type Blob struct {
	f    File
	size int64
	once sync.Once
	err  error
}

// Size returns its size in bytes.
func (b *Blob) Size() int64 { return b.size }

// ReadAt implements io.ReaderAt.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) { return b.f.ReadAt(p, off) }

// Read implements io.Reader.
func (b *Blob) Read(p []byte) (int, error) { return b.f.Read(p) }

// Seek implements io.Seeker.
func (b *Blob) Seek(off int64, whence int) (int64, error) { return b.f.Seek(off, whence) }

// SyscallConn implements syscall.Conn, by which package net finds the file
// that it may send by itself.
func (b *Blob) SyscallConn() (syscall.RawConn, error) {
	if c, ok := b.f.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// Close implements io.Closer; calls after the first do nothing.
func (b *Blob) Close() error {
	b.once.Do(func() { b.err = b.f.Close() })
	return b.err
}

// Writer is a blob in the making, a temporary file until Commit.
type Writer struct {
	b    *Blobs
	f    File
	name string

	early bool
	fresh atomic.Int64 // bytes written since the disk was last told to begin

	mu    sync.Mutex
	spent bool
}

// earlyBytes is how much is written before the disk is told to begin.
const earlyBytes = 8 << 20

// Early says that Commit will be durable: then the disk is told to begin while
// the blob is still being written, so that Commit has less to wait for. Call it before the
// first write.
func (w *Writer) Early() { w.early = w.b.opts.Fsync != Never }

// Write implements io.Writer; it starts at 0 and is not moved by WriteAt.
func (w *Writer) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	w.wrote(n)
	return n, err
}

// WriteAt implements io.WriterAt.
func (w *Writer) WriteAt(p []byte, off int64) (int, error) {
	n, err := w.f.WriteAt(p, off)
	w.wrote(n)
	return n, err
}

func (w *Writer) wrote(n int) {
	if !w.early || w.fresh.Add(int64(n)) < earlyBytes {
		return
	}
	w.fresh.Store(0)
	if f, ok := w.f.(interface{ StartSync() }); ok {
		f.StartSync()
	}
}

// ReadAt implements io.ReaderAt.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) { return w.f.ReadAt(p, off) }

// Commit makes what was written the blob d, whose digest the caller vouches for,
// and ends the Writer. If durable it survives a loss of power once Commit has
// returned nil, unless the mode is [Never]. If d is there already what was written is
// dropped. An error leaves nothing behind, except that when the directory cannot be
// fsynced the blob is there but not durable. A blob that was not committed as durable may
// after a loss of power be gone, or there with other content, which Verify finds.
func (w *Writer) Commit(ctx context.Context, d model.Digest, durable bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.spent {
		return errors.New("store: blob: committed or aborted already")
	}
	w.spent = true
	durable = w.b.opts.Fsync == Always || durable && w.b.opts.Fsync == Auto
	placed, err := w.place(ctx, d, durable)
	if !placed {
		w.b.drop(w.f, w.name)
	}
	switch {
	case err != nil:
		return fmt.Errorf("store: blob %s: %w", d, err)
	case placed && durable:
		return w.b.syncDir(w.b.dir)
	}
	return nil
}

// place renames the temporary file to the blob's name, unless an equal blob is there.
func (w *Writer) place(ctx context.Context, d model.Digest, durable bool) (placed bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	info, err := w.f.Stat()
	if err != nil {
		return false, err
	}
	if there, err := w.present(ctx, d, info.Size(), durable); there || err != nil {
		return false, err
	}
	if durable {
		if err := w.f.Sync(); err != nil {
			return false, err
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
	}
	if err := w.f.Close(); err != nil {
		return false, err
	}
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	if w.b.closed {
		return false, os.ErrClosed
	}
	if err := w.b.fs.Rename(w.name, w.b.path(d)); err != nil {
		return false, err
	}
	w.b.set(d, info.Size())
	return true, nil
}

// present reports whether blob d is there, and makes it durable if asked to. One
// of another size than the new one is damaged and shall be replaced.
func (w *Writer) present(ctx context.Context, d model.Digest, size int64, durable bool) (bool, error) {
	old, err := w.b.Open(d)
	if err == nil {
		equal := old.Size() == size
		if err = old.Close(); err == nil && !equal {
			return false, nil
		}
	}
	if err == nil && durable {
		err = w.b.Sync(ctx, d)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Abort removes what was written; it does nothing after Commit or Abort, so it can be deferred.
func (w *Writer) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.spent {
		w.spent = true
		w.b.drop(w.f, w.name)
	}
}
