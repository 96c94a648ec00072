package model

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
)

// Layout is the set of a model's tensors, placed in canonical order: all of a
// canonical file but the values. It is immutable. Make one with [NewLayout].
type Layout struct {
	tensors  []Tensor
	index    map[string]int
	header   []byte
	data     int64
	elements int64
}

// NewLayout sorts the tensors canonically and gives them their offsets. What it is given
// is copied; offsets in it are ignored. It refuses what [Tensor.Check] refuses, two tensors of
// one name, and sizes beyond this package's limits.
func NewLayout(ts []Tensor) (*Layout, error) {
	if len(ts) > MaxTensors {
		return nil, fmt.Errorf("model: %d tensors, at most %d are supported: %w", len(ts), MaxTensors, ErrTooLarge)
	}
	l := &Layout{tensors: slices.Clone(ts), index: make(map[string]int, len(ts))}
	slices.SortFunc(l.tensors, func(a, b Tensor) int {
		return cmp.Or(cmp.Compare(b.DType, a.DType), cmp.Compare(a.Name, b.Name))
	})
	for i := range l.tensors {
		t := &l.tensors[i]
		if err := t.Check(); err != nil {
			return nil, err
		}
		if _, ok := l.index[t.Name]; ok {
			return nil, fmt.Errorf("model: two tensors are named %q: %w", t.Name, ErrFormat)
		}
		t.Shape = slices.Clip(slices.Clone(t.Shape))
		t.Offset = l.data
		l.index[t.Name] = i
		l.elements += t.Elements()
		if l.data += t.Bytes(); l.data > MaxDataBytes {
			return nil, fmt.Errorf("model: tensor %q: the tensors up to it are more than 2^60 bytes: %w", t.Name, ErrTooLarge)
		}
	}
	l.header = appendHeader(nil, l.tensors)
	if n := len(l.header) - 8; n > MaxHeaderBytes {
		return nil, fmt.Errorf("model: header of %d bytes, at most %d are supported: %w", n, MaxHeaderBytes, ErrTooLarge)
	}
	return l, nil
}

// Tensors returns the tensors in canonical order. The slice is shared: do not change it.
func (l *Layout) Tensors() []Tensor { return l.tensors }

// Header returns the beginning of every canonical file of this layout: the length and the
// padded JSON. The slice is shared: do not change it.
func (l *Layout) Header() []byte { return l.header }

// DataSize returns the bytes of all tensors.
func (l *Layout) DataSize() int64 { return l.data }

// Size returns the bytes of the whole canonical file.
func (l *Layout) Size() int64 { return int64(len(l.header)) + l.data }

// Elements returns the number of elements of all tensors.
func (l *Layout) Elements() int64 { return l.elements }

// Lookup returns the position of the named tensor in [Layout.Tensors].
func (l *Layout) Lookup(name string) (int, bool) {
	i, ok := l.index[name]
	return i, ok
}

// Diff returns nil when other holds the same tensors, else an error that wraps
// [ErrLayout] and names the first difference in the order of the names: a tensor that is missing
// from other, one that is only there, or one of another dtype or shape.
func (l *Layout) Diff(other *Layout) error {
	if slices.Equal(l.header, other.header) {
		return nil
	}
	names := make([]string, 0, len(l.tensors)+len(other.tensors))
	for _, t := range l.tensors {
		names = append(names, t.Name)
	}
	for _, t := range other.tensors {
		names = append(names, t.Name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		i, ok := l.index[name]
		if !ok {
			return fmt.Errorf("model: tensor %q is not expected: %w", name, ErrLayout)
		}
		j, ok := other.index[name]
		if !ok {
			return fmt.Errorf("model: tensor %q is missing: %w", name, ErrLayout)
		}
		if a, b := l.tensors[i].Type(), other.tensors[j].Type(); a != b {
			return fmt.Errorf("model: tensor %q is %s, expected %s: %w", name, b, a, ErrLayout)
		}
	}
	return fmt.Errorf("model: headers differ: %w", ErrLayout)
}

// appendHeader writes the JSON as serde_json does for the reference implementation.
func appendHeader(b []byte, ts []Tensor) []byte {
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, '{')
	for i, t := range ts {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, t.Name)
		b = append(b, `:{"dtype":"`...)
		b = append(b, t.DType.String()...)
		b = append(b, `","shape":[`...)
		for j, d := range t.Shape {
			if j > 0 {
				b = append(b, ',')
			}
			b = strconv.AppendInt(b, d, 10)
		}
		b = append(b, `],"data_offsets":[`...)
		b = strconv.AppendInt(b, t.Offset, 10)
		b = append(b, ',')
		b = strconv.AppendInt(b, t.Offset+t.Bytes(), 10)
		b = append(b, `]}`...)
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	binary.LittleEndian.PutUint64(b, uint64(len(b)-8))
	return b
}

// appendString quotes a name that passed [CheckName]: of all that JSON must escape
// only the quote is left.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}
