package codec

import (
	"bytes"
	"fmt"

	"github.com/fedmesh/fedmesh/model"
)

// Format is a format that models are exchanged in. The zero value is none.
type Format uint8

// The formats.
const (
	Safetensors Format = iota + 1
	NPZ
)

// String returns the name of the format, "safetensors" or "npz".
func (f Format) String() string {
	switch f {
	case Safetensors:
		return "safetensors"
	case NPZ:
		return "npz"
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// ParseFormat is the inverse of [Format.String].
func ParseFormat(s string) (Format, error) {
	switch s {
	case "safetensors":
		return Safetensors, nil
	case "npz":
		return NPZ, nil
	}
	return 0, fmt.Errorf("codec: unknown format %.40q; use safetensors or npz", s)
}

// DetectBytes is how much of a file [Detect] looks at.
const DetectBytes = 9

// Detect tells the format of a file from its first [DetectBytes] bytes, or all if it has fewer. Its error
// wraps [model.ErrFormat] and names what it recognises instead.
func Detect(prefix []byte) (Format, error) {
	has := func(s string) bool { return bytes.HasPrefix(prefix, []byte(s)) }
	refuse := func(format string, args ...any) (Format, error) {
		return 0, fmt.Errorf("codec: %s; send safetensors or npz: %w", fmt.Sprintf(format, args...), model.ErrFormat)
	}
	switch {
	case len(prefix) == 0:
		return refuse("the input is empty")
	case has("PK\x03\x04"), has("PK\x05\x06"):
		return NPZ, nil
	case len(prefix) >= DetectBytes && prefix[8] == '{':
		return Safetensors, nil
	case has("\x93NUMPY"):
		return refuse("the input is a single npy array; use numpy.savez")
	case has("\x89HDF\r\n\x1a\n"):
		return refuse("the input is an HDF5 file")
	case has("\x1f\x8b"):
		return refuse("the input is compressed with gzip")
	case has("\x80\x02"), has("\x80\x03"), has("\x80\x04"), has("\x80\x05"):
		return refuse("the input is a Python pickle, which could run code")
	}
	return refuse("the input is in no known format (it begins with %q)", prefix[:min(len(prefix), DetectBytes)])
}
