package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// maxJSON bounds what LoadJSON reads into memory.
const maxJSON = 4 << 20

// SaveJSON writes v as the file name+".json", all or nothing, and makes it
// durable. A name is 1 to 64 of a-z, 0-9, '-' and '_'.
func (d *Dir) SaveJSON(name string, v any) error { return d.saveJSON(name, v, true) }

// SaveHint is SaveJSON for what may be lost: it does not wait for the disk. The file outlives the process; after a loss of power it may be
// as it was before, or damaged.
func (d *Dir) SaveHint(name string, v any) error { return d.saveJSON(name, v, false) }

func (d *Dir) saveJSON(name string, v any, durable bool) error {
	path, err := d.jsonPath(name)
	if err != nil {
		return err
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("store: save %s: %w", path, err)
	}
	if len(b) >= maxJSON {
		return fmt.Errorf("store: save %s: %d bytes are more than %d", path, len(b), maxJSON)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	tmp := filepath.Join(d.path, tmpPrefix+name)
	f, err := d.fs.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, filePerm)
	if err != nil {
		return fmt.Errorf("store: save: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil && durable {
		err = d.sync(f)
	}
	if err != nil {
		d.discard(f, tmp)
		return fmt.Errorf("store: save %s: %w", path, err)
	}
	if err := errors.Join(f.Close(), d.fs.Rename(tmp, path)); err != nil {
		d.discard(f, tmp)
		return fmt.Errorf("store: save %s: %w", path, err)
	}
	if !durable {
		return nil
	}
	return d.syncDir(d.path)
}

// LoadJSON reads what SaveJSON wrote under name into v. The error wraps
// fs.ErrNotExist when there is no such file and ErrCorrupt when it cannot be
// decoded into v.
func (d *Dir) LoadJSON(name string, v any) error {
	path, err := d.jsonPath(name)
	if err != nil {
		return err
	}
	f, err := d.fs.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("store: load: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxJSON+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("store: load %s: %w", path, err)
	}
	if len(b) > maxJSON {
		return fmt.Errorf("store: load %s: %w: more than %d bytes", path, ErrCorrupt, maxJSON)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("store: load %s: %w: %w; restore it from a backup", path, ErrCorrupt, err)
	}
	return nil
}

func (d *Dir) jsonPath(name string) (string, error) {
	ok := len(name) >= 1 && len(name) <= 64
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_')
	}
	if !ok {
		return "", fmt.Errorf("store: file name %q is not 1 to 64 of a-z, 0-9, '-', '_'", name)
	}
	return filepath.Join(d.path, name+".json"), nil
}
