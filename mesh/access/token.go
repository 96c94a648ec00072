package access

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

const (
	tokenPrefix = "fedmesh_" // tools that look for secrets in the wrong places can find it
	tokenBytes  = 32
)

// ErrForm is the error of a text that is no token.
var ErrForm = errors.New(`access: not a token: one is "fedmesh_" and 43 characters, as fedmesh token new prints it`)

// NewToken makes a token.
func NewToken() string {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// Hash is what is kept of a token.
type Hash [sha256.Size]byte

// HashOf returns a token's hash; ErrForm when it is none.
func HashOf(token string) (Hash, error) {
	text, ours := strings.CutPrefix(token, tokenPrefix)
	if !ours || len(text) != base64.RawURLEncoding.EncodedLen(tokenBytes) {
		return Hash{}, ErrForm
	}
	if _, err := base64.RawURLEncoding.Strict().DecodeString(text); err != nil {
		return Hash{}, ErrForm
	}
	return sha256.Sum256([]byte(token)), nil
}

// String is the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes hex.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads hex.
func (h *Hash) UnmarshalText(b []byte) error {
	if n, err := hex.Decode(h[:], b[:min(len(b), 2*len(h))]); err != nil || n != len(h) || len(b) != 2*len(h) {
		return fmt.Errorf("a hash is %d hex digits", 2*len(h))
	}
	return nil
}
