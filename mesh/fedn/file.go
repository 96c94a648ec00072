package fedn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/codec"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

// file is a model on disk, in canonical form. Whoever has it closes it, which
// removes it from disk unless it was kept.
type file struct {
	*os.File
	layout *model.Layout
	digest model.Digest
	kept   bool
}

func create(dir string) (*file, error) {
	f, err := os.CreateTemp(dir, "model-*")
	if err != nil {
		return nil, fmt.Errorf("fedn: %w", err)
	}
	return &file{File: f}, nil
}

// Close removes the file, unless it was kept. It may be called on nil and more
// than once.
func (f *file) Close() error {
	if f == nil || f.File == nil {
		return nil
	}
	err := f.File.Close()
	if !f.kept {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	f.File = nil
	return err
}

// open reads a canonical model that lies somewhere. Closing it leaves it there.
func open(path string) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("fedn: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fedn: %w", err), f.Close())
	}
	l, err := safetensors.ReadLayout(f, st.Size())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fedn: %s: %w", path, err), f.Close())
	}
	return &file{File: f, layout: l, kept: true}, nil
}

// sum computes the digest of a model's bytes.
func (f *file) sum() (model.Digest, error) {
	h := model.NewHash()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, f.layout.Size())); err != nil {
		return model.Digest{}, fmt.Errorf("fedn: %w", err)
	}
	return model.Digest(h.Sum(nil)), nil
}

// move gives a file another path, where it is kept. It is closed meanwhile, since not every system
// renames what is open.
func (f *file) move(path string) error {
	old := f.Name()
	if err := f.File.Close(); err != nil {
		return fmt.Errorf("fedn: %w", err)
	}
	at := path
	err := os.Rename(old, path)
	if err != nil {
		at = old
	} else {
		f.kept = true
	}
	again, openErr := os.Open(at)
	if openErr != nil {
		f.File = nil
		return errors.Join(fmt.Errorf("fedn: %w", openErr), err)
	}
	f.File = again
	if err != nil {
		return fmt.Errorf("fedn: %w", err)
	}
	return nil
}

// maxModel bounds a model that comes without a known layout.
const maxModel = 64 << 30

// ingest reads a model in any format and layout.
func ingest(dir string, r io.Reader) (*file, error) {
	f, err := create(dir)
	if err != nil {
		return nil, err
	}
	scratch, err := create(dir)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	defer scratch.Close()
	f.layout, f.digest, err = codec.Ingest(r, f, codec.Options{MaxBytes: maxModel, Scratch: scratch})
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// write makes a file of a layout's header and what data writes behind it.
func write(dir string, l *model.Layout, data func(w io.Writer) error) (*file, error) {
	f, err := create(dir)
	if err != nil {
		return nil, err
	}
	h := model.NewHash()
	w := io.MultiWriter(f.File, h)
	if _, err = w.Write(l.Header()); err == nil {
		err = data(w)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fedn: %w", err), f.Close())
	}
	f.layout, f.digest = l, model.Digest(h.Sum(nil))
	return f, nil
}

// conform returns f itself when it has the spec's layout, or its conversion to that, in
// which case f is closed; and an error when values or tensors do not fit.
func conform(ctx context.Context, dir string, f *file, spec *aggregate.Spec) (*file, error) {
	out := f
	if f.layout.Diff(spec.Layout()) != nil {
		var err error
		if out, err = convert(dir, f, spec.Layout()); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if err := f.Close(); err != nil {
			return nil, errors.Join(err, out.Close())
		}
	}
	if err := check(ctx, out, spec); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// check looks at all values of a file.
func check(ctx context.Context, f *file, spec *aggregate.Spec) error {
	buf := make([]byte, 8*aggregate.Block)
	ts := spec.Layout().Tensors()
	for s := range spec.Blocks(0, spec.Elements()) {
		if err := ctx.Err(); err != nil {
			return err
		}
		b := buf[:s.Count*ts[s.Tensor].DType.Size()]
		if _, err := f.ReadAt(b, s.Offset); err != nil {
			return fmt.Errorf("fedn: %w", err)
		}
		if err := spec.Check(s.Tensor, s.First, b); err != nil {
			return err
		}
	}
	return nil
}
