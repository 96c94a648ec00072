package aggregate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/fedmesh/fedmesh/aggregate/internal/kernel"
)

// ErrWeight is wrapped by the errors for weights and totals that are out of range.
var ErrWeight = errors.New("weight out of range")

// ErrSource is wrapped by the errors for a model that is needed and not given.
var ErrSource = errors.New("no source")

// Term is a model in a sum.
type Term struct {
	// Source is the canonical file. It is read in ascending order per range, and by as many callers at the same
	// time as ranges are computed; it may be remote. Its values must have passed [Spec.Check].
	Source io.ReaderAt
	// Weight may be negative. A term of weight 0 is not read.
	Weight int64
}

// Workspace is the memory that computing a range takes, 1 MiB at most. The zero value is ready; reuse it for one
// range after the other.
type Workspace struct {
	acc Acc
	buf []byte
}

// bytes returns n bytes with any content.
func (w *Workspace) bytes(n int64) []byte {
	if int64(cap(w.buf)) < n {
		w.buf = make([]byte, n)
	}
	return w.buf[:n]
}

func (w *Workspace) orNew() *Workspace {
	if w == nil {
		return new(Workspace)
	}
	return w
}

// Partial writes the exact sum of the terms over the elements [from, to), encoded, to out: less than [Spec.Section]
// of three updates for most models. The magnitudes of the weights may add up to [MaxTotalWeight]. A nil ws is allowed.
func (s *Spec) Partial(ctx context.Context, ws *Workspace, from, to int64, terms []Term, out io.Writer) error {
	if err := checkTerms(terms, MaxTotalWeight); err != nil {
		return err
	}
	ws = ws.orNew()
	return s.sum(ctx, ws, from, to, terms, nil, func([]Span) error {
		ws.buf = ws.acc.Append(ws.buf[:0])
		return write(out, ws.buf)
	})
}

// Mean writes the bytes of [Spec.Section] for the elements [from, to) of (Σ terms + Σ sums) / total to out. The sums are encoded
// as [Spec.Partial] does over the same range and read once, in order; bytes after them are not read. They are taken
// to be over sets of updates that are disjoint from each other and from the terms.
//
// total is from 1 to [MaxTotalWeight]; the magnitudes of the terms' weights add up to at most three times that maximum. A nil
// ws is allowed. When Mean fails, some of the range may have been written.
func (s *Spec) Mean(ctx context.Context, ws *Workspace, from, to int64, terms []Term, sums []io.Reader, total int64, out io.Writer) (Events, error) {
	var events Events
	if total < 1 || total > MaxTotalWeight {
		return events, fmt.Errorf("aggregate: total weight %d, want 1 to %d: %w", total, int64(MaxTotalWeight), ErrWeight)
	}
	if err := checkTerms(terms, 3*MaxTotalWeight); err != nil {
		return events, err
	}
	ws = ws.orNew()
	d := kernel.NewDivisor(uint64(total))
	err := s.sum(ctx, ws, from, to, terms, sums, func(spans []Span) error {
		p := ws.bytes(s.bytesOf(spans))
		acc, dst := ws.acc, p
		for _, span := range spans {
			n := &s.numbers[span.Tensor]
			size := span.Count * n.dtype.Size()
			sat := n.final(dst[:size], acc.lo[:span.Count], acc.hi[:span.Count], uint64(total), d)
			events.Merge(s.events(sat, span))
			dst, acc.lo, acc.hi = dst[size:], acc.lo[span.Count:], acc.hi[span.Count:]
		}
		return write(out, p)
	})
	return events, err
}

func checkTerms(terms []Term, most int64) error {
	var sum int64
	for i, t := range terms {
		if t.Weight < -MaxTotalWeight || t.Weight > MaxTotalWeight {
			return fmt.Errorf("aggregate: term %d: weight %d, want at most %d: %w", i, t.Weight, int64(MaxTotalWeight), ErrWeight)
		}
		sum += max(t.Weight, -t.Weight)
		if sum > most {
			return fmt.Errorf("aggregate: weights of %d terms add up to more than %d: %w", len(terms), most, ErrWeight)
		}
		if t.Source == nil && t.Weight != 0 {
			return fmt.Errorf("aggregate: term %d: %w", i, ErrSource)
		}
	}
	return nil
}

// sum adds up block after block of the range in the workspace and calls done with the spans of each.
func (s *Spec) sum(ctx context.Context, ws *Workspace, from, to int64, terms []Term, sums []io.Reader, done func([]Span) error) error {
	if err := s.checkRange(from, to); err != nil {
		return err
	}
	var spans []Span
	for ; from < to; from = min(blockEnd(from), to) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("aggregate: %w", err)
		}
		end := min(blockEnd(from), to)
		spans = slices.AppendSeq(spans[:0], s.Blocks(from, end))
		ws.acc.Reset(int(end - from))
		for i, t := range terms {
			if t.Weight == 0 {
				continue
			}
			p := ws.bytes(s.bytesOf(spans))
			if err := readAt(t.Source, p, spans[0].Offset); err != nil {
				return fmt.Errorf("aggregate: source %d of %d: %w", i+1, len(terms), err)
			}
			s.fold(ws.acc, spans, p, t.Weight)
		}
		for i, r := range sums {
			if err := ws.readSums(r); err != nil {
				return fmt.Errorf("partial sum %d of %d, elements %d to %d: %w", i+1, len(sums), from, end, err)
			}
		}
		if err := done(spans); err != nil {
			return err
		}
	}
	return nil
}

// fold adds the bytes of adjacent spans to their accumulators.
func (s *Spec) fold(acc Acc, spans []Span, p []byte, w int64) {
	for _, span := range spans {
		n := &s.numbers[span.Tensor]
		size := span.Count * n.dtype.Size()
		n.fold(acc.lo[:span.Count], acc.hi[:span.Count], p[:size], w)
		p, acc.lo, acc.hi = p[size:], acc.lo[span.Count:], acc.hi[span.Count:]
	}
}

// bytesOf returns the number of bytes of adjacent spans.
func (s *Spec) bytesOf(spans []Span) int64 {
	last := spans[len(spans)-1]
	return last.Offset + last.Count*s.numbers[last.Tensor].dtype.Size() - spans[0].Offset
}

// readAt fills p.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	if n, err := r.ReadAt(p, off); n < len(p) {
		return fmt.Errorf("read %d of %d bytes at %d: %w", n, len(p), off, noEOF(err))
	}
	return nil
}

func noEOF(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func write(w io.Writer, p []byte) error {
	n, err := w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("aggregate: write: %w", err)
	}
	return nil
}
