package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// ErrLocked means that another process has the data directory open.
var ErrLocked = errors.New("data directory is in use")

// fileLock holds an open and locked file.
type fileLock struct {
	f    *os.File
	once sync.Once
	err  error
}

// Close gives the lock up. The file stays: removing it would let a second and a third
// process lock two files of one name.
func (l *fileLock) Close() error {
	l.once.Do(func() { l.err = l.f.Close() })
	return l.err
}

// lockFile locks the file name, which it makes if need be, and writes the number
// of this process into it for the error message of the next one.
func lockFile(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("store: lock: %w", err)
	}
	held, err := tryLock(f)
	if err == nil && held {
		err = errors.Join(f.Truncate(0), writeOwner(f))
		if err == nil {
			return &fileLock{f: f}, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("store: %w: %s is locked by %s; stop it or give this peer a directory of its own",
			ErrLocked, filepath.Dir(name), readOwner(f))
	} else {
		err = fmt.Errorf("store: lock %s: %w", name, err)
	}
	return nil, errors.Join(err, f.Close())
}

func writeOwner(f *os.File) error {
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

func readOwner(f *os.File) string {
	var b [20]byte
	n, _ := f.ReadAt(b[:], 0) // a short or failed read shows as an unknown owner
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	switch {
	case err != nil:
		return "another process"
	case pid == os.Getpid():
		return "this process (" + strconv.Itoa(pid) + ")"
	}
	return "process " + strconv.Itoa(pid)
}
