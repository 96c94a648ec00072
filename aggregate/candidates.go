package aggregate

import (
	"context"
	"fmt"
	"io"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
)

// comparing is what the strategies that need the updates themselves have in common.
type comparing struct {
	info   Info
	fewest int // candidates
}

func (s comparing) Info() Info { return s.info }

func (s comparing) Limits() Limits {
	return Limits{Combiners: max(s.fewest, 1), Weight: MaxTotalWeight}
}

// candidate is the model that an update stands for in the strategies that compare updates with each other: the update itself
// when it was trained from x_{r-1}, else x_{r-1} and its step from its own base.
type candidate struct {
	source io.ReaderAt
	weight int64
}

// candidates returns at least so many candidates, one for each combiner: of several updates of one the last of those from the latest
// base counts, lest a combiner outvote the others.
func candidates(r Round, fewest int) ([]candidate, error) {
	voice := map[string]int{}
	var chosen []int
	for i, u := range r.Updates {
		if u.Weight < 1 || u.Weight > MaxTotalWeight {
			return nil, fmt.Errorf("aggregate: update %d: weight %d, want 1 to %d: %w: %w", i, u.Weight, int64(MaxTotalWeight), ErrWeight, ErrRound)
		}
		at, again := voice[u.Name]
		switch {
		case u.Name == "" || !again:
			voice[u.Name] = len(chosen)
			chosen = append(chosen, i)
		case u.BaseRound >= r.Updates[chosen[at]].BaseRound:
			chosen[at] = i
		}
	}
	if n := len(chosen); n < max(fewest, 1) {
		return nil, fmt.Errorf("aggregate: updates from %d combiners, the strategy needs %d: %w", n, max(fewest, 1), ErrRound)
	}
	out := make([]candidate, len(chosen))
	for k, i := range chosen {
		u := r.Updates[i]
		if u.Source == nil {
			return nil, fmt.Errorf("aggregate: update %d: %w", i, ErrSource)
		}
		out[k] = candidate{source: u.Source, weight: u.Weight}
		if u.Base == r.Prev.Digest {
			continue
		}
		base, err := r.base(u.Base)
		if err != nil {
			return nil, err
		}
		if r.Prev.Source == nil {
			return nil, fmt.Errorf("aggregate: the previous model %s is needed: %w", r.Prev.Digest.Short(), ErrSource)
		}
		out[k].source = &movedReader{spec: r.Spec, terms: [3]Term{{u.Source, 1}, {r.Prev.Source, 1}, {base, -1}}}
	}
	return out, nil
}

// movedReader is the canonical file of the exact sum of some models, rounded to the tensors' dtypes and cut to their ranges. Reads are of
// whole elements.
type movedReader struct {
	spec  *Spec
	terms [3]Term
}

func (m *movedReader) ReadAt(p []byte, off int64) (int, error) {
	var acc Acc
	buf := make([]byte, min(len(p), 8*piece))
	one := kernel.NewDivisor(1)
	for i, part := range m.spec.parts(off, p) {
		n, at := &m.spec.numbers[i], max(off, m.spec.start(i))
		size := int(n.dtype.Size())
		if len(part)%size != 0 {
			return 0, fmt.Errorf("read of %d bytes at %d: not whole elements of %s: %w", len(p), off, n.dtype, ErrSpec)
		}
		for len(part) > 0 {
			b := buf[:min(len(part), size*piece)]
			acc.Reset(len(b) / size)
			for _, t := range m.terms {
				if err := readAt(t.Source, b, at); err != nil {
					return 0, err
				}
				n.fold(acc.lo, acc.hi, b, t.Weight)
			}
			n.final(part[:len(b)], acc.lo, acc.hi, 1, one)
			part, at = part[len(b):], at+int64(len(b))
		}
	}
	return len(p), nil
}

// atOnce is how many elements of so many sources are read at the same time.
func atOnce(sources int) int64 { return max(64, min(piece, 1<<18/int64(sources))) }

// rows reads the same elements of all sources, span by span, and calls yield with the bytes of each.
func (s *Spec) rows(ctx context.Context, from, to int64, sources []io.ReaderAt, yield func(Span, [][]byte) error) error {
	if err := s.checkRange(from, to); err != nil {
		return err
	}
	most := atOnce(len(sources))
	buf := make([]byte, 8*most*int64(len(sources)))
	rows := make([][]byte, len(sources))
	for span := range s.Blocks(from, to) {
		size := s.numbers[span.Tensor].dtype.Size()
		for span.Count > 0 {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("aggregate: %w", err)
			}
			now := span
			now.Count = min(span.Count, most)
			for i, source := range sources {
				rows[i] = buf[int64(i)*8*most:][:now.Count*size]
				if err := readAt(source, rows[i], now.Offset); err != nil {
					return fmt.Errorf("aggregate: candidate %d of %d: %w", i+1, len(sources), err)
				}
			}
			if err := yield(now, rows); err != nil {
				return err
			}
			span.First, span.Count, span.Offset = span.First+now.Count, span.Count-now.Count, span.Offset+now.Count*size
		}
	}
	return nil
}
