package fedn

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// pending is an update that no peer has acknowledged yet.
type pending struct {
	ID     string `json:"id"`
	Weight int64  `json:"weight"`
	Base   string `json:"base"` // digest of the model that it was trained from, whether the session knows it or not

	path string
}

// spool keeps updates on disk until they are acknowledged: DIR/pending/ID.safetensors, and
// beside it, written last, ID.json.
type spool struct{ dir string }

func openSpool(dir string) (*spool, error) {
	s := &spool{dir: filepath.Join(dir, "pending")}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("fedn: %w", err)
	}
	// What a killed gateway was at is gone with FEDn's round.
	for _, pattern := range []string{filepath.Join(dir, "model-*"), filepath.Join(dir, "sum-*"), filepath.Join(s.dir, "*.tmp")} {
		left, _ := filepath.Glob(pattern)
		for _, path := range left {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("fedn: %w", err)
			}
		}
	}
	return s, nil
}

// add keeps an update, whose file is f, which stays the caller's to read.
func (s *spool) add(p pending, f *file) (pending, error) {
	p.path = filepath.Join(s.dir, p.ID+".safetensors")
	err := f.Sync()
	if err == nil {
		err = os.Rename(f.Name(), p.path)
	}
	if err != nil {
		return p, fmt.Errorf("fedn: %w", err)
	}
	f.kept = true
	b, err := json.Marshal(p)
	if err == nil {
		err = writeSynced(s.note(p.ID), b)
	}
	if err != nil {
		return p, errors.Join(fmt.Errorf("fedn: %w", err), os.Remove(p.path))
	}
	return p, nil
}

func (s *spool) note(id string) string { return filepath.Join(s.dir, id+".json") }

// writeSynced writes a file that is whole or not there.
func writeSynced(path string, b []byte) error {
	f, err := os.Create(path + ".tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// done removes an update.
func (s *spool) done(p pending) error {
	return errors.Join(os.Remove(s.note(p.ID)), os.Remove(p.path))
}

// list returns the updates kept, by id.
func (s *spool) list() ([]pending, error) {
	notes, err := filepath.Glob(filepath.Join(s.dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("fedn: %w", err)
	}
	var ps []pending
	for _, note := range notes { // sorted
		b, err := os.ReadFile(note)
		if err != nil {
			return nil, fmt.Errorf("fedn: %w", err)
		}
		var p pending
		if err := json.Unmarshal(b, &p); err != nil || p.ID != strings.TrimSuffix(filepath.Base(note), ".json") || p.Weight < 1 {
			return nil, fmt.Errorf("fedn: %s is damaged: remove it and the model beside it, or restore it", note)
		}
		p.path = filepath.Join(s.dir, p.ID+".safetensors")
		ps = append(ps, p)
	}
	return ps, nil
}
