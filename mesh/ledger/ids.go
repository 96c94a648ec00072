package ledger

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fedmesh/fedmesh/model"
)

// Time is a point on the caller's own monotonic clock, in milliseconds. The ledger never reads a clock; what is measured
// with one is decided by Replica from the times it is given.
type Time int64

// LogID names a log: 16 random bytes, made once per data directory.
type LogID [16]byte

// String returns the id in hexadecimal.
func (id LogID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first eight hexadecimal digits, for people.
func (id LogID) Short() string { return hex.EncodeToString(id[:4]) }

// Compare orders ids bytewise.
func (id LogID) Compare(other LogID) int { return bytes.Compare(id[:], other[:]) }

// ParseLogID reads what String wrote.
func ParseLogID(s string) (LogID, error) {
	var id LogID
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, fmt.Errorf("ledger: log id %q is not %d hexadecimal digits", s, 2*len(id))
	}
	copy(id[:], b)
	return id, nil
}

// SessionKey identifies a session: the digest of its name, config, seed and first members.
type SessionKey = model.Digest

// Key names an update within its session.
type Key struct {
	Combiner string
	ID       string
}

// Compare orders keys by combiner, then by id.
func (k Key) Compare(other Key) int {
	return cmp.Or(strings.Compare(k.Combiner, other.Combiner), strings.Compare(k.ID, other.ID))
}

// String returns combiner/id.
func (k Key) String() string { return k.Combiner + "/" + k.ID }

// Ref points at one entry.
type Ref struct {
	Log LogID
	Seq uint64
}

// Compare orders references by log, then by sequence number.
func (r Ref) Compare(other Ref) int {
	return cmp.Or(r.Log.Compare(other.Log), cmp.Compare(r.Seq, other.Seq))
}

// Vector says for each log how many of its entries; a log that is absent counts as 0. A vector used as a cut holds the
// first so many entries of each log.
type Vector map[LogID]uint64

// Clone returns an independent copy.
func (v Vector) Clone() Vector {
	if v == nil {
		return Vector{}
	}
	return maps.Clone(v)
}

// Logs returns the logs of v in order.
func (v Vector) Logs() []LogID { return slices.SortedFunc(maps.Keys(v), LogID.Compare) }

// Holds reports whether the entry at ref lies inside v.
func (v Vector) Holds(ref Ref) bool { return ref.Seq <= v[ref.Log] }

// Covers reports whether everything inside other is inside v.
func (v Vector) Covers(other Vector) bool {
	for log, n := range other {
		if v[log] < n {
			return false
		}
	}
	return true
}

// Join raises v to the pointwise maximum of v and other.
func (v Vector) Join(other Vector) {
	for log, n := range other {
		if n > v[log] {
			v[log] = n
		}
	}
}

// Missing counts the entries inside other that are not inside v.
func (v Vector) Missing(other Vector) uint64 {
	var n uint64
	for log, m := range other {
		if have := v[log]; m > have {
			n += m - have
		}
	}
	return n
}
