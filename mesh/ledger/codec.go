package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/fedmesh/fedmesh/model"
)

// MaxEntry bounds an encoded entry, in bytes.
const MaxEntry = 1 << 20

// ErrEncoding is returned for bytes that are no canonical entry.
var ErrEncoding = errors.New("ledger: not a canonical entry")

// encoder writes msgpack with one encoding for each value: the shortest integers, arrays in place of maps, vectors
// ascending by log. Writes to a bytes.Buffer cannot fail.
type encoder struct {
	buf bytes.Buffer
	*msgpack.Encoder
}

func newEncoder() *encoder {
	e := &encoder{}
	e.Encoder = msgpack.NewEncoder(&e.buf)
	e.UseCompactInts(true)
	return e
}

func (e *encoder) array(n int)        { _ = e.EncodeArrayLen(n) }
func (e *encoder) uint(n uint64)      { _ = e.EncodeUint(n) }
func (e *encoder) text(s string)      { _ = e.EncodeString(s) }
func (e *encoder) float(f float64)    { _ = e.EncodeFloat64(f) }
func (e *encoder) fixed(b []byte)     { _ = e.EncodeBytes(b) }
func (e *encoder) log(id LogID)       { e.fixed(id[:]) }
func (e *encoder) sum(d model.Digest) { e.fixed(d[:]) }

func (e *encoder) logs(ids []LogID) {
	e.array(len(ids))
	for _, id := range ids {
		e.log(id)
	}
}

func (e *encoder) vector(v Vector) {
	logs := v.Logs()
	e.array(2 * len(logs))
	for _, log := range logs {
		e.log(log)
		e.uint(v[log])
	}
}

// decoder reads what encoder writes, from bytes in memory, and remembers the first fault.
type decoder struct {
	r *bytes.Reader
	*msgpack.Decoder
	err error
}

func newDecoder(b []byte) *decoder {
	d := &decoder{r: bytes.NewReader(b)}
	d.Decoder = msgpack.NewDecoder(d.r)
	return d
}

func (d *decoder) fail(err error) {
	if d.err == nil && err != nil {
		d.err = err
	}
}

// logBytes is the encoded size of a log id.
const logBytes = 2 + len(LogID{})

// array reads a length and refuses one that the bytes at hand cannot hold, at so many bytes an element, so that nothing is
// allocated for a lie.
func (d *decoder) array(element int) int {
	if d.err != nil {
		return 0
	}
	n, err := d.DecodeArrayLen()
	if err == nil && (n < 0 || n > d.r.Len()/element) {
		err = fmt.Errorf("array of %d in %d bytes", n, d.r.Len())
	}
	if err != nil {
		d.fail(err)
		return 0
	}
	return n
}

func (d *decoder) arrayOf(want int) {
	if n := d.array(1); d.err == nil && n != want {
		d.fail(fmt.Errorf("array of %d, want %d", n, want))
	}
}

func (d *decoder) uint() uint64 {
	if d.err != nil {
		return 0
	}
	n, err := d.DecodeUint64()
	d.fail(err)
	return n
}

func (d *decoder) uint32() uint32 {
	n := d.uint()
	if n > 1<<32-1 {
		d.fail(fmt.Errorf("%d is over 32 bits", n))
	}
	return uint32(n)
}

func (d *decoder) time() Time {
	n := d.uint()
	if n > 1<<53 {
		d.fail(fmt.Errorf("%d milliseconds is out of range", n))
	}
	return Time(n)
}

func (d *decoder) text() string {
	if d.err != nil {
		return ""
	}
	s, err := d.DecodeString()
	d.fail(err)
	return s
}

func (d *decoder) float() float64 {
	if d.err != nil {
		return 0
	}
	f, err := d.DecodeFloat64()
	d.fail(err)
	return f
}

func (d *decoder) fixed(dst []byte) {
	if d.err != nil {
		return
	}
	n, err := d.DecodeBytesLen()
	if err == nil && n != len(dst) {
		err = fmt.Errorf("%d bytes, want %d", n, len(dst))
	}
	if err == nil {
		err = d.ReadFull(dst)
	}
	d.fail(err)
}

func (d *decoder) log() (id LogID)       { d.fixed(id[:]); return id }
func (d *decoder) sum() (s model.Digest) { d.fixed(s[:]); return s }

func (d *decoder) logs() []LogID {
	n := d.array(logBytes)
	ids := make([]LogID, 0, n)
	for range n {
		ids = append(ids, d.log())
	}
	if !strictly(ids, LogID.Compare) {
		d.fail(errors.New("logs out of order"))
	}
	return ids
}

func (d *decoder) vector() Vector {
	n := d.array((logBytes + 1) / 2) // a log and a number take two elements
	if n%2 != 0 {
		d.fail(errors.New("vector of odd length"))
		return nil
	}
	v := make(Vector, n/2)
	var last LogID
	for i := range n / 2 {
		log, seq := d.log(), d.uint()
		if i > 0 && last.Compare(log) >= 0 || seq == 0 {
			d.fail(errors.New("vector out of order"))
		}
		v[log], last = seq, log
	}
	return v
}

func strictly[T any](s []T, compare func(a, b T) int) bool {
	for i := 1; i < len(s); i++ {
		if compare(s[i-1], s[i]) >= 0 {
			return false
		}
	}
	return true
}

func (b *PeerJoined) encode(e *encoder) { e.array(2); e.text(b.Name); e.text(b.Mesh) }
func (b *PeerLeft) encode(e *encoder)   { e.array(0) }

func (b *PeerForgotten) encode(e *encoder) { e.array(1); e.logs(b.Targets) }

func (b *ForgetAcknowledged) encode(e *encoder) {
	e.array(3)
	e.log(b.Proposal.Log)
	e.uint(b.Proposal.Seq)
	e.vector(b.Upto)
}

func (c *Config) encode(e *encoder) {
	e.array(8)
	e.text(c.Strategy)
	e.array(2 * len(c.Params))
	for _, p := range c.Params {
		e.text(p.Name)
		e.text(p.Value)
	}
	e.uint(uint64(c.TargetCombiners))
	e.uint(uint64(c.MinCombiners))
	e.uint(uint64(c.Copies))
	e.uint(uint64(c.RoundTimeout))
	e.uint(uint64(c.SettleTimeout))
	e.uint(uint64(c.LostAfter))
}

func (b *SessionOpened) encode(e *encoder) {
	e.array(5)
	e.sum(b.Session)
	e.text(b.Name)
	b.Config.encode(e)
	e.sum(b.Seed)
	e.logs(b.Members)
}

func (b *SessionClosed) encode(e *encoder) { e.array(1); e.sum(b.Session) }

func (u *UpdateHeld) encode(e *encoder) {
	e.array(10)
	e.sum(u.Session)
	e.text(u.Combiner)
	e.text(u.ID)
	e.sum(u.Model)
	e.uint(u.Bytes)
	e.uint(u.Weight)
	e.sum(u.Base)
	e.uint(u.BaseRound)
	e.float(u.Norm)
	e.array(2 * len(u.Metrics))
	for _, m := range u.Metrics {
		e.text(m.Name)
		e.float(m.Value)
	}
}

func (u *UpdateDropped) encode(e *encoder) {
	e.array(3)
	e.sum(u.Session)
	e.text(u.Combiner)
	e.text(u.ID)
}

func (u *UpdateLost) encode(e *encoder) {
	e.array(5)
	e.sum(u.Session)
	e.text(u.Combiner)
	e.text(u.ID)
	e.uint(u.Round)
	e.sum(u.Inputs)
}

func (b *RoundSealed) encode(e *encoder) {
	e.array(3)
	e.sum(b.Session)
	e.uint(b.Round)
	e.vector(b.Cut)
}

func (b *RoundsSkipped) encode(e *encoder) {
	e.array(5)
	e.sum(b.Session)
	e.uint(b.From)
	e.uint(b.To)
	e.vector(b.Seen)
	e.array(len(b.Inputs))
	for _, d := range b.Inputs {
		e.sum(d)
	}
}

func (c *RoundComputed) encode(e *encoder) {
	e.array(5)
	e.sum(c.Session)
	e.uint(c.Round)
	e.sum(c.Inputs)
	e.sum(c.Model)
	e.vector(c.Seen)
}

func (d *decoder) config() (c Config) {
	d.arrayOf(8)
	c.Strategy = d.text()
	n := d.array(1)
	for range n / 2 {
		c.Params = append(c.Params, Param{Name: d.text(), Value: d.text()})
	}
	if n%2 != 0 || !strictly(c.Params, compareParams) {
		d.fail(errors.New("parameters out of order"))
	}
	c.TargetCombiners, c.MinCombiners, c.Copies = d.uint32(), d.uint32(), d.uint32()
	c.RoundTimeout, c.SettleTimeout, c.LostAfter = d.time(), d.time(), d.time()
	return c
}

func (d *decoder) held() *UpdateHeld {
	d.arrayOf(10)
	u := &UpdateHeld{
		Session: d.sum(), Combiner: d.text(), ID: d.text(), Model: d.sum(), Bytes: d.uint(), Weight: d.uint(),
		Base: d.sum(), BaseRound: d.uint(), Norm: d.float(),
	}
	n := d.array(1)
	for range n / 2 {
		u.Metrics = append(u.Metrics, Metric{Name: d.text(), Value: d.float()})
	}
	if n%2 != 0 || !strictly(u.Metrics, compareMetrics) {
		d.fail(errors.New("metrics out of order"))
	}
	if u.Weight == 0 || u.Weight > MaxWeight {
		d.fail(fmt.Errorf("weight %d is not in 1 … 2^38-1", u.Weight))
	}
	return u
}

func (d *decoder) skipped() *RoundsSkipped {
	d.arrayOf(5)
	b := &RoundsSkipped{Session: d.sum(), From: d.uint(), To: d.uint(), Seen: d.vector()}
	n := d.array(2 + len(model.Digest{}))
	b.Inputs = make([]model.Digest, n)
	for i := range b.Inputs {
		b.Inputs[i] = d.sum()
	}
	if n == 0 || b.To < b.From || b.To-b.From != uint64(n)-1 {
		d.fail(fmt.Errorf("inputs of %d rounds for %d to %d", n, b.From, b.To))
	}
	return b
}

func (d *decoder) body(k Kind) Body {
	switch k {
	case KindPeerJoined:
		d.arrayOf(2)
		return &PeerJoined{Name: d.text(), Mesh: d.text()}
	case KindPeerLeft:
		d.arrayOf(0)
		return &PeerLeft{}
	case KindPeerForgotten:
		d.arrayOf(1)
		return &PeerForgotten{Targets: d.logs()}
	case KindForgetAcknowledged:
		d.arrayOf(3)
		return &ForgetAcknowledged{Proposal: Ref{Log: d.log(), Seq: d.uint()}, Upto: d.vector()}
	case KindSessionOpened:
		d.arrayOf(5)
		return &SessionOpened{Session: d.sum(), Name: d.text(), Config: d.config(), Seed: d.sum(), Members: d.logs()}
	case KindSessionClosed:
		d.arrayOf(1)
		return &SessionClosed{Session: d.sum()}
	case KindUpdateHeld:
		return d.held()
	case KindUpdateDropped:
		d.arrayOf(3)
		return &UpdateDropped{Session: d.sum(), Combiner: d.text(), ID: d.text()}
	case KindUpdateLost:
		d.arrayOf(5)
		return &UpdateLost{Session: d.sum(), Combiner: d.text(), ID: d.text(), Round: d.uint(), Inputs: d.sum()}
	case KindRoundSealed:
		d.arrayOf(3)
		return &RoundSealed{Session: d.sum(), Round: d.uint(), Cut: d.vector()}
	case KindRoundsSkipped:
		return d.skipped()
	case KindRoundComputed:
		d.arrayOf(5)
		return &RoundComputed{Session: d.sum(), Round: d.uint(), Inputs: d.sum(), Model: d.sum(), Seen: d.vector()}
	}
	d.fail(fmt.Errorf("unknown kind %d; this peer is older than the one that wrote it", k))
	return nil
}

// bodyBytes returns a body's canonical encoding.
func bodyBytes(b Body) []byte {
	e := newEncoder()
	b.encode(e)
	return e.buf.Bytes()
}

// NewSessionKey computes the key of a session from what it is opened with.
func NewSessionKey(name string, config Config, seed model.Digest, members []LogID) SessionKey {
	e := newEncoder()
	e.text("fedmesh/session")
	e.text(name)
	config.encode(e)
	e.sum(seed)
	e.logs(slices.SortedFunc(slices.Values(members), LogID.Compare))
	return model.Sum(e.buf.Bytes())
}
