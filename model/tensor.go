package model

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Hard limits of every layout and decoder.
const (
	// MaxTensors is the most tensors in one model.
	MaxTensors = 1 << 16
	// MaxNameBytes is the longest name of a tensor.
	MaxNameBytes = 512
	// MaxDims is the most dimensions of a tensor, what numpy could always read.
	MaxDims = 32
	// MaxHeaderBytes is the largest JSON header of a safetensors file.
	MaxHeaderBytes = 16 << 20
	// MaxDataBytes is the most bytes of all tensors together: far from overflow.
	MaxDataBytes = 1 << 60
)

// Tensor describes one tensor of a model.
type Tensor struct {
	Name  string
	DType DType
	// Shape holds the dimensions, outermost first; empty for a scalar.
	Shape []int64
	// Offset is where its bytes begin in the data section of a file.
	Offset int64
}

// Elements returns the number of elements: the product of the shape, 1 for a scalar;
// -1 when the shape is invalid or the product too large.
func (t Tensor) Elements() int64 {
	if n := t.Bytes(); n >= 0 {
		return n / t.DType.Size()
	}
	return -1
}

// Bytes returns the number of bytes of all elements; -1 when the dtype or the shape is
// invalid or the product is beyond [MaxDataBytes].
func (t Tensor) Bytes() int64 {
	n, empty := uint64(t.DType.Size()), false
	if n == 0 {
		return -1
	}
	for _, d := range t.Shape {
		if d < 0 {
			return -1
		}
		if d == 0 {
			empty = true
			continue
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo > MaxDataBytes {
			return -1
		}
		n = lo
	}
	if empty {
		return 0
	}
	return int64(n)
}

// Check reports what is wrong with the name, dtype or shape; the offset is not looked at.
func (t Tensor) Check() error {
	if err := CheckName(t.Name); err != nil {
		return err
	}
	if !t.DType.Valid() {
		return fmt.Errorf("model: tensor %q: invalid dtype %d: %w", t.Name, uint8(t.DType), ErrFormat)
	}
	if len(t.Shape) > MaxDims {
		return fmt.Errorf("model: tensor %q: %d dimensions, at most %d are supported: %w", t.Name, len(t.Shape), MaxDims, ErrFormat)
	}
	for i, d := range t.Shape {
		if d < 0 {
			return fmt.Errorf("model: tensor %q: dimension %d is negative (%d): %w", t.Name, i, d, ErrFormat)
		}
	}
	if t.Bytes() < 0 {
		return fmt.Errorf("model: tensor %q: %s overflows: more than 2^60 bytes: %w", t.Name, t.Type(), ErrTooLarge)
	}
	return nil
}

// Type returns the dtype and shape for messages, as "F32 [10,784]".
func (t Tensor) Type() string {
	var b strings.Builder
	b.WriteString(t.DType.String())
	b.WriteString(" [")
	for i, d := range t.Shape {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(d, 10))
	}
	b.WriteByte(']')
	return b.String()
}

// CheckName reports what is wrong with the name of a tensor. One rule holds for all
// formats, so that a model can be converted from each to each: 1 to [MaxNameBytes] bytes of
// UTF-8 without control characters or backslashes, not absolute, without ".." between
// slashes, and not "__metadata__", which safetensors reserves.
func CheckName(name string) error {
	bad := func(why string) error {
		return fmt.Errorf("model: tensor name %.80q %s: %w", name, why, ErrFormat)
	}
	switch {
	case name == "":
		return bad("is empty")
	case len(name) > MaxNameBytes:
		return bad(fmt.Sprintf("is %d bytes long, at most %d are allowed", len(name), MaxNameBytes))
	case name == "__metadata__":
		return bad("is reserved")
	case !utf8.ValidString(name):
		return bad("is not valid UTF-8")
	case strings.HasPrefix(name, "/"):
		return bad("is an absolute path")
	}
	for _, c := range name {
		if c < 0x20 || c == 0x7f || c == '\\' {
			return bad(fmt.Sprintf("contains %q", c))
		}
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return bad(`contains ".."`)
		}
	}
	return nil
}
