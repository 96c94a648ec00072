package safetensors

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/fedmesh/fedmesh/model"
)

// ReadLayout reads the layout of a canonical file of size bytes; it refuses every other file with
// [model.ErrFormat]. The data is not read.
func ReadLayout(r io.ReaderAt, size int64) (*model.Layout, error) {
	rd, err := NewReader(io.NewSectionReader(r, 0, size), model.Limits{Bytes: model.MaxDataBytes})
	if err != nil {
		return nil, err
	}
	l, err := model.NewLayout(rd.ts)
	if err != nil {
		return nil, err
	}
	have := make([]byte, min(int64(len(l.Header())), size))
	if _, err := r.ReadAt(have, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("safetensors: header: %w", err)
	}
	if !bytes.Equal(have, l.Header()) {
		return nil, fmt.Errorf("safetensors: the file is not canonical (order of tensors, spacing or metadata); convert it first: %w", model.ErrFormat)
	}
	if size != l.Size() {
		return nil, fmt.Errorf("safetensors: the file has %d bytes, its header needs %d: %w", size, l.Size(), model.ErrFormat)
	}
	return l, nil
}

// Encode writes the canonical file of a layout. data is the data section, [model.Layout.DataSize] bytes
// with the tensors at their offsets.
func Encode(w io.Writer, l *model.Layout, data io.ReaderAt) error {
	if _, err := w.Write(l.Header()); err != nil {
		return fmt.Errorf("safetensors: writing the header: %w", err)
	}
	buf := make([]byte, min(chunk, l.DataSize()))
	for at := int64(0); at < l.DataSize(); {
		p := buf[:min(int64(len(buf)), l.DataSize()-at)]
		if n, err := data.ReadAt(p, at); n < len(p) {
			return fmt.Errorf("safetensors: reading the data at byte %d: %w", at+int64(n), noEOF(err))
		}
		if _, err := w.Write(p); err != nil {
			return fmt.Errorf("safetensors: writing the data at byte %d: %w", at, err)
		}
		at += int64(len(p))
	}
	return nil
}

// noEOF: a source that is too short is no regular end.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
