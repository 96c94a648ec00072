package model

import (
	"fmt"
	"strings"
)

// DType is the type of a tensor's elements. The zero value is none.
type DType uint8

// The dtypes, in the order of the reference implementation, which sorts tensors by
// it (descending). Elements are little-endian; Bool is one byte, 0 or 1; F16 is IEEE
// binary16 and BF16 the upper half of a binary32.
const (
	Bool DType = iota + 1
	U8
	I8
	I16
	U16
	F16
	BF16
	I32
	U32
	F32
	F64
	I64
	U64
)

type dtypeInfo struct {
	name string
	size int64
}

// info is a function and not a table so that the package has no variables.
func (d DType) info() dtypeInfo {
	switch d {
	case Bool:
		return dtypeInfo{"BOOL", 1}
	case U8:
		return dtypeInfo{"U8", 1}
	case I8:
		return dtypeInfo{"I8", 1}
	case I16:
		return dtypeInfo{"I16", 2}
	case U16:
		return dtypeInfo{"U16", 2}
	case F16:
		return dtypeInfo{"F16", 2}
	case BF16:
		return dtypeInfo{"BF16", 2}
	case I32:
		return dtypeInfo{"I32", 4}
	case U32:
		return dtypeInfo{"U32", 4}
	case F32:
		return dtypeInfo{"F32", 4}
	case F64:
		return dtypeInfo{"F64", 8}
	case I64:
		return dtypeInfo{"I64", 8}
	case U64:
		return dtypeInfo{"U64", 8}
	default:
		return dtypeInfo{}
	}
}

// Size returns the bytes of one element, 0 for an invalid dtype.
func (d DType) Size() int64 { return d.info().size }

// Valid reports whether d is one of the dtypes above.
func (d DType) Valid() bool { return d >= Bool && d <= U64 }

// Float reports whether d is a floating-point dtype.
func (d DType) Float() bool { return d == F16 || d == BF16 || d == F32 || d == F64 }

// String returns the name safetensors files use, as "F32".
func (d DType) String() string {
	if n := d.info().name; n != "" {
		return n
	}
	return fmt.Sprintf("DType(%d)", uint8(d))
}

// ParseDType is the inverse of [DType.String]. Its error lists what is supported.
func ParseDType(s string) (DType, error) {
	for d := Bool; d <= U64; d++ {
		if d.String() == s {
			return d, nil
		}
	}
	var names []string
	for d := Bool; d <= U64; d++ {
		names = append(names, d.String())
	}
	return 0, fmt.Errorf("model: dtype %.32q is not supported; use one of %s: %w", s, strings.Join(names, ", "), ErrFormat)
}
