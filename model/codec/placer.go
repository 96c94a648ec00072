package codec

import (
	"fmt"
	"hash"
	"io"

	"github.com/fedmesh/fedmesh/model"
)

// small is the length up to which writes that follow each other are gathered in a buffer of
// gather bytes: models of many small tensors would otherwise cost a system call each.
const (
	small  = 4 << 10
	gather = 16 << 10
)

// placer is the sink that writes every tensor to its place in the canonical file and hashes in passing
// what comes in order.
type placer struct {
	layout *model.Layout
	base   int64 // of the data section
	dst    File
	check  func(int, model.Tensor, int64, []byte) error
	seen   []bool
	left   int // tensors still to come

	tensor int // the current one
	elem   int64
	part   [8]byte // an element split over two writes
	nPart  int

	at      int64  // where in the file the next byte goes
	pending []byte // gathered, ends at at
	hash    hash.Hash
	hashed  int64 // bytes of the file in hash
}

func newPlacer(l *model.Layout, dst File, check func(int, model.Tensor, int64, []byte) error) (*placer, error) {
	n := len(l.Tensors())
	if n == 0 {
		return nil, fmt.Errorf("codec: a model without tensors: %w", model.ErrFormat)
	}
	p := &placer{
		layout: l,
		base:   int64(len(l.Header())),
		dst:    dst,
		check:  check,
		seen:   make([]bool, n),
		left:   n,
		hash:   model.NewHash(),
	}
	return p, p.put(l.Header())
}

// IsBF16 implements npz.BF16Sink.
func (p *placer) IsBF16(name string) bool {
	i, ok := p.layout.Lookup(name)
	return ok && p.layout.Tensors()[i].DType == model.BF16
}

// Tensor implements model.Sink.
func (p *placer) Tensor(name string, dt model.DType, shape []int64) (io.Writer, error) {
	i, ok := p.layout.Lookup(name)
	if !ok {
		return nil, fmt.Errorf("codec: tensor %q is not expected: %w", name, model.ErrLayout)
	}
	if p.seen[i] { // decoders refuse it too
		return nil, fmt.Errorf("codec: tensor %q appears twice: %w", name, model.ErrFormat)
	}
	want := p.layout.Tensors()[i]
	got := model.Tensor{Name: name, DType: dt, Shape: shape}
	if got.Type() != want.Type() {
		return nil, fmt.Errorf("codec: tensor %q is %s, expected %s: %w", name, got.Type(), want.Type(), model.ErrLayout)
	}
	p.seen[i] = true
	p.left--
	p.tensor, p.elem, p.nPart = i, 0, 0
	if at := p.base + want.Offset; at != p.at {
		if err := p.flush(); err != nil {
			return nil, err
		}
		p.at = at
	}
	return p, nil
}

// Write takes the next bytes of the current tensor.
func (p *placer) Write(b []byte) (int, error) {
	if p.check != nil {
		if err := p.checkElements(b); err != nil {
			return 0, err
		}
	}
	return len(b), p.place(b)
}

// checkElements passes whole elements to the check. One that is split over two writes is put together.
func (p *placer) checkElements(b []byte) error {
	t := p.layout.Tensors()[p.tensor]
	size := int(t.DType.Size())
	if p.nPart > 0 {
		n := copy(p.part[p.nPart:size], b)
		p.nPart += n
		b = b[n:]
		if p.nPart < size {
			return nil
		}
		if err := p.check(p.tensor, t, p.elem, p.part[:size]); err != nil {
			return err
		}
		p.elem++
	}
	whole := len(b) - len(b)%size
	p.nPart = copy(p.part[:], b[whole:])
	if whole == 0 {
		return nil
	}
	if err := p.check(p.tensor, t, p.elem, b[:whole]); err != nil {
		return err
	}
	p.elem += int64(whole / size)
	return nil
}

// place writes b at p.at, at once or with what follows it.
func (p *placer) place(b []byte) error {
	if len(b) > small || len(p.pending)+len(b) > gather {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if len(b) > small {
		return p.put(b)
	}
	p.pending = append(p.pending, b...)
	p.at += int64(len(b))
	return nil
}

func (p *placer) flush() error {
	b := p.pending
	p.pending = p.pending[:0]
	p.at -= int64(len(b))
	return p.put(b)
}

// put writes b to the file at p.at and hashes it, if it is what the hash needs next.
func (p *placer) put(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := p.dst.WriteAt(b, p.at); err != nil {
		return fmt.Errorf("codec: writing the model at byte %d: %w", p.at, err)
	}
	if p.hashed == p.at {
		_, _ = p.hash.Write(b) // never fails
		p.hashed += int64(len(b))
	}
	p.at += int64(len(b))
	return nil
}

// finish checks that nothing is missing and hashes what was not hashed in passing.
func (p *placer) finish() (*model.Layout, model.Digest, error) {
	if err := p.flush(); err != nil {
		return nil, model.Digest{}, err
	}
	if p.left > 0 {
		return nil, model.Digest{}, p.missing()
	}
	if rest := p.layout.Size() - p.hashed; rest > 0 {
		if err := copyAt(p.hash, p.dst, p.hashed, rest, make([]byte, min(copyBuffer, rest)), "the model back to hash it"); err != nil {
			return nil, model.Digest{}, err
		}
	}
	var d model.Digest
	p.hash.Sum(d[:0])
	return p.layout, d, nil
}

func (p *placer) missing() error {
	first := ""
	for i, t := range p.layout.Tensors() {
		if !p.seen[i] && (first == "" || t.Name < first) {
			first = t.Name
		}
	}
	others := ""
	if p.left > 1 {
		others = fmt.Sprintf(" (and %d others)", p.left-1)
	}
	return fmt.Errorf("codec: tensor %q is missing%s: %w", first, others, model.ErrLayout)
}
