package mesh

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/fedmesh/fedmesh/mesh/gossip"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// What peers exchange besides entries is msgpack, each struct an array of its fields in order. It is read by hand: the library's
// decoder of structs allocates what a length claims before it has seen a byte of it.

var errMessage = errors.New("mesh: damaged message")

type writer struct {
	buf bytes.Buffer
	*msgpack.Encoder
}

func newWriter(fields int) *writer {
	w := &writer{}
	w.Encoder = msgpack.NewEncoder(&w.buf)
	w.UseCompactInts(true)
	w.array(fields)
	return w
}

// Writes to a bytes.Buffer cannot fail.

func (w *writer) array(n int)     { _ = w.EncodeArrayLen(n) }
func (w *writer) uint(n uint64)   { _ = w.EncodeUint(n) }
func (w *writer) text(s string)   { _ = w.EncodeString(s) }
func (w *writer) bytes(b []byte)  { _ = w.EncodeBytes(b) }
func (w *writer) float(f float64) { _ = w.EncodeFloat64(f) }

func (w *writer) label(label []labelled) {
	w.array(len(label))
	for _, u := range label {
		w.array(4)
		w.text(u.Combiner)
		w.text(u.ID)
		w.bytes(u.Model[:])
		w.uint(u.Weight)
	}
}

// reader reads what writer writes, from bytes in memory, and remembers the first fault.
type reader struct {
	*msgpack.Decoder
	r   *bytes.Reader
	err error
}

func newReader(b []byte, fields int) *reader {
	r := &reader{r: bytes.NewReader(b)}
	r.Decoder = msgpack.NewDecoder(r.r)
	if n := r.array(1, fields); n != fields {
		r.fail("%d fields, want %d", n, fields)
	}
	return r
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: at byte %d: %s", errMessage, r.r.Size()-int64(r.r.Len()), fmt.Sprintf(format, args...))
	}
}

// end is the first fault; bytes that follow the message are one.
func (r *reader) end() error {
	if r.err == nil && r.r.Len() > 0 {
		r.fail("%d bytes follow the message", r.r.Len())
	}
	return r.err
}

// array reads the length of an array of elements that take size bytes or more each, so that nothing is allocated for a lie.
func (r *reader) array(size, limit int) int {
	if r.err != nil {
		return 0
	}
	n, err := r.DecodeArrayLen()
	switch {
	case err != nil:
		r.fail("%v", err)
	case n < 0, n > r.r.Len()/size:
		r.fail("an array of %d in %d bytes", n, r.r.Len())
	case n > limit:
		r.fail("an array of %d, at most %d are allowed", n, limit)
	default:
		return n
	}
	return 0
}

func (r *reader) bytes() []byte {
	if r.err != nil {
		return nil
	}
	n, err := r.DecodeBytesLen()
	if err == nil && (n < 0 || n > r.r.Len()) {
		err = fmt.Errorf("a string of %d bytes in %d", n, r.r.Len())
	}
	if err != nil {
		r.fail("%v", err)
		return nil
	}
	b := make([]byte, n)
	if err := r.ReadFull(b); err != nil {
		r.fail("%v", err)
	}
	return b
}

func (r *reader) text() string { return string(r.bytes()) }

func (r *reader) uint() uint64 {
	if r.err != nil {
		return 0
	}
	n, err := r.DecodeUint64()
	if err != nil {
		r.fail("%v", err)
	}
	return n
}

func (r *reader) float() float64 {
	if r.err != nil {
		return 0
	}
	f, err := r.DecodeFloat64()
	if err != nil {
		r.fail("%v", err)
	}
	if f-f != 0 {
		r.fail("%v is no finite number", f)
	}
	return f
}

func (r *reader) digest() (d model.Digest) {
	b := r.bytes()
	if r.err == nil && len(b) != len(d) {
		r.fail("a digest of %d bytes", len(b))
	}
	copy(d[:], b)
	return d
}

// label reads a set of updates: ascending by key, with weights that a round may have. It also returns their total.
func (r *reader) label() (label []labelled, total uint64) {
	const least = 1 + 1 + 1 + 2 + len(model.Digest{}) + 1
	n := r.array(least, maxLabel)
	label = make([]labelled, 0, n)
	for i := range n {
		if n := r.array(1, 4); n != 4 {
			r.fail("%d fields in an update, want 4", n)
		}
		u := labelled{Combiner: r.text(), ID: r.text(), Model: r.digest(), Weight: r.uint()}
		switch {
		case r.err != nil:
			return nil, 0
		case i > 0 && label[i-1].key().Compare(u.key()) >= 0:
			r.fail("update %s twice or out of order in a label", u.key())
		case u.Weight == 0 || u.Weight > ledger.MaxWeight-total:
			r.fail("weight %d of update %s: a label's weights are positive and together at most %d", u.Weight, u.key(), uint64(ledger.MaxWeight))
		}
		total += u.Weight
		label = append(label, u)
	}
	return label, total
}

// meta is what gossip tells the others of a member.
type meta struct {
	Protocol uint64
	Log      ledger.LogID
	API      string // host:port
	Secret   secretCheck
	TLS      bool // its API speaks it
}

func encodeMeta(m *meta) []byte {
	w := newWriter(5)
	w.uint(m.Protocol)
	w.bytes(m.Log[:])
	w.text(m.API)
	w.bytes(m.Secret[:])
	w.uint(flag(m.TLS))
	return w.buf.Bytes()
}

func flag(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

func decodeMeta(b []byte) (*meta, error) {
	if len(b) > gossip.MaxMeta {
		return nil, fmt.Errorf("mesh: member data of %d bytes, at most %d are allowed", len(b), gossip.MaxMeta)
	}
	// The version comes first: another one may have other fields.
	r := &reader{r: bytes.NewReader(b)}
	r.Decoder = msgpack.NewDecoder(r.r)
	fields := r.array(1, gossip.MaxMeta)
	m := &meta{Protocol: r.uint()}
	if r.err == nil && m.Protocol != protocol {
		return nil, fmt.Errorf("mesh: the member speaks protocol %d, this peer %d; run the same version", m.Protocol, protocol)
	}
	if fields != 5 {
		r.fail("%d fields, want 5", fields)
	}
	id := r.bytes()
	if r.err == nil && len(id) != len(m.Log) {
		r.fail("a log id of %d bytes", len(id))
	}
	copy(m.Log[:], id)
	m.API = r.text()
	check := r.bytes()
	if r.err == nil && len(check) != len(m.Secret) {
		r.fail("a secret's check of %d bytes", len(check))
	}
	copy(m.Secret[:], check)
	switch r.uint() {
	case 0:
	case 1:
		m.TLS = true
	default:
		r.fail("whether it speaks TLS is neither 0 nor 1")
	}
	if err := r.end(); err != nil {
		return nil, fmt.Errorf("member data: %w", err)
	}
	return m, nil
}

// partial is a gossiped sum state.
type partial struct {
	Session ledger.SessionKey
	Round   uint64
	Label   []labelled
	Weight  uint64     // of the whole label
	Metrics []weighted // Σ weight·metric, for the metrics that all of the label report
	Sum     []byte     // aggregate's encoding of the whole model
}

// labelled is an update in a label: its key, its bytes and its weight.
type labelled struct {
	Combiner string
	ID       string
	Model    model.Digest
	Weight   uint64
}

func (u *labelled) key() ledger.Key { return ledger.Key{Combiner: u.Combiner, ID: u.ID} }

type weighted struct {
	Name string
	Sum  float64
}

// labelOf returns the label of a set of updates.
func labelOf(us []*ledger.UpdateHeld) []labelled {
	out := make([]labelled, 0, len(us))
	for _, u := range us {
		out = append(out, labelled{Combiner: u.Combiner, ID: u.ID, Model: u.Model, Weight: u.Weight})
	}
	slices.SortFunc(out, func(a, b labelled) int { return a.key().Compare(b.key()) })
	return out
}

func encodePartial(p *partial) []byte {
	w := newWriter(6)
	w.bytes(p.Session[:])
	w.uint(p.Round)
	w.label(p.Label)
	w.uint(p.Weight)
	w.array(len(p.Metrics))
	for _, m := range p.Metrics {
		w.array(2)
		w.text(m.Name)
		w.float(m.Sum)
	}
	w.bytes(p.Sum)
	return w.buf.Bytes()
}

func decodePartial(b []byte) (*partial, error) {
	r := newReader(b, 6)
	p := &partial{Session: r.digest(), Round: r.uint()}
	var total uint64
	p.Label, total = r.label()
	if p.Weight = r.uint(); p.Weight != total {
		r.fail("a sum of weight %d over a label of weight %d", p.Weight, total)
	}
	n := r.array(1+1+9, maxMetrics)
	for i := range n {
		if n := r.array(1, 2); n != 2 {
			r.fail("%d fields in a metric, want 2", n)
		}
		m := weighted{Name: r.text(), Sum: r.float()}
		if i > 0 && cmp.Compare(p.Metrics[i-1].Name, m.Name) >= 0 {
			r.fail("metric %q twice or out of order", m.Name)
		}
		p.Metrics = append(p.Metrics, m)
	}
	if p.Sum = r.bytes(); len(p.Sum) > maxGossiped {
		r.fail("a sum of %d bytes, at most %d are gossiped", len(p.Sum), maxGossiped)
	}
	return p, r.end()
}

// sumRequest asks for the exact sum of some updates over the elements [From, To).
type sumRequest struct {
	Label    []labelled
	From, To int64
}

func encodeSumRequest(q *sumRequest) []byte {
	w := newWriter(3)
	w.label(q.Label)
	w.uint(uint64(q.From))
	w.uint(uint64(q.To))
	return w.buf.Bytes()
}

func decodeSumRequest(b []byte) (*sumRequest, error) {
	r := newReader(b, 3)
	q := &sumRequest{}
	q.Label, _ = r.label()
	from, to := r.uint(), r.uint()
	if from > to || int64(to) < 0 {
		r.fail("elements %d to %d", from, to)
	}
	q.From, q.To = int64(from), int64(to)
	return q, r.end()
}
