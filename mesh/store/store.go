package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rs/zerolog"
)

const (
	dirPerm   = 0o750
	filePerm  = 0o640
	tmpPrefix = ".tmp-"
)

var (
	// ErrCorrupt means that stored bytes are not what was written.
	ErrCorrupt = errors.New("stored data is corrupt")
	// ErrFailed means that an fsync of the log has failed since it was opened.
	ErrFailed = errors.New("the log accepts nothing after a failed fsync")
)

// Fsync says when files are fsynced; see the package comment.
type Fsync uint8

// The modes. Auto is the default.
const (
	Auto Fsync = iota
	Always
	Never
)

// String returns the mode's name: "auto", "always" or "never".
func (m Fsync) String() string {
	switch m {
	case Auto:
		return "auto"
	case Always:
		return "always"
	case Never:
		return "never"
	}
	return fmt.Sprintf("Fsync(%d)", uint8(m))
}

// MarshalText returns the mode's name.
func (m Fsync) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads a mode's name, so that a mode can be a flag or part of a
// JSON file.
func (m *Fsync) UnmarshalText(b []byte) error {
	for _, mode := range []Fsync{Auto, Always, Never} {
		if string(b) == mode.String() {
			*m = mode
			return nil
		}
	}
	return fmt.Errorf("store: fsync mode %q is not one of auto, always, never", b)
}

// Options for Open. The zero value is good.
type Options struct {
	Fsync        Fsync
	SegmentBytes int64 // size at which the log starts a new segment; 0 is 64 MiB
	Logger       zerolog.Logger
	FS           FS // nil is the operating system's
}

// Validate returns all faults of o, joined.
func (o Options) Validate() error {
	var errs []error
	if o.Fsync > Never {
		errs = append(errs, fmt.Errorf("store: unknown fsync mode %d", o.Fsync))
	}
	if o.SegmentBytes < 0 {
		errs = append(errs, fmt.Errorf("store: segment size %d is negative", o.SegmentBytes))
	}
	return errors.Join(errs...)
}

// Dir is an open data directory. It is this process's alone until Close.
type Dir struct {
	*core
	lock  io.Closer
	log   *Log
	blobs *Blobs

	mu     sync.Mutex // over the JSON files and closed
	closed bool
	err    error // of Close
}

// core is what the parts of a Dir share.
type core struct {
	fs     FS
	path   string
	opts   Options
	logger zerolog.Logger
}

// Open opens the data directory at path, making it if need be, locks it and
// removes what an earlier process left unfinished. The error wraps ErrLocked when another
// process has it open. The log is not read until Replay.
func Open(path string, o Options) (*Dir, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.SegmentBytes == 0 {
		o.SegmentBytes = 64 << 20
	}
	if o.FS == nil {
		o.FS = OS()
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	c := &core{fs: o.FS, path: path, opts: o, logger: o.Logger}
	if err := c.fs.MkdirAll(path, dirPerm); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	lock, err := c.fs.Lock(filepath.Join(path, "LOCK"))
	if err != nil {
		return nil, err
	}
	d := &Dir{core: c, lock: lock}
	if err := d.prepare(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

// prepare makes the directories and looks over what is in them.
func (d *Dir) prepare() error {
	if err := d.removeTemporary(d.path); err != nil {
		return err
	}
	for _, name := range []string{"blobs", "log"} {
		if err := d.fs.MkdirAll(filepath.Join(d.path, name), dirPerm); err != nil {
			return fmt.Errorf("store: %w", err)
		}
	}
	if err := d.removeTemporary(filepath.Join(d.path, "log")); err != nil {
		return err
	}
	for _, name := range []string{d.path, filepath.Dir(d.path)} {
		if err := d.syncDir(name); err != nil {
			return err
		}
	}
	var err error
	if d.blobs, err = newBlobs(d.core); err != nil {
		return err
	}
	d.log = newLog(d.core)
	return nil
}

// Log returns the directory's log.
func (d *Dir) Log() *Log { return d.log }

// Blobs returns the directory's model files.
func (d *Dir) Blobs() *Blobs { return d.blobs }

// Close makes the log durable, closes everything and gives up the lock. Blobs that
// are open stay readable; a Writer can no longer be committed.
func (d *Dir) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.err
	}
	d.closed = true
	d.blobs.close()
	d.err = errors.Join(d.log.close(), d.lock.Close())
	return d.err
}

// removeTemporary removes the unfinished files in dir.
func (c *core) removeTemporary(dir string) error {
	entries, err := c.fs.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tmpPrefix) || e.IsDir() {
			continue
		}
		if err := c.fs.Remove(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("store: remove unfinished file: %w", err)
		}
		c.logger.Info().Str("file", filepath.Join(dir, e.Name())).Msg("removed unfinished file")
	}
	return nil
}

// syncDir makes the names in dir durable, unless the mode is Never.
func (c *core) syncDir(dir string) error {
	if c.opts.Fsync == Never {
		return nil
	}
	if err := c.fs.SyncDir(dir); err != nil {
		return fmt.Errorf("store: fsync directory %s: %w", dir, err)
	}
	return nil
}

// sync makes the content of f durable, unless the mode is Never.
func (c *core) sync(f File) error {
	if c.opts.Fsync == Never {
		return nil
	}
	return f.Sync()
}

// discard closes and removes a file of no more use. What cannot be removed now goes at the next
// Open.
func (c *core) discard(f File, name string) {
	_ = f.Close() // nothing in it is wanted
	if err := c.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.logger.Warn().Err(err).Str("file", name).Msg("unfinished file could not be removed")
	}
}

var errClosed = fmt.Errorf("store: data directory: %w", os.ErrClosed)
