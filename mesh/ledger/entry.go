package ledger

import (
	"bytes"
	"fmt"

	"github.com/fedmesh/fedmesh/model"
)

// Entry is one fact in one log: who says it, the how-many-eth fact of that log it is, the digest of the one before (zero for
// the first), and the fact. Entries are immutable; Raw and Body must not be changed by anybody.
type Entry struct {
	Log    LogID
	Seq    uint64 // from 1
	Prev   model.Digest
	Body   Body
	Raw    []byte       // the canonical encoding
	Digest model.Digest // BLAKE3-256 of Raw
}

// Ref returns the entry's place.
func (e *Entry) Ref() Ref { return Ref{Log: e.Log, Seq: e.Seq} }

// NewEntry encodes an entry.
func NewEntry(log LogID, seq uint64, prev model.Digest, body Body) *Entry {
	enc := newEncoder()
	enc.array(5)
	enc.log(log)
	enc.uint(seq)
	enc.sum(prev)
	enc.uint(uint64(body.Kind()))
	body.encode(enc)
	raw := enc.buf.Bytes()
	return &Entry{Log: log, Seq: seq, Prev: prev, Body: body, Raw: raw, Digest: model.Sum(raw)}
}

// DecodeEntry reads one entry and refuses any encoding but the canonical one. It keeps raw.
func DecodeEntry(raw []byte) (*Entry, error) {
	if len(raw) > MaxEntry {
		return nil, fmt.Errorf("%w: %d bytes, over the limit of %d", ErrEncoding, len(raw), MaxEntry)
	}
	d := newDecoder(raw)
	d.arrayOf(5)
	log, seq, prev, kind := d.log(), d.uint(), d.sum(), d.uint()
	if d.err == nil && (kind > 255 || seq == 0 || seq == 1 && (Kind(kind) != KindPeerJoined || prev != zeroDigest)) {
		d.fail(fmt.Errorf("kind %d at sequence number %d after %s", kind, seq, prev.Short()))
	}
	var body Body
	if d.err == nil {
		body = d.body(Kind(kind))
	}
	if d.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncoding, d.err)
	}
	e := NewEntry(log, seq, prev, body)
	if !bytes.Equal(e.Raw, raw) {
		return nil, fmt.Errorf("%w: another encoding of %s/%d", ErrEncoding, log.Short(), seq)
	}
	e.Raw = raw
	return e, nil
}
