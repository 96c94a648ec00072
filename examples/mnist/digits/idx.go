package digits

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ErrFormat is wrapped by every error about the contents of a file.
var ErrFormat = errors.New("digits: not an idx file of unsigned bytes")

// maxElements bounds what a header may ask for: the largest file has 47 million.
const maxElements = 1 << 28

// ReadIdx reads one idx file of unsigned bytes to its end, and returns its
// dimensions and its elements in C order.
func ReadIdx(r io.Reader) (dims []int, data []byte, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, nil, fmt.Errorf("%w: header: %w", ErrFormat, err)
	}
	if head[0] != 0 || head[1] != 0 || head[2] != 8 || head[3] < 1 || head[3] > 3 {
		return nil, nil, fmt.Errorf("%w: header %x, want 000008 and 1 to 3 dimensions", ErrFormat, head)
	}
	dims = make([]int, head[3])
	total := 1
	for i := range dims {
		var b [4]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, nil, fmt.Errorf("%w: dimension %d: %w", ErrFormat, i, err)
		}
		n := binary.BigEndian.Uint32(b[:])
		if n == 0 || n > maxElements || int(n) > maxElements/total {
			return nil, nil, fmt.Errorf("%w: dimension %d is %d", ErrFormat, i, n)
		}
		dims[i] = int(n)
		total *= int(n)
	}
	// Read through a limit instead of allocating what the header claims.
	data, err = io.ReadAll(io.LimitReader(r, int64(total)+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: elements: %w", ErrFormat, err)
	}
	if len(data) != total {
		return nil, nil, fmt.Errorf("%w: %d or more bytes of elements for dimensions %v", ErrFormat, len(data), dims)
	}
	return dims, data, nil
}
