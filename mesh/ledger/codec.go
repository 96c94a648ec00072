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
