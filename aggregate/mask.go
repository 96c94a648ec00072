package aggregate

import "io"

// mask is a model in which tensors of one kind are zero.
type mask struct {
	spec   *Spec
	source io.ReaderAt
	floats bool // zero the integer and bool tensors; else the others
}

// only returns the model with all but its float tensors zero, or all but its integer and bool tensors: nil if all of them are zero then.
func (s *Spec) only(floats bool, source io.ReaderAt) io.ReaderAt {
	all, some := true, false
	for i := range s.numbers {
		is := s.numbers[i].dtype.Float() == floats
		all, some = all && is, some || is
	}
	switch {
	case !some:
		return nil
	case all:
		return source
	}
	return &mask{spec: s, source: source, floats: floats}
}

func (m *mask) ReadAt(p []byte, off int64) (int, error) {
	n, err := m.source.ReadAt(p, off)
	for i, part := range m.spec.parts(off, p[:n]) {
		if m.spec.numbers[i].dtype.Float() != m.floats {
			clear(part)
		}
	}
	return n, err
}
