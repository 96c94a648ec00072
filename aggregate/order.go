package aggregate

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

// An element's key is an integer that orders as its value does, whatever the dtype. The two zeros have one.

// keys writes the keys of the elements of p.
func (n *number) keys(dst []uint64, p []byte) {
	switch size := n.dtype.Size(); size {
	case 1:
		for i := range dst {
			dst[i] = uint64(p[i])
		}
	case 2:
		for i := range dst {
			dst[i] = uint64(binary.LittleEndian.Uint16(p[2*i:]))
		}
	case 4:
		for i := range dst {
			dst[i] = uint64(binary.LittleEndian.Uint32(p[4*i:]))
		}
	default:
		for i := range dst {
			dst[i] = binary.LittleEndian.Uint64(p[8*i:])
		}
	}
	up := uint(64 - 8*n.dtype.Size())
	switch {
	case n.dtype.Float():
		for i, x := range dst {
			x <<= up
			if x<<1 == 0 {
				x = 0 // -0 is +0
			}
			dst[i] = x ^ (uint64(int64(x)>>63) | 1<<63)
		}
	case n.kind.Signed:
		for i, x := range dst {
			dst[i] = uint64(int64(x<<up)>>up) ^ 1<<63
		}
	}
}

// values writes the values of floats' keys.
func (n *number) values(dst []float64, keys []uint64) {
	down := uint(64 - 8*n.dtype.Size())
	for i, key := range keys {
		x := (key ^ (uint64(^int64(key)>>63) | 1<<63)) >> down
		switch n.dtype {
		case model.F64:
			dst[i] = math.Float64frombits(x)
		case model.F32:
			dst[i] = float64(math.Float32frombits(uint32(x)))
		case model.BF16:
			dst[i] = float64(math.Float32frombits(uint32(x) << 16))
		default:
			dst[i] = half(uint16(x))
		}
	}
}

// meanKey returns the mean of integers' keys, rounded to nearest, half to even.
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

// A window says which of an element's values count, given all in ascending order: those from one index to before another, at least one. The two
// kinds of numbers are floats and the keys of integers.
type window struct {
	floats func(sorted []float64) (from, to int)
	keys   func(sorted []uint64) (from, to int)
}

// always is the window that is the same for all elements.
func always(from, to int) window {
	return window{
		floats: func([]float64) (int, int) { return from, to },
		keys:   func([]uint64) (int, int) { return from, to },
	}
}

// nearest is the window of the m values that are nearest to their median. Of two that are as near the smaller one counts as nearer.
func nearest(m int) window {
	return window{
		floats: func(sorted []float64) (from, to int) {
			to = len(sorted)
			median := float64((sorted[(to-1)/2] + sorted[to/2]) / 2) // halving is a product to compilers
			for to-from > m {                                        // the median is between the ends
				if median-sorted[from] > sorted[to-1]-median {
					from++
				} else {
					to--
				}
			}
			return from, to
		},
		keys: func(sorted []uint64) (from, to int) {
			to = len(sorted)
			median := meanKey([]uint64{sorted[(to-1)/2], sorted[to/2]})
			for to-from > m {
				if median-sorted[from] > sorted[to-1]-median {
					from++
				} else {
					to--
				}
			}
			return from, to
		},
	}
}

// orderPlan computes a model whose elements are each the mean of some of the candidates' that are adjacent in order.
//
// Floats are added up in ascending order in float64, integers exactly; the mean is rounded to nearest, half to even.
type orderPlan struct {
	spec    *Spec
	sources []io.ReaderAt
	window  window
}

func (p *orderPlan) Range(ctx context.Context, ws *Workspace, from, to int64, sums []io.Reader, out Output) (Events, error) {
	if err := noSums(sums); err != nil {
		return Events{}, err
	}
	ws = ws.orNew()
	b := newOrder(len(p.sources), atOnce(len(p.sources)))
	err := p.spec.rows(ctx, from, to, p.sources, func(span Span, rows [][]byte) error {
		n := &p.spec.numbers[span.Tensor]
		dst := ws.bytes(span.Count * n.dtype.Size())
		for i, row := range rows {
			n.keys(b.row(i, span.Count), row)
		}
		b.sort(span.Count)
		b.means(n, dst, span.Count, p.window)
		return write(out.Model, dst)
	})
	return Events{}, err
}

// order holds the keys of some elements of all candidates.
type order struct {
	keys    [][]uint64 // of each candidate; once sorted, the smallest of each element first
	network [][2]int   // comparisons that sort, nil if there are too many
	column  []uint64   // keys of one element
	floats  []float64  // values of one element
	mean    []float64
}

func newOrder(candidates int, most int64) *order {
	b := &order{column: make([]uint64, candidates), floats: make([]float64, candidates), mean: make([]float64, most)}
	all := make([]uint64, int64(candidates)*most)
	for i := range int64(candidates) {
		b.keys = append(b.keys, all[i*most:(i+1)*most])
	}
	if candidates <= 64 {
		b.network = network(candidates)
	}
	return b
}

func (b *order) row(i int, count int64) []uint64 { return b.keys[i][:count] }

// network returns Batcher's merge exchange, which sorts any number of keys: Knuth, The Art of Computer Programming, volume 3, section 5.2.2, algorithm M.
// The smaller key of each pair goes first.
func network(n int) (pairs [][2]int) {
	top := 1 << max(bits.Len(uint(n-1))-1, 0)
	for p := top; p > 0; p /= 2 {
		for q, r, d := top, 0, p; ; q /= 2 {
			for i := range n - d {
				if i&p == r {
					pairs = append(pairs, [2]int{i, i + d})
				}
			}
			if q == p {
				break
			}
			d, r = q-p, p
		}
	}
	return pairs
}

// sort sorts the keys of each element. A network has no branches to guess wrong, and goes through the elements side by side.
func (b *order) sort(count int64) {
	for _, pair := range b.network {
		x, y := b.row(pair[0], count), b.row(pair[1], count)
		for j, k := range x {
			l := y[j]
			x[j], y[j] = min(k, l), max(k, l)
		}
	}
	if b.network != nil {
		return
	}
	for j := range count {
		slices.Sort(b.gather(j))
		for i, k := range b.column {
			b.keys[i][j] = k
		}
	}
}

// gather returns the keys of an element.
func (b *order) gather(j int64) []uint64 {
	for i := range b.column {
		b.column[i] = b.keys[i][j]
	}
	return b.column
}

// means writes the mean of the values in the window of each element.
func (b *order) means(n *number, dst []byte, count int64, w window) {
	size := n.dtype.Size()
	if !n.dtype.Float() {
		for j := range count {
			keys := b.gather(j)
			from, to := w.keys(keys)
			n.putKey(dst[j*size:], meanKey(keys[from:to]))
		}
		return
	}
	mean := b.mean[:count]
	for j := range mean {
		n.values(b.floats, b.gather(int64(j)))
		from, to := w.floats(b.floats)
		var sum float64
		for _, x := range b.floats[from:to] {
			sum += x
		}
		mean[j] = sum / float64(to-from)
	}
	n.store(dst, mean)
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
