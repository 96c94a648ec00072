package access

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"
)

// Bounds of a tokens file.
const (
	MaxFile   = 4 << 20 // bytes
	MaxTokens = 10_000
	maxFaults = 20 // named of one file
)

// Why a token is refused.
var (
	ErrUnknown = errors.New("access: the token is not known here")
	ErrExpired = errors.New("access: the token has expired")
)

// Set is the tokens of a file. It does not change.
type Set struct {
	tokens []token
}

type token struct {
	Grant
	hash Hash
}

// line is a token as the file has it.
type line struct {
	Name     string     `json:"name"`
	Role     Role       `json:"role"`
	Combiner string     `json:"combiner,omitempty"`
	Sessions []string   `json:"sessions,omitempty"`
	Expires  *time.Time `json:"expires,omitempty"`
	SHA256   *Hash      `json:"sha256"`
}

// Line is what a tokens file has of a token, without the line's end.
func Line(g Grant, h Hash) (string, error) {
	if err := g.Validate(); err != nil {
		return "", fmt.Errorf("access: %w", err)
	}
	l := line{Name: g.Name, Role: g.Role, Combiner: g.Combiner, Sessions: g.Sessions, SHA256: &h}
	if !g.Expires.IsZero() {
		at := g.Expires.UTC().Truncate(time.Second)
		l.Expires = &at
	}
	b, err := json.Marshal(l)
	if err != nil {
		return "", fmt.Errorf("access: %w", err)
	}
	return string(b), nil
}

// Parse reads a tokens file. The error lists the faults, each with its line.
func Parse(b []byte) (*Set, error) {
	if len(b) > MaxFile {
		return nil, fmt.Errorf("access: a tokens file of more than %d bytes", MaxFile)
	}
	s := &Set{}
	var faults []error
	names, hashes := map[string]int{}, map[Hash]int{}
	number := 0
	for text := range strings.Lines(string(bytes.TrimPrefix(b, []byte("\ufeff")))) {
		number++
		if text = strings.TrimSpace(text); text == "" || text[0] == '#' {
			continue
		}
		t, err := parseLine(text)
		if err == nil && names[t.Name] > 0 {
			err = fmt.Errorf("the name %q is line %d's", t.Name, names[t.Name])
		}
		if err == nil && hashes[t.hash] > 0 {
			err = fmt.Errorf("the token is the same as in line %d", hashes[t.hash])
		}
		if err == nil && len(s.tokens) == MaxTokens {
			return nil, fmt.Errorf("access: line %d: more than %d tokens", number, MaxTokens)
		}
		if err != nil {
			if faults = append(faults, fmt.Errorf("line %d: %w", number, err)); len(faults) == maxFaults {
				break
			}
			continue
		}
		names[t.Name], hashes[t.hash] = number, number
		s.tokens = append(s.tokens, t)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return s, nil
}

func parseLine(text string) (token, error) {
	var l line
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = errors.New("it ends too early")
		}
		return token{}, fmt.Errorf("not a token as fedmesh token new writes it: %s", clip(strings.TrimPrefix(err.Error(), "json: ")))
	}
	if rest := strings.TrimSpace(text[d.InputOffset():]); rest != "" {
		return token{}, fmt.Errorf("%+q follows the token; each has a line of its own", clip(rest))
	}
	t := token{Grant: Grant{Name: l.Name, Role: l.Role, Combiner: l.Combiner, Sessions: l.Sessions}}
	if l.Expires != nil {
		if l.Expires.IsZero() {
			return token{}, errors.New("expires is the year 1; leave it out for a token that does not expire")
		}
		t.Expires = *l.Expires
	}
	if l.Sessions != nil && len(l.Sessions) == 0 {
		return token{}, errors.New("sessions is empty; leave it out for a token that is good for all")
	}
	if l.SHA256 == nil {
		return token{}, errors.New(`"sha256" is missing: the hash of the token in 64 hex digits`)
	}
	t.hash = *l.SHA256
	return t, t.Validate()
}

// Len is the number of tokens.
func (s *Set) Len() int { return len(s.tokens) }

// Has reports whether there is a token of a role, expired or not.
func (s *Set) Has(r Role) bool {
	for _, t := range s.tokens {
		if t.Role == r {
			return true
		}
	}
	return false
}

// HasName reports whether a token has a name.
func (s *Set) HasName(name string) bool {
	for _, t := range s.tokens {
		if t.Name == name {
			return true
		}
	}
	return false
}

// Find returns what the token with a hash allows now: ErrUnknown when there is none, ErrExpired, with what it allowed, when it did once. All
// hashes are compared, each in constant time.
func (s *Set) Find(h Hash, now time.Time) (Grant, error) {
	at := -1
	for i := range s.tokens {
		at = subtle.ConstantTimeSelect(subtle.ConstantTimeCompare(s.tokens[i].hash[:], h[:]), i, at)
	}
	switch {
	case at < 0:
		return Grant{}, ErrUnknown
	case s.tokens[at].expired(now):
		return s.tokens[at].Grant, ErrExpired
	}
	return s.tokens[at].Grant, nil
}

// Grants lists what the tokens allow, as the file has them.
func (s *Set) Grants() iter.Seq[Grant] {
	return func(yield func(Grant) bool) {
		for _, t := range s.tokens {
			if !yield(t.Grant) {
				return
			}
		}
	}
}
