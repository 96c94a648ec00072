// Command pack writes a folder as an archive that is the same for the same files: in the order of names, without owners, all of one time.
//
//	pack -time SECONDS PARENT NAME DEST
//
// It writes DEST/NAME.zip when the folder holds a program for Windows, else DEST/NAME.tar.gz.
package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	seconds := flag.Int64("time", 0, "time of all files, in seconds of Unix")
	flag.Parse()
	if flag.NArg() != 3 {
		fmt.Fprintln(os.Stderr, "usage: pack -time SECONDS PARENT NAME DEST")
		os.Exit(2)
	}
	if err := pack(flag.Arg(0), flag.Arg(1), flag.Arg(2), time.Unix(*seconds, 0).UTC()); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

// A packer is an archive that files are added to.
type packer interface {
	add(name string, mode os.FileMode, content []byte) error
	Close() error
}

func pack(parent, name, dest string, when time.Time) error {
	entries, err := os.ReadDir(filepath.Join(parent, name)) // sorted
	if err != nil {
		return err
	}
	windows := false
	for _, e := range entries {
		windows = windows || strings.HasSuffix(e.Name(), ".exe")
	}
	path := filepath.Join(dest, name+".tar.gz")
	if windows {
		path = filepath.Join(dest, name+".zip")
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	var p packer
	if windows {
		p = &zipped{zip.NewWriter(out), when}
	} else if p, err = newTarred(out, when); err != nil {
		return err
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(parent, name, e.Name()))
		if err != nil {
			return err
		}
		mode := os.FileMode(0o644)
		if base := strings.TrimSuffix(e.Name(), ".exe"); base == "fedmesh" {
			mode = 0o755
		}
		if err := p.add(name+"/"+e.Name(), mode, content); err != nil {
			return err
		}
	}
	return errors.Join(p.Close(), out.Close())
}

type tarred struct {
	gz   *gzip.Writer
	tar  *tar.Writer
	when time.Time
}

func newTarred(w io.Writer, when time.Time) (*tarred, error) {
	gz, err := gzip.NewWriterLevel(w, gzip.BestCompression) // with no name and no time in its header
	if err != nil {
		return nil, err
	}
	return &tarred{gz, tar.NewWriter(gz), when}, nil
}

func (t *tarred) add(name string, mode os.FileMode, content []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(mode), Size: int64(len(content)), ModTime: t.when, Format: tar.FormatUSTAR}
	if err := t.tar.WriteHeader(h); err != nil {
		return err
	}
	_, err := t.tar.Write(content)
	return err
}

func (t *tarred) Close() error { return errors.Join(t.tar.Close(), t.gz.Close()) }

type zipped struct {
	zip  *zip.Writer
	when time.Time
}

func (z *zipped) add(name string, mode os.FileMode, content []byte) error {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: z.when}
	h.SetMode(mode)
	w, err := z.zip.CreateHeader(h)
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}

func (z *zipped) Close() error { return z.zip.Close() }
