package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"
)

// FS is what the package asks of a file system, a seam at which tests inject
// faults. A nil Options.FS means the operating system's. The methods mean what the
// functions of package os of the same names do.
type FS interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	MkdirAll(name string, perm fs.FileMode) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// Lock takes the lock file name until the Closer is closed or the process ends.
	// Its error wraps ErrLocked when somebody else has it.
	Lock(name string) (io.Closer, error)
}

// File is an open file of an FS. It may also have a method StartSync(), which has the
// disk begin with what Sync would wait for, and does not wait.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.WriterAt
	io.Seeker
	io.Closer
	Stat() (fs.FileInfo, error)
	Truncate(size int64) error
	// Sync makes the content and size of the file durable.
	Sync() error
}

// OS returns the operating system's FS, for an FS that wraps it.
func OS() FS { return osFS{} }

type osFS struct{}

func (osFS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error)   { return os.ReadDir(name) }
func (osFS) Rename(from, to string) error                 { return os.Rename(from, to) }
func (osFS) Remove(name string) error                     { return os.Remove(name) }
func (osFS) Lock(name string) (io.Closer, error)          { return lockFile(name) }

func (osFS) SyncDir(name string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be opened for it there
	}
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// osFile hides the methods of os.File that File does not have, above all
// WriteTo, so that sendfile sees the descriptor through SyscallConn.
type osFile struct{ f *os.File }

func (o osFile) Read(p []byte) (int, error)                { return o.f.Read(p) }
func (o osFile) ReadAt(p []byte, off int64) (int, error)   { return o.f.ReadAt(p, off) }
func (o osFile) Write(p []byte) (int, error)               { return o.f.Write(p) }
func (o osFile) WriteAt(p []byte, off int64) (int, error)  { return o.f.WriteAt(p, off) }
func (o osFile) Seek(off int64, whence int) (int64, error) { return o.f.Seek(off, whence) }
func (o osFile) Close() error                              { return o.f.Close() }
func (o osFile) Stat() (fs.FileInfo, error)                { return o.f.Stat() }
func (o osFile) Truncate(size int64) error                 { return o.f.Truncate(size) }
func (o osFile) SyscallConn() (syscall.RawConn, error)     { return o.f.SyscallConn() }

func (o osFile) Sync() error {
	if err := datasync(o.f); err != nil {
		return fmt.Errorf("fsync %s: %w", o.f.Name(), err)
	}
	return nil
}
