package gauss

import (
	"encoding/binary"

	"github.com/zeebo/blake3"
)

// Stream is a source of random bytes: the output of BLAKE3 with a key, as long as it is asked for.
type Stream struct {
	hasher *blake3.Hasher
	digest *blake3.Digest
	buf    [1024]byte
	left   []byte
}

// NewStream returns a stream with a key. Nothing can be read before it has been reset.
func NewStream(key [32]byte) *Stream {
	h, err := blake3.NewKeyed(key[:])
	if err != nil {
		panic(err) // never: the key has 32 bytes
	}
	return &Stream{hasher: h}
}

// Reset begins the bytes that the key and the name determine.
func (s *Stream) Reset(name []byte) {
	s.hasher.Reset()
	_, _ = s.hasher.Write(name) // cannot fail
	s.digest = s.hasher.Digest()
	s.left = nil
}

// bytes returns the next n bytes, at most 8.
func (s *Stream) bytes(n int) []byte {
	if len(s.left) < n {
		k := copy(s.buf[:], s.left)
		_, _ = s.digest.Read(s.buf[k:]) // cannot fail
		s.left = s.buf[:]
	}
	p := s.left[:n]
	s.left = s.left[n:]
	return p
}

func (s *Stream) uint16() uint16 {
	if p := s.left; len(p) >= 2 { // what bytes does, for the compiler to inline
		s.left = p[2:]
		return binary.LittleEndian.Uint16(p)
	}
	return binary.LittleEndian.Uint16(s.bytes(2))
}

func (s *Stream) uint64() uint64 { return binary.LittleEndian.Uint64(s.bytes(8)) }
func (s *Stream) bit() bool      { return s.bytes(1)[0]&1 == 1 }

// below returns a uniform number below n ≥ 1.
func (s *Stream) below(n uint64) uint64 {
	// Below 2^64 mod n, try again: what is left is as many for each remainder.
	for least := -n % n; ; {
		if x := s.uint64(); x >= least {
			return x % n
		}
	}
}
