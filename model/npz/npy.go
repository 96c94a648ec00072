package npz

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"

	"github.com/fedmesh/fedmesh/model"
)

// maxNpyHeader is more than any header of a supported array needs (numpy itself stops at 10,000 bytes).
const maxNpyHeader = 1 << 16

const npyMagic = "\x93NUMPY"

// npyHeader is what the dictionary at the beginning of an npy file says.
type npyHeader struct {
	dtype   model.DType
	big     bool // big-endian
	fortran bool
	shape   []int64
}

// readHeader reads and parses the beginning of an npy file, up to its data. It also returns the bytes
// it read.
func readHeader(r io.Reader, array string, isBF16 func(string) bool) (npyHeader, []byte, error) {
	where := fmt.Sprintf("array %q: npy header", array)
	b := make([]byte, 10, 128)
	if n, err := io.ReadFull(r, b); err != nil {
		return npyHeader{}, nil, inputError(err, where, int64(n), int64(len(b)))
	}
	if !bytes.HasPrefix(b, []byte(npyMagic)) {
		return npyHeader{}, nil, fmt.Errorf("npz: array %q: not an npy file (it begins with %q): %w", array, b[:6], model.ErrFormat)
	}
	n := int(binary.LittleEndian.Uint16(b[8:]))
	switch major, minor := b[6], b[7]; {
	case minor == 0 && major == 1:
	case minor == 0 && (major == 2 || major == 3):
		b = append(b, 0, 0)
		if k, err := io.ReadFull(r, b[10:]); err != nil {
			return npyHeader{}, nil, inputError(err, where, int64(10+k), int64(len(b)))
		}
		if hi := binary.LittleEndian.Uint16(b[10:]); hi != 0 {
			return npyHeader{}, nil, fmt.Errorf("npz: array %q: npy header of %d bytes, at most %d are allowed: %w", array, binary.LittleEndian.Uint32(b[8:]), maxNpyHeader-1, model.ErrTooLarge)
		}
	default:
		return npyHeader{}, nil, fmt.Errorf("npz: array %q: npy version %d.%d is not supported: %w", array, major, minor, model.ErrFormat)
	}
	start := len(b)
	b = append(b, make([]byte, n)...)
	if k, err := io.ReadFull(r, b[start:]); err != nil {
		return npyHeader{}, nil, inputError(err, where, int64(start+k), int64(len(b)))
	}
	p := npyParser{array: array, b: b[start:], isBF16: isBF16}
	h, err := p.parse()
	return h, b, err
}

// npyParser reads the one Python dictionary that numpy writes:
//
//	{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
//
// with its keys in any order, and nothing else that Python would evaluate.
type npyParser struct {
	array  string
	b      []byte
	i      int
	isBF16 func(string) bool
}

func (p *npyParser) errorf(format string, args ...any) error {
	return fmt.Errorf("npz: array %q: npy header: %s: %w", p.array, fmt.Sprintf(format, args...), model.ErrFormat)
}

// near quotes what stands at the current position.
func (p *npyParser) near() string { return strconv.Quote(string(p.b[p.i:min(p.i+20, len(p.b))])) }

func (p *npyParser) parse() (npyHeader, error) {
	var (
		h    npyHeader
		seen [3]bool
		keys = [3]string{"descr", "fortran_order", "shape"}
	)
	if !p.take('{') {
		return h, p.errorf("no dictionary: %s", p.near())
	}
	for !p.take('}') {
		key, err := p.string()
		if err != nil {
			return h, err
		}
		if !p.take(':') {
			return h, p.errorf("no colon behind %q: %s", key, p.near())
		}
		which := -1
		for i, k := range keys {
			if k == key {
				which = i
			}
		}
		if which < 0 {
			return h, p.errorf("unknown key %q", key)
		}
		if seen[which] {
			return h, p.errorf("key %q appears twice", key)
		}
		seen[which] = true
		switch which {
		case 0:
			err = p.descr(&h)
		case 1:
			h.fortran, err = p.bool()
		case 2:
			h.shape, err = p.shape()
		}
		if err != nil {
			return h, err
		}
		if !p.take(',') {
			if !p.take('}') {
				return h, p.errorf("no comma or brace behind %q: %s", key, p.near())
			}
			break
		}
	}
	for i, k := range keys {
		if !seen[i] {
			return h, p.errorf("key %q is missing", k)
		}
	}
	p.space()
	if p.i < len(p.b) && p.b[p.i] == '\n' {
		p.i++
	}
	if p.i != len(p.b) {
		return h, p.errorf("text behind the dictionary: %s", p.near())
	}
	return h, nil
}

func (p *npyParser) space() {
	for p.i < len(p.b) && p.b[p.i] == ' ' {
		p.i++
	}
}

// take passes over spaces and c, if it is next.
func (p *npyParser) take(c byte) bool {
	p.space()
	if p.i < len(p.b) && p.b[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *npyParser) string() (string, error) {
	p.space()
	if p.i < len(p.b) && (p.b[p.i] == '\'' || p.b[p.i] == '"') {
		rest := p.b[p.i+1:]
		if n := bytes.IndexByte(rest, p.b[p.i]); n >= 0 && n <= 32 && bytes.IndexByte(rest[:n], '\\') < 0 {
			p.i += n + 2
			return string(rest[:n]), nil
		}
	}
	return "", p.errorf("expected a short text in quotes: %s", p.near())
}

func (p *npyParser) bool() (bool, error) {
	p.space()
	for _, v := range []string{"True", "False"} {
		if bytes.HasPrefix(p.b[p.i:], []byte(v)) {
			p.i += len(v)
			return v == "True", nil
		}
	}
	return false, p.errorf("'fortran_order' must be True or False: %s", p.near())
}

func (p *npyParser) shape() ([]int64, error) {
	if !p.take('(') {
		return nil, p.errorf("'shape' must be a tuple: %s", p.near())
	}
	var shape []int64
	for !p.take(')') {
		if len(shape) == model.MaxDims {
			return nil, p.errorf("more than %d dimensions", model.MaxDims)
		}
		start := p.i
		for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
			p.i++
		}
		digits := string(p.b[start:min(p.i, start+20)])
		n, err := strconv.ParseInt(digits, 10, 64)
		switch {
		case digits == "" && p.i < len(p.b) && p.b[p.i] == '-':
			return nil, p.errorf("negative dimension in 'shape': %s", p.near())
		case digits == "", len(digits) > 1 && digits[0] == '0':
			p.i = start
			return nil, p.errorf("expected a dimension in 'shape': %s", p.near())
		case err != nil:
			return nil, fmt.Errorf("npz: array %q: npy header: dimension %s is beyond 64 bits: %w", p.array, digits, model.ErrTooLarge)
		}
		shape = append(shape, n)
		if p.take(',') {
			continue
		}
		if len(shape) == 1 || !p.take(')') { // (3) is a number in Python, (3,) a tuple
			return nil, p.errorf("expected a comma in 'shape': %s", p.near())
		}
		break
	}
	return shape, nil
}

// descr reads the dtype: byte order, kind, bytes per element.
func (p *npyParser) descr(h *npyHeader) error {
	p.space()
	if p.i < len(p.b) && (p.b[p.i] == '[' || p.b[p.i] == '{' || p.b[p.i] == '(') {
		return p.errorf("structured arrays are not supported; save each field as an array")
	}
	s, err := p.string()
	if err != nil {
		return err
	}
	bad := func(why string) error {
		return p.errorf("dtype %q: %s; supported are bool, int8 to int64, uint8 to uint64, float16, float32 and float64", s, why)
	}
	if len(s) < 2 {
		return bad("not understood")
	}
	order, code := s[0], s[1:]
	switch code[0] {
	case 'O':
		return bad("arrays of Python objects are refused, they would have to be unpickled")
	case 'V':
		if code == "V2" && order != '>' {
			if p.isBF16(p.array) {
				h.dtype = model.BF16
				return nil
			}
			return bad("two raw bytes per element; if this is bfloat16, send safetensors, or start the session with bfloat16")
		}
		return bad("raw bytes")
	case 'c':
		return bad("complex numbers")
	case 'U', 'S', 'a':
		return bad("text")
	case 'M', 'm':
		return bad("dates and times")
	}
	if h.dtype = numpyDType(code); h.dtype == 0 {
		return bad("not supported")
	}
	switch {
	case order == '<', order == '|' && h.dtype.Size() == 1:
	case order == '>':
		h.big = h.dtype.Size() > 1
	default:
		return bad("unclear byte order")
	}
	return nil
}

func numpyDType(code string) model.DType {
	for d := model.Bool; d <= model.U64; d++ {
		if d != model.BF16 && descr(d)[1:] == code {
			return d
		}
	}
	return 0
}

// descr returns numpy's name of a dtype, as it writes it on little-endian machines.
func descr(d model.DType) string {
	switch d {
	case model.Bool:
		return "|b1"
	case model.U8:
		return "|u1"
	case model.I8:
		return "|i1"
	case model.U16:
		return "<u2"
	case model.I16:
		return "<i2"
	case model.U32:
		return "<u4"
	case model.I32:
		return "<i4"
	case model.U64:
		return "<u8"
	case model.I64:
		return "<i8"
	case model.F16:
		return "<f2"
	case model.BF16:
		return "<V2"
	case model.F32:
		return "<f4"
	default:
		return "<f8"
	}
}
