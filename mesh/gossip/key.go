package gossip

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/hashicorp/memberlist"
)

// A Key encrypts gossip with AES in GCM: 16, 24 or 32 bytes, which all members of a mesh share and nobody else knows.
type Key []byte

// NewKey makes a random key of 32 bytes.
func NewKey() Key {
	k := make(Key, 32)
	_, _ = rand.Read(k) // never fails
	return k
}

// ParseKey reads a key from base64. Its errors do not repeat the text.
func ParseKey(s string) (Key, error) {
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(s))
	if err != nil {
		return nil, fmt.Errorf("gossip: a key is not base64: %w", err)
	}
	if memberlist.ValidateKey(b) != nil {
		return nil, fmt.Errorf("gossip: a key of %d bytes; it must have 16, 24 or 32, in base64", len(b))
	}
	return b, nil
}

// Text is the key in base64, as ParseKey reads it.
func (k Key) Text() string { return base64.StdEncoding.EncodeToString(k) }

// String is the fingerprint, so that a key is not printed by accident.
func (k Key) String() string { return k.Fingerprint() }

// Fingerprint names the key to people without telling it: 16 hexadecimal digits.
func (k Key) Fingerprint() string {
	h := sha256.New()
	h.Write([]byte("fedmesh gossip key\x00"))
	h.Write(k)
	return hex.EncodeToString(h.Sum(nil)[:8])
}
