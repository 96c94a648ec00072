package gossip

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"sync"
)

// Memberlist encrypts a message to one byte of version, a nonce, and the ciphertext with its tag.
const (
	sealVersion  = 1
	nonceSize    = 12
	tagSize      = 16
	sealOverhead = 1 + nonceSize + tagSize
)

// ErrUnauthentic is the error for what none of the keyring's keys has encrypted.
var ErrUnauthentic = errors.New("gossip: encrypted with a key that is not in the keyring, or altered")

type nonce [nonceSize]byte

// Seal encrypts with the primary key; Open needs the same context.
func (k *Keyring) Seal(plain, context []byte) ([]byte, error) {
	aead, err := aeadOf(k.snapshot()[0])
	if err != nil {
		return nil, err
	}
	out := make([]byte, 1+nonceSize, sealOverhead+len(plain))
	out[0] = sealVersion
	_, _ = rand.Read(out[1:]) // never fails
	return aead.Seal(out, out[1:1+nonceSize], plain, context), nil
}

// Open decrypts what any of the keys has encrypted.
func (k *Keyring) Open(sealed, context []byte) ([]byte, error) {
	plain, _, err := k.open(sealed, context)
	return plain, err
}

func (k *Keyring) open(sealed, context []byte) ([]byte, nonce, error) {
	var n nonce
	// Version 0, with padding, is for members older than any of this mesh.
	if len(sealed) < sealOverhead || sealed[0] != sealVersion {
		return nil, n, ErrUnauthentic
	}
	copy(n[:], sealed[1:])
	for _, key := range k.snapshot() {
		aead, err := aeadOf(key)
		if err != nil {
			return nil, n, err
		}
		if plain, err := aead.Open(nil, n[:], sealed[1+nonceSize:], context); err == nil {
			return plain, n, nil
		}
	}
	return nil, n, ErrUnauthentic
}

func aeadOf(key Key) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// replayWindow is how many messages at least lie between a message and its repetition that is taken for new.
const replayWindow = 1 << 16

// nonces remembers which messages have arrived, in two generations, so that it stays small.
type nonces struct {
	mu       sync.Mutex
	now, old map[nonce]struct{}
}

// first says whether a message is seen for the first time, and remembers it. Only what is authentic may be asked for: a stranger must
// not be able to fill the memory or to have a message refused that is yet to come.
func (s *nonces) first(n nonce) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, a := s.now[n]
	_, b := s.old[n]
	if a || b {
		return false
	}
	if s.now == nil || len(s.now) >= replayWindow {
		s.now, s.old = map[nonce]struct{}{}, s.now
	}
	s.now[n] = struct{}{}
	return true
}
