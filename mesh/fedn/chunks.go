package fedn

import (
	"bufio"
	"errors"
	"io"
)

// pieceBytes is how much of a model goes into one message, as in FEDn.
const pieceBytes = 1 << 20

// pieces reads a model that comes in messages. One without data, or the end of the
// stream, ends it.
type pieces struct {
	next func() ([]byte, error)
	left []byte
	err  error
}

func (p *pieces) Read(b []byte) (int, error) {
	for len(p.left) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		if p.left, p.err = p.next(); p.err == nil && len(p.left) == 0 {
			p.err = io.EOF
		}
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}

// drain reads the rest, so that the sender is not cut off in the middle.
func (p *pieces) drain() error {
	p.left = nil
	for p.err == nil {
		_, p.err = p.next()
	}
	if errors.Is(p.err, io.EOF) {
		return nil
	}
	return p.err
}

// sender writes a model as messages.
type sender struct {
	send func([]byte) error
	buf  []byte
}

func (s *sender) Write(b []byte) (int, error) {
	total := len(b)
	for len(b) > 0 {
		n := min(len(b), pieceBytes-len(s.buf))
		s.buf = append(s.buf, b[:n]...)
		b = b[n:]
		if len(s.buf) == pieceBytes {
			if err := s.flush(); err != nil {
				return 0, err
			}
		}
	}
	return total, nil
}

func (s *sender) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	err := s.send(s.buf)
	s.buf = make([]byte, 0, pieceBytes) // the message may be on its way still
	return err
}

// end sends what is left and the message that ends the stream.
func (s *sender) end() error {
	if err := s.flush(); err != nil {
		return err
	}
	return s.send(nil)
}

func newBuffered(w io.Writer) *bufio.Writer { return bufio.NewWriterSize(w, pieceBytes) }

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, pieceBytes) }
