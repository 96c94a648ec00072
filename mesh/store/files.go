package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/fedmesh/fedmesh/mesh/store/internal/segment"
)

// The files of the log are named by a number: a segment's own, and that of the last record
// that a snapshot stands for.
const (
	segmentExt  = ".log"
	snapshotExt = ".snapshot"
)

func fileName(number uint64, ext string) string { return fmt.Sprintf("%08d%s", number, ext) }

func (l *Log) segmentPath(number uint64) string {
	return filepath.Join(l.dir, fileName(number, segmentExt))
}

func (l *Log) snapshotPath(pos uint64) string {
	return filepath.Join(l.dir, fileName(pos, snapshotExt))
}

// list returns the numbers of the segments and snapshots that are there, ascending.
func (l *Log) list() (segments, snapshots []uint64, err error) {
	entries, err := l.fs.ReadDir(l.dir)
	if err != nil {
		return nil, nil, fmt.Errorf("store: log: %w", err)
	}
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		number, err := strconv.ParseUint(strings.TrimSuffix(e.Name(), ext), 10, 64)
		known := err == nil && number > 0 && fileName(number, ext) == e.Name()
		switch {
		case known && ext == segmentExt:
			segments = append(segments, number)
		case known && ext == snapshotExt:
			snapshots = append(snapshots, number)
		default:
			l.logger.Warn().Str("file", filepath.Join(l.dir, e.Name())).Msg("ignoring a file that is no part of the log")
		}
	}
	slices.Sort(segments)
	slices.Sort(snapshots)
	return segments, snapshots, nil
}

// create makes segment number, empty and not yet durable. Its first record will
// be number first.
func (l *Log) create(number, first uint64) (File, segment.Header, error) {
	name := l.segmentPath(number)
	file, err := l.fs.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return nil, segment.Header{}, fmt.Errorf("store: log: %w", err)
	}
	head, err := writeHeader(file, number, first)
	if err != nil {
		l.discard(file, name)
		return nil, segment.Header{}, err
	}
	return file, head, nil
}

func writeHeader(file File, number, first uint64) (segment.Header, error) {
	salt, err := newSalt()
	if err != nil {
		return segment.Header{}, err
	}
	head := segment.Header{Number: number, First: first, Salt: salt}
	if _, err := file.WriteAt(head.Encode(), 0); err != nil {
		return segment.Header{}, fmt.Errorf("store: log: write segment header: %w", err)
	}
	return head, nil
}

func newSalt() (uint32, error) {
	var b [4]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, fmt.Errorf("store: log: salt: %w", err)
	}
	return binary.LittleEndian.Uint32(b[:]), nil
}

// settled makes a segment durable, its name and those of all other files of the log included.
func (l *Log) settled(file File) error {
	if err := l.sync(file); err != nil {
		return fmt.Errorf("store: log: %w", err)
	}
	return l.syncDir(l.dir)
}

// remove removes files that a snapshot stands for, up to the first that cannot be
// removed, and returns how many.
func (l *Log) remove(paths []string) int {
	for i, path := range paths {
		if err := l.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			l.logger.Warn().Err(err).Str("file", path).
				Msg("a part of the log that a snapshot stands for could not be removed; the next start tries again")
			return i
		}
	}
	return len(paths)
}

// corrupt is the error for damage that no crash can have done.
func corrupt(path string, off int64, reason string) error {
	return fmt.Errorf("store: log: %w: %s at offset %d: %s; restore the data directory from a backup, or move it away and let this peer join as a new one",
		ErrCorrupt, path, off, reason)
}
