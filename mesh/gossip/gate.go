package gossip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

const (
	// typeSealed is memberlist's type of an encrypted stream.
	typeSealed = 10
	// maxSealed bounds an encrypted stream: the largest state or message, and what memberlist writes around it.
	maxSealed = 20<<20 + 1<<20
	// tellEvery is how often at most the log says that messages of a kind are refused.
	tellEvery = 30 * time.Second
)

// Why the gate refuses a message; also the reason in the metric.
const (
	reasonMalformed   = "malformed"
	reasonPlain       = "plain"       // not encrypted, and this member has keys
	reasonSealed      = "encrypted"   // encrypted, and this member has no keys
	reasonUnauthentic = "unauthentic" // encrypted with an unknown key, altered, or noise
	reasonReplayed    = "replayed"    // has arrived before
)

// advice says what to do about messages that are refused.
var advice = map[string]string{
	reasonPlain:       "gossip that is not encrypted is refused: its sender has no keys; start it with this mesh's (--keyring-file)",
	reasonSealed:      "encrypted gossip is refused: this peer has no keys; start it with the mesh's (--keyring-file)",
	reasonUnauthentic: "gossip encrypted with a key that this peer does not have is refused: see that the keyring files of both have a key in common (fedmesh keys list)",
	reasonReplayed:    "gossip that arrived before is refused: the network delivers twice, or somebody repeats what was sent",
}

// gate lets through to memberlist what one of the mesh's members sent, once. Memberlist decrypts again; it would take a message
// twice, and decode what the guard refuses.
type gate struct {
	keys    *Keyring // nil: nothing is encrypted
	label   []byte   // of the mesh, with its header
	seen    nonces
	metrics *metrics
	log     zerolog.Logger

	mu   sync.Mutex
	told map[string]time.Time
}

func newGate(keys *Keyring, mesh string, m *metrics, log zerolog.Logger) *gate {
	return &gate{keys: keys, label: append([]byte{typeLabel, byte(len(mesh))}, mesh...), metrics: m, log: log, told: map[string]time.Time{}}
}

// refuse counts a message, and tells of it now and then.
func (g *gate) refuse(queue, reason string, from net.Addr) {
	g.metrics.drop(queue, reason, 1)
	text := advice[reason]
	if text == "" {
		return
	}
	g.mu.Lock()
	last, ok := g.told[reason]
	tell := !ok || time.Since(last) >= tellEvery
	if tell {
		g.told[reason] = time.Now()
	}
	g.mu.Unlock()
	if tell {
		e := g.log.Warn()
		if from != nil {
			e = e.Str("from", from.String())
		}
		e.Msg(text)
	}
}

// packet says whether a datagram may go on to memberlist.
func (g *gate) packet(b []byte, from net.Addr) bool {
	reason := g.judge(b)
	if reason != "" {
		g.refuse("packet", reason, from)
	}
	return reason == ""
}

func (g *gate) judge(b []byte) (reason string) {
	body, ours := bytes.CutPrefix(b, g.label)
	if g.keys == nil || !ours { // of other meshes memberlist reads no more than the label
		if checkPacket(b) != nil {
			return reasonMalformed
		}
		return ""
	}
	plain, n, err := g.keys.open(body, g.label[2:])
	switch {
	case err != nil && isPlain(b):
		return reasonPlain
	case err != nil:
		return reasonUnauthentic
	case checkPacket(plain) != nil:
		return reasonMalformed
	case !g.seen.first(n):
		return reasonReplayed
	}
	return ""
}

// stream reads a stream's one message and returns what memberlist may have of it. What it refuses for want of encryption, memberlist
// gets the beginning of: it answers with an error, from which the other side learns why. Answers come without a label.
func (g *gate) stream(c io.Reader, answer bool) (pass []byte, reason string, err error) {
	head := make([]byte, 0, len(g.label)+1)
	more := func(n int) error {
		m, err := io.ReadFull(c, head[len(head):len(head)+n])
		head = head[:len(head)+m]
		return err
	}
	if !answer {
		if err := more(2); err != nil {
			return head, "", err
		}
		if head[0] == typeLabel && head[1] == g.label[1] {
			if err := more(len(g.label) - 2); err != nil {
				return head, "", err
			}
		}
		if !bytes.Equal(head, g.label) {
			return head, "", io.EOF // of other meshes memberlist reads no more than the label
		}
	}
	if err := more(1); err != nil {
		return head, "", err
	}
	if head[len(head)-1] != typeSealed {
		return head, reasonPlain, io.EOF
	}
	frame := bytes.NewBuffer(head)
	if _, err := io.CopyN(frame, c, 4); err != nil {
		return nil, "", unexpected(err)
	}
	size := int64(binary.BigEndian.Uint32(frame.Bytes()[len(head):]))
	if size < sealOverhead || size > maxSealed {
		return nil, reasonUnauthentic, fmt.Errorf("%w: %d bytes encrypted", errMalformed, size)
	}
	if _, err := io.CopyN(frame, c, size); err != nil {
		return nil, "", unexpected(err)
	}
	at := len(head) - 1 // the type
	b := frame.Bytes()
	plain, n, err := g.keys.open(b[at+5:], append(bytes.Clone(b[at:at+5]), g.label[2:]...))
	if err != nil {
		return nil, reasonUnauthentic, err
	}
	var guard streamGuard
	if len(plain) == 0 || plain[0] == typeLabel {
		return nil, reasonMalformed, errMalformed
	}
	if err := guard.scan(plain); err != nil {
		return nil, reasonMalformed, err
	}
	if !g.seen.first(n) {
		return nil, reasonReplayed, errReplayed
	}
	return b, "", io.EOF
}

var errReplayed = errors.New("gossip: arrived before")

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
