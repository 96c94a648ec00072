package model

import (
	"cmp"
	"io"
)

// Sink receives what a decoder finds. The decoder announces a tensor and then writes
// exactly its bytes, little-endian and row-major, in pieces of any length, to the writer it was
// given (nothing when the tensor has no elements), before it announces the next. Slices it passes
// are its own and valid during the call. An error of the Sink ends the decoding and is returned
// as it is.
type Sink interface {
	Tensor(name string, dt DType, shape []int64) (io.Writer, error)
}

// Limits bounds what a decoder accepts from outside. Zero fields stand for the largest
// allowed values, except Bytes.
type Limits struct {
	// Bytes of all tensors; 0 stands for 4 GiB.
	Bytes int64
	// Header bytes of a safetensors file; at most, and by default, [MaxHeaderBytes].
	Header int64
	// Tensors in one model; at most, and by default, [MaxTensors].
	Tensors int
	// Inflated bytes from which on a deflated archive must not come out more than 100 times as long as it went in; 0
	// stands for no such rule.
	Inflated int64
}

// WithDefaults returns l with zero fields filled in and large ones cut.
func (l Limits) WithDefaults() Limits {
	return Limits{
		Bytes:    min(cmp.Or(l.Bytes, 4<<30), MaxDataBytes),
		Header:   min(cmp.Or(l.Header, MaxHeaderBytes), MaxHeaderBytes),
		Tensors:  min(cmp.Or(l.Tensors, MaxTensors), MaxTensors),
		Inflated: l.Inflated,
	}
}
