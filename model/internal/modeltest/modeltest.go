package modeltest

import (
	"bytes"
	"fmt"
	"io"

	"github.com/fedmesh/fedmesh/model"
)

// Mem is a file in memory that grows when it is written to.
type Mem struct {
	// B is the content.
	B []byte
}

// WriteAt implements io.WriterAt.
func (m *Mem) WriteAt(p []byte, at int64) (int, error) {
	if more := int(at) + len(p) - len(m.B); more > 0 {
		m.B = append(m.B, make([]byte, more)...)
	}
	return copy(m.B[at:], p), nil
}

// ReadAt implements io.ReaderAt.
func (m *Mem) ReadAt(p []byte, at int64) (int, error) {
	return bytes.NewReader(m.B).ReadAt(p, at)
}

// Collect is a sink that keeps everything. It fails when a decoder announces a tensor before it has
// written the one before in full, or writes too much.
type Collect struct {
	// Tensors in the order of arrival.
	Tensors []model.Tensor
	// Data of each.
	Data [][]byte
	// BF16 says what two raw bytes per element are in npz.
	BF16 bool
}

// IsBF16 implements npz.BF16Sink.
func (c *Collect) IsBF16(string) bool { return c.BF16 }

// Tensor implements model.Sink.
func (c *Collect) Tensor(name string, dt model.DType, shape []int64) (io.Writer, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	c.Tensors = append(c.Tensors, model.Tensor{Name: name, DType: dt, Shape: shape})
	c.Data = append(c.Data, nil)
	return c, nil
}

// Write takes the next bytes of the last tensor.
func (c *Collect) Write(p []byte) (int, error) {
	i := len(c.Data) - 1
	if c.Data[i] = append(c.Data[i], p...); int64(len(c.Data[i])) > c.Tensors[i].Bytes() {
		return 0, fmt.Errorf("modeltest: more than the bytes of tensor %q", c.Tensors[i].Name)
	}
	return len(p), nil
}

func (c *Collect) complete() error {
	if i := len(c.Data) - 1; i >= 0 && int64(len(c.Data[i])) != c.Tensors[i].Bytes() {
		return fmt.Errorf("modeltest: %d of %d bytes of tensor %q", len(c.Data[i]), c.Tensors[i].Bytes(), c.Tensors[i].Name)
	}
	return nil
}

// Canonical returns the canonical file of what came.
func (c *Collect) Canonical() (*model.Layout, []byte, error) {
	if err := c.complete(); err != nil {
		return nil, nil, err
	}
	l, err := model.NewLayout(c.Tensors)
	if err != nil {
		return nil, nil, err
	}
	file := append(bytes.Clone(l.Header()), make([]byte, l.DataSize())...)
	for i, t := range c.Tensors {
		k, _ := l.Lookup(t.Name)
		copy(file[int64(len(l.Header()))+l.Tensors()[k].Offset:], c.Data[i])
	}
	return l, file, nil
}

// File returns a canonical file of the layout. The data is a fixed sequence without a short period.
func File(l *model.Layout) []byte {
	file := append(bytes.Clone(l.Header()), make([]byte, l.DataSize())...)
	x := uint64(len(file))
	for i := len(l.Header()); i < len(file); i++ {
		x = x*6364136223846793005 + 1442695040888963407
		file[i] = byte(x >> 56)
	}
	return file
}
