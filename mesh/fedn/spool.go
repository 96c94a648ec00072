package fedn

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/model"
)

// pending is an update that no peer has acknowledged yet.
type pending struct {
	ID     string `json:"id"`
	Weight int64  `json:"weight"`
	Base   string `json:"base"`           // digest of the model that it was trained from, whether the session knows it or not
	File   string `json:"file,omitempty"` // of the model, where it is not the first one

	dir string
}

const (
	modelSuffix = ".safetensors"
	baseSuffix  = ".base" + modelSuffix
	stepSuffix  = ".step" + modelSuffix
	noteSuffix  = ".json"

	// mostPending and mostRefused bound how many updates are kept, whatever their size.
	mostPending = 1000
	mostRefused = 100
)

// newID makes an update's id: later ones sort behind.
func newID() string {
	return time.Now().UTC().Format("20060102-150405.000000") + "-" + rand.Text()[:12]
}

func (p pending) note() string { return filepath.Join(p.dir, p.ID+noteSuffix) }

// path is where the model is.
func (p pending) path() string { return filepath.Join(p.dir, cmp.Or(p.File, p.ID+modelSuffix)) }

// base is where the model is that it was trained from, if that is kept.
func (p pending) base() string { return filepath.Join(p.dir, p.ID+baseSuffix) }

// remove takes an update from disk. Without its note nothing else of it counts.
func (p pending) remove() error {
	err := missing(os.Remove(p.note()))
	return errors.Join(err, missing(os.Remove(p.path())), missing(os.Remove(p.base())))
}

// missing is err, or nil when it says that a file is not there.
func missing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// bytes is how much of the disk it takes.
func (p pending) bytes() int64 {
	var n int64
	for _, path := range []string{p.path(), p.base()} {
		if st, err := os.Stat(path); err == nil {
			n += st.Size()
		}
	}
	return n
}

// spool keeps updates on disk until they are acknowledged: DIR/pending/ID.safetensors, the model that it was trained from beside it, and,
// written last, ID.json. Those that the mesh refuses for good go to DIR/refused, without what they were trained from.
type spool struct {
	dir, aside string
	most       int64 // bytes; the refused have a quarter
}

func openSpool(dir string, most int64) (*spool, error) {
	s := &spool{dir: filepath.Join(dir, "pending"), aside: filepath.Join(dir, "refused"), most: most}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("fedn: %w", err)
	}
	// What a killed gateway was at is gone with FEDn's round.
	var left []string
	for _, pattern := range []string{filepath.Join(dir, "model-*"), filepath.Join(dir, "sum-*"), filepath.Join(s.dir, "*.tmp")} {
		names, _ := filepath.Glob(pattern)
		left = append(left, names...)
	}
	models, _ := filepath.Glob(filepath.Join(s.dir, "*"+modelSuffix))
	for _, path := range models {
		id := strings.TrimSuffix(path, modelSuffix)
		id = strings.TrimSuffix(strings.TrimSuffix(id, ".base"), ".step")
		if _, err := os.Stat(id + noteSuffix); errors.Is(err, os.ErrNotExist) {
			left = append(left, path)
		}
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("fedn: %w", err)
		}
	}
	return s, nil
}

// add keeps an update, whose files are f and the base that it was trained from; both stay the caller's to read.
func (s *spool) add(p pending, f, base *file) (pending, error) {
	p.dir = s.dir
	err := f.Sync()
	if err == nil {
		err = f.move(p.path())
	}
	if err == nil {
		err = base.move(p.base()) // not synced: whoever uses it looks whether it is whole
	}
	if err == nil {
		err = s.write(p)
	}
	if err != nil {
		return p, fmt.Errorf("fedn: an update cannot be kept on disk: %w", err)
	}
	return p, nil
}

func (s *spool) write(p pending) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return writeSynced(p.note(), b)
}

// step replaces an update by what has the same effect on another base, that the session knows.
func (s *spool) step(p pending, f *file, base model.Digest) (pending, error) {
	old := p.path()
	p.File, p.Base = p.ID+stepSuffix, base.String()
	err := f.Sync()
	if err == nil {
		err = f.move(p.path())
	}
	if err == nil {
		err = s.write(p)
	}
	if err != nil {
		return p, fmt.Errorf("fedn: %w", err)
	}
	return p, errors.Join(missing(os.Remove(old)), missing(os.Remove(p.base())))
}

// trim removes the oldest updates, but not the newest, until the rest has room, and returns those.
func (s *spool) trim() ([]pending, error) {
	ps, _, err := s.list()
	if err != nil {
		return nil, err
	}
	return trim(ps, s.most, mostPending)
}

func trim(ps []pending, most int64, count int) (gone []pending, err error) {
	var sum int64
	for i, p := range slices.Backward(ps) {
		sum += p.bytes()
		if i == len(ps)-1 || sum <= most && len(ps)-i <= count {
			continue
		}
		for _, p := range ps[:i+1] {
			err = errors.Join(err, p.remove())
		}
		return ps[:i+1], err
	}
	return nil, nil
}

// setAside moves an update that nobody will take out of the way, and returns where its model is then. The caller may have the model
// open as f.
func (s *spool) setAside(p pending, f *file) (string, error) {
	if err := os.MkdirAll(s.aside, 0o700); err != nil {
		return "", fmt.Errorf("fedn: %w", err)
	}
	q := p
	q.dir, q.File = s.aside, ""
	_, err := os.Stat(p.path())
	switch {
	case err != nil:
	case f != nil && f.File != nil:
		err = f.move(q.path())
	default:
		err = os.Rename(p.path(), q.path())
	}
	err = missing(err)
	switch {
	case err != nil:
	case p.Weight == 0: // a damaged note, which may tell somebody something
		err = missing(os.Rename(p.note(), q.note()))
	default:
		err = s.write(q)
	}
	if err = errors.Join(err, p.remove()); err != nil {
		return "", fmt.Errorf("fedn: %w", err)
	}
	ps, damaged, err := list(s.aside)
	if err == nil {
		for _, id := range damaged {
			ps = append(ps, pending{ID: id, dir: s.aside})
		}
		slices.SortFunc(ps, func(a, b pending) int { return cmp.Compare(a.ID, b.ID) })
		_, err = trim(ps, s.most/4, mostRefused)
	}
	return q.path(), err
}

// done removes an update.
func (s *spool) done(p pending) error { return p.remove() }

// list returns the updates kept, the oldest first, and the ids of those whose notes are damaged.
func (s *spool) list() ([]pending, []string, error) { return list(s.dir) }

func list(dir string) (ps []pending, damaged []string, err error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, nil, fmt.Errorf("fedn: %w", err)
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), noteSuffix)
		if !ok {
			continue
		}
		p := pending{dir: dir}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, nil, fmt.Errorf("fedn: %w", err)
		}
		err = json.Unmarshal(b, &p)
		_, digestErr := model.ParseDigest(p.Base)
		if err != nil || p.ID != id || p.Weight < 1 || digestErr != nil || p.File != "" && p.File != id+stepSuffix {
			damaged = append(damaged, id)
			continue
		}
		ps = append(ps, p)
	}
	return ps, damaged, nil
}

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
	if runtime.GOOS == "windows" {
		return nil // folders cannot be opened for it there
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
