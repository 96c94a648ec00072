package safetensors

import (
	"fmt"
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/fedmesh/fedmesh/model"
)

// parser reads the JSON header. It is written for this one grammar because encoding/json mends
// invalid strings and keeps the last of two equal keys, and both must be refused.
type parser struct {
	b          []byte
	i          int
	maxTensors int
}

type entry struct {
	model.Tensor
	begin, end int64
}

func (p *parser) errorf(format string, args ...any) error {
	return fmt.Errorf("safetensors: header at byte %d: %s: %w", 8+p.i, fmt.Sprintf(format, args...), model.ErrFormat)
}

// header reads the whole of it.
func (p *parser) header() ([]entry, error) {
	if len(p.b) == 0 || p.b[0] != '{' {
		return nil, p.errorf(`it must begin with "{"`)
	}
	var entries []entry
	seen := make(map[string]bool)
	err := p.object(func() error {
		name, err := p.key(seen)
		if err != nil {
			return err
		}
		if name == "__metadata__" {
			return p.metadata()
		}
		if len(entries) == p.maxTensors {
			return fmt.Errorf("safetensors: more than %d tensors: %w", p.maxTensors, model.ErrTooLarge)
		}
		e, err := p.tensor(name)
		if err != nil {
			return err
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.space()
	if p.i != len(p.b) {
		return nil, p.errorf("text after the closing brace")
	}
	return entries, nil
}

// metadata checks that the value is an object of strings, and drops it. The number of its keys is
// limited because each costs many times its bytes in memory.
func (p *parser) metadata() error {
	seen := make(map[string]bool)
	return p.object(func() error {
		if len(seen) == model.MaxTensors {
			return fmt.Errorf("safetensors: __metadata__ has more than %d keys: %w", model.MaxTensors, model.ErrTooLarge)
		}
		if _, err := p.key(seen); err != nil {
			return err
		}
		_, err := p.string()
		return err
	})
}

func (p *parser) tensor(name string) (entry, error) {
	e := entry{Tensor: model.Tensor{Name: name}}
	seen := make(map[string]bool, 3)
	err := p.object(func() error {
		key, err := p.key(seen)
		if err != nil {
			return err
		}
		switch key {
		case "dtype":
			s, err := p.string()
			if err != nil {
				return err
			}
			if e.DType, err = model.ParseDType(s); err != nil {
				return fmt.Errorf("safetensors: tensor %q: %w", name, err)
			}
			return nil
		case "shape":
			e.Shape, err = p.numbers(name, "shape", model.MaxDims)
			return err
		case "data_offsets":
			o, err := p.numbers(name, "data_offsets", 2)
			if err != nil {
				return err
			}
			if len(o) != 2 {
				return p.errorf("tensor %q: data_offsets needs two numbers", name)
			}
			e.begin, e.end = o[0], o[1]
			return nil
		}
		return p.errorf("tensor %q: unknown key %.80q", name, key)
	})
	if err != nil {
		return entry{}, err
	}
	for _, key := range []string{"dtype", "shape", "data_offsets"} {
		if !seen[key] {
			return entry{}, p.errorf("tensor %q: %q is missing", name, key)
		}
	}
	if err := e.Check(); err != nil {
		return entry{}, fmt.Errorf("safetensors: %w", err)
	}
	return e, nil
}

// numbers reads an array of at most most non-negative integers.
func (p *parser) numbers(name, key string, most int) ([]int64, error) {
	var out []int64
	err := p.list('[', ']', func() error {
		if len(out) == most {
			return p.errorf("tensor %q: %s has more than %d numbers", name, key, most)
		}
		p.space()
		start := p.i
		if p.i < len(p.b) && p.b[p.i] == '-' {
			p.i++
		}
		for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
			p.i++
		}
		text := string(p.b[start:min(p.i, start+40)])
		n, err := strconv.ParseInt(text, 10, 64)
		switch {
		case text == "" || text == "-":
			return p.errorf("tensor %q: %s: expected an integer", name, key)
		case text[0] == '-':
			return p.errorf("tensor %q: %s: negative number %s", name, key, text)
		case text[0] == '0' && len(text) > 1:
			return p.errorf("tensor %q: %s: number %s with a leading zero", name, key, text)
		case err != nil:
			return fmt.Errorf("safetensors: tensor %q: %s: number %s is beyond %d: %w", name, key, text, int64(math.MaxInt64), model.ErrTooLarge)
		}
		out = append(out, n)
		return nil
	})
	return out, err
}

// object reads braces around members; member reads one, key and value.
func (p *parser) object(member func() error) error { return p.list('{', '}', member) }

func (p *parser) list(open, end byte, item func() error) error {
	if err := p.expect(open); err != nil {
		return err
	}
	p.space()
	if p.i < len(p.b) && p.b[p.i] == end {
		p.i++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		p.space()
		if p.i < len(p.b) && p.b[p.i] == ',' {
			p.i++
			continue
		}
		return p.expect(end)
	}
}

// key reads a member's name and the colon, and refuses one that was seen.
func (p *parser) key(seen map[string]bool) (string, error) {
	s, err := p.string()
	if err != nil {
		return "", err
	}
	if seen[s] {
		return "", p.errorf("key %.80q appears twice", s)
	}
	seen[s] = true
	return s, p.expect(':')
}

func (p *parser) expect(c byte) error {
	p.space()
	if p.i >= len(p.b) {
		return p.errorf("it ends where %q is expected", c)
	}
	if p.b[p.i] != c {
		return p.errorf("%q where %q is expected", p.b[p.i], c)
	}
	p.i++
	return nil
}

func (p *parser) space() {
	for p.i < len(p.b) {
		switch p.b[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

func (p *parser) string() (string, error) {
	if err := p.expect('"'); err != nil {
		return "", err
	}
	var out []byte
	for p.i < len(p.b) {
		switch c := p.b[p.i]; {
		case c == '"':
			p.i++
			return string(out), nil
		case c < 0x20:
			return "", p.errorf("control character %#02x in a string", c)
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		default:
			r, n := utf8.DecodeRune(p.b[p.i:])
			if r == utf8.RuneError && n == 1 {
				return "", p.errorf("invalid UTF-8 in a string")
			}
			out = append(out, p.b[p.i:p.i+n]...)
			p.i += n
		}
	}
	return "", p.errorf("it ends inside a string")
}

func (p *parser) escape() (rune, error) {
	p.i++ // the backslash
	if p.i >= len(p.b) {
		return 0, p.errorf("it ends inside a string")
	}
	c := p.b[p.i]
	p.i++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		r, err := p.hex4()
		if err != nil || !utf16.IsSurrogate(r) {
			return r, err
		}
		if p.i+1 < len(p.b) && p.b[p.i] == '\\' && p.b[p.i+1] == 'u' {
			p.i += 2
			low, err := p.hex4()
			if err != nil {
				return 0, err
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				return r, nil
			}
		}
		return 0, p.errorf("unpaired surrogate in a string")
	}
	return 0, p.errorf("unknown escape %q in a string", c)
}

func (p *parser) hex4() (rune, error) {
	if p.i+4 > len(p.b) {
		return 0, p.errorf("it ends inside a string")
	}
	n, err := strconv.ParseUint(string(p.b[p.i:p.i+4]), 16, 16)
	if err != nil {
		return 0, p.errorf(`\u needs four hex digits`)
	}
	p.i += 4
	return rune(n), nil
}
