package gossip

import (
	"bytes"
	"errors"
	"fmt"
)

// Memberlist decodes msgpack with a library that sets aside what a length claims
// before it has read it: one short datagram can make it allocate 4 GiB. So what
// comes in is walked first, and refused when it claims more than any member sends.
const (
	maxItem      = 4096           // bytes of a string or of raw bytes
	maxCount     = 64             // items of an array, twice the pairs of a map
	maxDepth     = 4              // containers within each other
	maxExchanged = 4 * maxMembers // members in a state exchange
)

// Memberlist's types of packets and streams.
const (
	typePing     = 0
	typePushPull = 6
	typeCompound = 7
	typeUser     = 8
	typeNack     = 11
	typeCRC      = 12
	typeError    = 13
	typeLabel    = 244
)

var errMalformed = errors.New("gossip: malformed")

// checkPacket says whether a datagram is safe for memberlist to decode.
func checkPacket(b []byte) error { return checkMessage(message(b), 0, false) }

// isPlain says whether a datagram is what a member sends that has no keys: it ends where its message does. What is encrypted may begin
// like a message.
func isPlain(b []byte) bool { return checkMessage(message(b), 0, true) == nil }

// message is a datagram without its label and checksum.
func message(b []byte) []byte {
	if len(b) >= 2 && b[0] == typeLabel {
		b = b[min(len(b), 2+int(b[1])):]
	}
	if len(b) >= 5 && b[0] == typeCRC {
		b = b[5:]
	}
	return b
}

func checkMessage(b []byte, depth int, whole bool) error {
	if len(b) == 0 {
		return errMalformed
	}
	switch t := b[0]; {
	case t == typeUser:
		return nil
	case t == typeCompound && depth == 0:
		return checkCompound(b[1:], whole)
	case t < typePushPull || t == typeNack:
		var w walker
		for i, c := range b[1:] {
			if err := w.feed(c); err != nil {
				return err
			}
			if w.done {
				return follows(b[2+i:], whole)
			}
		}
		return fmt.Errorf("%w: message of type %d is cut short", errMalformed, t)
	default:
		// Compression and encryption, which our members do not use, among others.
		return fmt.Errorf("%w: message of type %d", errMalformed, t)
	}
}

// follows refuses what follows a message that is to be whole.
func follows(rest []byte, whole bool) error {
	if whole && len(rest) > 0 {
		return fmt.Errorf("%w: %d bytes follow", errMalformed, len(rest))
	}
	return nil
}

func checkCompound(b []byte, whole bool) error {
	if len(b) == 0 || len(b) < 1+2*int(b[0]) {
		return fmt.Errorf("%w: compound is cut short", errMalformed)
	}
	lengths, rest := b[1:1+2*int(b[0])], b[1+2*int(b[0]):]
	for ; len(lengths) > 0; lengths = lengths[2:] {
		n := int(lengths[0])<<8 | int(lengths[1])
		if n > len(rest) {
			return fmt.Errorf("%w: compound is cut short", errMalformed)
		}
		if err := checkMessage(rest[:n], 1, whole); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return follows(rest, whole)
}

// streamGuard checks a stream as it is read: a label, a type, then objects, then
// bytes that memberlist bounds itself.
type streamGuard struct {
	stage   guardStage
	label   int // bytes left of the label
	kind    byte
	objects int // left to come
	header  bool
	walk    walker
}

type guardStage uint8

const (
	stageStart guardStage = iota
	stageLabelLength
	stageLabel
	stageType
	stageObjects
	stageRaw
)

func (g *streamGuard) scan(p []byte) error {
	for _, b := range p {
		if g.stage == stageRaw {
			return nil
		}
		if err := g.feed(b); err != nil {
			return err
		}
	}
	return nil
}

func (g *streamGuard) feed(b byte) error {
	switch g.stage {
	case stageStart:
		if b == typeLabel {
			g.stage = stageLabelLength
			return nil
		}
		return g.begin(b)
	case stageLabelLength:
		g.label, g.stage = int(b), stageLabel
		if b == 0 {
			return errMalformed
		}
	case stageLabel:
		if g.label--; g.label == 0 {
			g.stage = stageType
		}
	case stageType:
		return g.begin(b)
	case stageObjects:
		if err := g.walk.feed(b); err != nil {
			return err
		}
		if g.walk.done {
			g.objects--
			if g.header && g.kind == typePushPull {
				if g.walk.nodes > maxExchanged {
					return fmt.Errorf("%w: state exchange of %d members", errMalformed, g.walk.nodes)
				}
				g.objects = int(g.walk.nodes)
			}
			g.header, g.walk = false, walker{}
		}
		if g.objects == 0 {
			g.stage = stageRaw
		}
	case stageRaw:
	}
	return nil
}

func (g *streamGuard) begin(kind byte) error {
	switch kind {
	case typeSealed:
		// Without keys memberlist reads no more than this, and answers that it cannot read it.
		g.kind, g.stage = kind, stageRaw
		return nil
	case typePing, 2, typePushPull, typeUser, typeError:
		g.kind, g.stage, g.objects, g.header = kind, stageObjects, 1, true
		return nil
	}
	return fmt.Errorf("%w: stream of type %d", errMalformed, kind)
}

// walker follows one msgpack map byte by byte.
type walker struct {
	left   []int // items to come in each open container
	prefix prefixKind
	need   int    // bytes left of a prefix or a number
	value  uint64 // of the prefix or number so far
	skip   int    // bytes left of a string
	text   []byte // the string, as far as a key may be long
	nodes  uint64 // largest value of the outer key "Nodes", or 0
	done   bool
}

type prefixKind uint8

const (
	prefixNumber prefixKind = iota
	prefixBytes
	prefixArray
	prefixMap
)

func (w *walker) feed(b byte) error {
	switch {
	case w.skip > 0:
		if len(w.text) < 16 {
			w.text = append(w.text, b)
		}
		if w.skip--; w.skip == 0 {
			w.item()
		}
		return nil
	case w.need > 0:
		w.value = w.value<<8 | uint64(b)
		if w.need--; w.need == 0 {
			return w.prefixed()
		}
		return nil
	}
	if len(w.left) == 0 && (b < 0x80 || b > 0x8f) && b != 0xde && b != 0xdf {
		return fmt.Errorf("%w: not a map", errMalformed)
	}
	if w.atKey() && (b < 0xa0 || b > 0xbf) && (b < 0xc4 || b > 0xc6) && (b < 0xd9 || b > 0xdb) {
		return fmt.Errorf("%w: a key that is not a string", errMalformed)
	}
	w.value = 0
	switch {
	case b < 0x80 || b >= 0xe0:
		w.value = uint64(int64(int8(b))) // negative ones become too large
		w.number()
	case b < 0x90:
		return w.open(2 * uint64(b&0x0f))
	case b < 0xa0:
		return w.open(uint64(b & 0x0f))
	case b < 0xc0:
		return w.bytes(uint64(b & 0x1f))
	case b == 0xc0 || b == 0xc2 || b == 0xc3:
		w.item()
	case b >= 0xc4 && b <= 0xc6:
		w.prefix, w.need = prefixBytes, 1<<(b-0xc4)
	case b >= 0xcc && b <= 0xcf:
		w.prefix, w.need = prefixNumber, 1<<(b-0xcc)
	case b >= 0xd0 && b <= 0xd3:
		w.prefix, w.need = prefixNumber, 1<<(b-0xd0)
	case b >= 0xd9 && b <= 0xdb:
		w.prefix, w.need = prefixBytes, 1<<(b-0xd9)
	case b == 0xdc || b == 0xdd:
		w.prefix, w.need = prefixArray, 2<<(b-0xdc)
	case b == 0xde || b == 0xdf:
		w.prefix, w.need = prefixMap, 2<<(b-0xde)
	default: // extensions and floats
		return fmt.Errorf("%w: msgpack byte %#x", errMalformed, b)
	}
	return nil
}

func (w *walker) prefixed() error {
	switch w.prefix {
	case prefixBytes:
		return w.bytes(w.value)
	case prefixArray:
		return w.open(w.value)
	case prefixMap:
		return w.open(2 * w.value)
	case prefixNumber:
		w.number()
	}
	return nil
}

func (w *walker) bytes(n uint64) error {
	if n > maxItem {
		return fmt.Errorf("%w: %d bytes in one item", errMalformed, n)
	}
	w.text = w.text[:0]
	if w.skip = int(n); n == 0 {
		w.item()
	}
	return nil
}

func (w *walker) open(n uint64) error {
	if n > maxCount || len(w.left) == maxDepth {
		return fmt.Errorf("%w: %d items, %d deep", errMalformed, n, len(w.left))
	}
	w.left = append(w.left, int(n))
	w.closeEmpty()
	return nil
}

func (w *walker) number() {
	if len(w.left) == 1 && bytes.Equal(w.text, []byte("Nodes")) {
		w.nodes = max(w.nodes, w.value) // the key may come twice
	}
	w.item()
}

// atKey says whether a key of the outer map comes next.
func (w *walker) atKey() bool { return len(w.left) == 1 && w.left[0]%2 == 0 }

// item counts a finished item.
func (w *walker) item() {
	w.left[len(w.left)-1]--
	w.closeEmpty()
}

func (w *walker) closeEmpty() {
	for len(w.left) > 0 && w.left[len(w.left)-1] == 0 {
		w.left = w.left[:len(w.left)-1]
		if len(w.left) > 0 {
			w.left[len(w.left)-1]--
		}
	}
	w.done = len(w.left) == 0
}
