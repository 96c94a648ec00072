package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// An output is a file that appears under its name only when it is complete: it is
// written beside it and renamed. What is there already and is not a regular file, such
// as /dev/null or a pipe, is written to directly.
type output struct {
	*os.File
	path   string
	direct bool
	done   bool
}

func createOutput(path string) (*output, error) {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	if st, err := os.Stat(path); err == nil && !st.Mode().IsRegular() {
		if st.IsDir() {
			return nil, usagef("%s is a folder; name a file in it", path)
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return nil, err
		}
		return &output{File: f, path: path, direct: true}, nil
	}
	f, err := createBeside(path)
	if err != nil {
		return nil, err
	}
	return &output{File: f, path: path}, nil
}

// createBeside makes a new hidden file in path's folder, with the permissions a new file
// at path would get (os.CreateTemp would make it private).
func createBeside(path string) (*os.File, error) {
	for {
		name := filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%08x.tmp", filepath.Base(path), rand.Uint32()))
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
}

// commit gives the file its name. After it, discard does nothing.
func (o *output) commit() error {
	err := o.Close()
	if err != nil || o.direct {
		return err
	}
	if err := os.Rename(o.Name(), o.path); err != nil {
		return err
	}
	o.done = true
	return nil
}

// discard removes what was not committed.
func (o *output) discard() {
	if o.done || o.direct {
		return
	}
	o.Close()
	os.Remove(o.Name())
}

// A body is a model to be sent, which can be opened again for each attempt.
type body struct {
	path  string
	size  int64
	spool bool // path is ours to remove
}

// openBody prepares a file for sending. "-" is standard input; it and anything else that
// cannot be read twice is first copied to a temporary file.
func openBody(path string, stdin io.Reader) (*body, error) {
	from := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if st.IsDir() {
			return nil, usagef("%s is a folder; name a model file", path)
		}
		if st.Mode().IsRegular() {
			return &body{path: path, size: st.Size()}, nil
		}
		from = f
	}
	tmp, err := os.CreateTemp("", "fedmesh-push-*")
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(tmp, from)
	if err = errors.Join(err, tmp.Close()); err != nil {
		os.Remove(tmp.Name())
		return nil, fmt.Errorf("copying %s to a temporary file: %w", path, err)
	}
	return &body{path: tmp.Name(), size: n, spool: true}, nil
}

// open gives the bytes from the start, and how many there are.
func (b *body) open() (io.ReadCloser, int64, error) {
	f, err := os.Open(b.path)
	if err != nil {
		return nil, 0, err
	}
	return f, b.size, nil
}

// close removes the temporary copy, if one was made.
func (b *body) close() {
	if b.spool {
		os.Remove(b.path)
	}
}
