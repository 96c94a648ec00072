package aggregate

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"slices"
)

// An element's key is an integer that orders as its value does, whatever the dtype. The two zeros have one.

// key returns the key of the first element of p.
func (n *number) key(p []byte) uint64 {
	var x uint64
	size := n.dtype.Size()
	switch size {
	case 1:
		x = uint64(p[0])
	case 2:
		x = uint64(binary.LittleEndian.Uint16(p))
	case 4:
		x = uint64(binary.LittleEndian.Uint32(p))
	default:
		x = binary.LittleEndian.Uint64(p)
	}
	up := uint(64 - 8*size)
	switch {
	case n.dtype.Float():
		x <<= up
		if x<<1 == 0 {
			return 1 << 63
		}
		return x ^ (uint64(int64(x)>>63) | 1<<63)
	case n.kind.Signed:
		return uint64(int64(x<<up)>>up) ^ 1<<63
	}
	return x
}

// value returns the value of a float's key.
func (n *number) value(key uint64) float64 {
	x := key ^ (uint64(^int64(key)>>63) | 1<<63)
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], x)
	var out [1]float64
	n.load(out[:], b[8-n.dtype.Size():])
	return out[0]
}

// mean writes the mean of elements, given by their keys in ascending order. Floats are added up in that order in float64, integers exactly; the
// mean is rounded to nearest, half to even.
func (n *number) mean(dst []byte, keys []uint64) {
	if n.dtype.Float() {
		var sum float64
		for _, k := range keys {
			sum += n.value(k)
		}
		n.store(dst, []float64{sum / float64(len(keys))})
		return
	}
	n.putKey(dst, meanKey(keys))
}

// meanKey returns the mean of integers' keys.
func meanKey(keys []uint64) uint64 {
	var lo, hi, c uint64
	for _, k := range keys {
		lo, c = bits.Add64(lo, k, 0)
		hi += c
	}
	count := uint64(len(keys))
	q, r := bits.Div64(hi, lo, count)
	if r > count-r || r == count-r && q&1 == 1 {
		q++
	}
	return q
}

// putKey writes an integer.
func (n *number) putKey(dst []byte, key uint64) {
	if n.kind.Signed {
		key ^= 1 << 63
	}
	switch n.dtype.Size() {
	case 1:
		dst[0] = byte(key)
	case 2:
		binary.LittleEndian.PutUint16(dst, uint16(key))
	case 4:
		binary.LittleEndian.PutUint32(dst, uint32(key))
	default:
		binary.LittleEndian.PutUint64(dst, key)
	}
}

// nearest returns the ends of those m of the keys, in ascending order, whose values are nearest to their median. Of two that are as
// near the smaller one counts as nearer.
func (n *number) nearest(keys []uint64, m int) (from, to int) {
	from, to = 0, len(keys)
	low, high := keys[(to-1)/2], keys[to/2]
	float := n.dtype.Float()
	var middle float64
	middleKey := meanKey([]uint64{low, high})
	if float {
		middle = (n.value(low) + n.value(high)) / 2
	}
	for to-from > m {
		// The median is between the ends.
		var below bool // the lower end is farther away
		if float {
			below = middle-n.value(keys[from]) > n.value(keys[to-1])-middle
		} else {
			below = middleKey-keys[from] > keys[to-1]-middleKey
		}
		if below {
			from++
		} else {
			to--
		}
	}
	return from, to
}

// orderPlan computes a model whose elements are each the mean of some of the candidates' that are adjacent in order.
type orderPlan struct {
	spec    *Spec
	sources []io.ReaderAt
	// choose returns which of the sorted keys: [from, to), not empty.
	choose func(n *number, keys []uint64) (from, to int)
}

func (p *orderPlan) Range(ctx context.Context, ws *Workspace, from, to int64, sums []io.Reader, out Output) (Events, error) {
	if err := noSums(sums); err != nil {
		return Events{}, err
	}
	ws = ws.orNew()
	count := len(p.sources)
	var keys []uint64 // of an element, then those of the next
	err := p.spec.rows(ctx, from, to, p.sources, func(span Span, rows [][]byte) error {
		n := &p.spec.numbers[span.Tensor]
		size := n.dtype.Size()
		keys = slices.Grow(keys[:0], count*int(span.Count))[:count*int(span.Count)]
		for i, row := range rows {
			for j := range int(span.Count) {
				keys[j*count+i] = n.key(row[int64(j)*size:])
			}
		}
		dst := ws.bytes(span.Count * size)
		for j := range int(span.Count) {
			k := keys[j*count : (j+1)*count]
			slices.Sort(k)
			a, b := p.choose(n, k)
			n.mean(dst[int64(j)*size:][:size], k[a:b])
		}
		return write(out.Model, dst)
	})
	return Events{}, err
}

// noSums refuses sums where the updates themselves are needed.
func noSums(sums []io.Reader) error {
	if len(sums) > 0 {
		return fmt.Errorf("aggregate: %d sums for a strategy that needs the updates themselves: %w", len(sums), ErrSource)
	}
	return nil
}

func sourcesOf(cs []candidate) []io.ReaderAt {
	out := make([]io.ReaderAt, len(cs))
	for i, c := range cs {
		out[i] = c.source
	}
	return out
}
