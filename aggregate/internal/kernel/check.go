package kernel

import "encoding/binary"

// The checks below add to each magnitude, several to a word, what makes it reach the sign bit when it
// is limit or more; NaN and Inf have the largest magnitudes of all. They return the index of the
// first such element, or -1. Only whole elements of p are looked at.

// Check16 finds the first 16-bit element whose bits without the sign are limit or more; 0 < limit < 2^15.
func Check16(p []byte, limit uint16) int {
	m, n := vectorLargest(p, 2)
	if m >= uint64(limit) {
		return check16(p, limit)
	}
	if i := check16(p[n:], limit); i >= 0 {
		return n/2 + i
	}
	return -1
}

func check16(p []byte, limit uint16) int {
	const top = 0x8000_8000_8000_8000
	if !reaches(p, top, uint64(1<<15-limit)*0x0001_0001_0001_0001) {
		return -1
	}
	for i := range len(p) / 2 {
		if binary.LittleEndian.Uint16(p[2*i:])&0x7fff >= limit {
			return i
		}
	}
	return -1
}

// Check32 finds the first 32-bit element whose bits without the sign are limit or more; 0 < limit < 2^31.
func Check32(p []byte, limit uint32) int {
	m, n := vectorLargest(p, 4)
	if m >= uint64(limit) {
		return check32(p, limit)
	}
	if i := check32(p[n:], limit); i >= 0 {
		return n/4 + i
	}
	return -1
}

func check32(p []byte, limit uint32) int {
	const top = 0x80000000_80000000
	if !reaches(p, top, uint64(1<<31-limit)*0x00000001_00000001) {
		return -1
	}
	for i := range len(p) / 4 {
		if binary.LittleEndian.Uint32(p[4*i:])&0x7fffffff >= limit {
			return i
		}
	}
	return -1
}

// Check64 finds the first 64-bit element whose bits without the sign are limit or more; 0 < limit < 2^63.
func Check64(p []byte, limit uint64) int {
	const top = 1 << 63
	if !reaches(p, top, 1<<63-limit) {
		return -1
	}
	for i := range len(p) / 8 {
		if binary.LittleEndian.Uint64(p[8*i:])&^top >= limit {
			return i
		}
	}
	return -1
}

// CheckBool finds the first byte that is neither 0 nor 1.
func CheckBool(p []byte) int {
	for i, b := range p {
		if b > 1 {
			return i
		}
	}
	return -1
}

// reaches reports whether some lane may reach its top bit when add is added. Bytes after the last whole word
// count as if they did: the caller looks for itself.
func reaches(p []byte, top, add uint64) bool {
	var a, b uint64 // two, for the processor to add at the same time
	for len(p) >= 32 {
		a |= binary.LittleEndian.Uint64(p)&^top + add
		b |= binary.LittleEndian.Uint64(p[8:])&^top + add
		a |= binary.LittleEndian.Uint64(p[16:])&^top + add
		b |= binary.LittleEndian.Uint64(p[24:])&^top + add
		p = p[32:]
	}
	for len(p) >= 8 {
		a |= binary.LittleEndian.Uint64(p)&^top + add
		p = p[8:]
	}
	return (a|b)&top != 0 || len(p) > 0
}

// Largest returns the largest magnitude, as bits without the sign, of the elements of size 2, 4 or 8 in p.
func Largest(p []byte, size int) uint64 {
	var m uint64
	if size < 8 {
		var n int
		m, n = vectorLargest(p, size)
		p = p[n:]
	}
	return max(m, largest(p, size))
}

func largest(p []byte, size int) uint64 {
	var m uint64
	switch size {
	case 2:
		for ; len(p) >= 2; p = p[2:] {
			m = max(m, uint64(binary.LittleEndian.Uint16(p)&(1<<15-1)))
		}
	case 4:
		for ; len(p) >= 4; p = p[4:] {
			m = max(m, uint64(binary.LittleEndian.Uint32(p)&(1<<31-1)))
		}
	default:
		for ; len(p) >= 8; p = p[8:] {
			m = max(m, binary.LittleEndian.Uint64(p)&(1<<63-1))
		}
	}
	return m
}
