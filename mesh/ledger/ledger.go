package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fedmesh/fedmesh/model"
)

// Errors of Ledger.Add.
var (
	// ErrForked means that one log has two different entries under one number: its data directory was copied, and two peers
	// write it.
	ErrForked = errors.New("ledger: log forked")
	// ErrFull means that too many entries of one log wait for what they name; they must be sent again later.
	ErrFull = errors.New("ledger: too many entries wait for admission")
)

// What waits outside the ledger is bounded: entries of one log, and bytes of all logs.
const (
	maxWaiting      = 1 << 14
	maxWaitingBytes = 64 << 20
)

// Ledger is a set of logs and what is derived from it. Merging two ledgers is adding the entries of one to the other, in any
// order and any number of times. A Ledger is not safe for concurrent use; it has no clock and does no I/O.
type Ledger struct {
	logs     map[LogID]*journal
	vector   Vector
	outside  map[LogID]map[uint64]*Entry // not yet admitted, by sequence number
	waiting  int                         // bytes outside
	sessions map[SessionKey]*Session
	peers    peers
	version  uint64 // counts admissions
}

// journal is the admitted part of one log: all entries behind base, and those up to it that still matter.
type journal struct {
	entries []*Entry // ascending
	base    uint64
	last    model.Digest // of the last admitted entry
	ended   bool         // by a PeerLeft
}

// find returns the index of the first entry behind seq.
func (j *journal) find(seq uint64) int {
	if seq >= j.base { // without gaps from here on
		dense := len(j.entries)
		if dense > 0 {
			if last := j.entries[dense-1].Seq; last > seq {
				return dense - int(last-seq)
			}
		}
		return dense
	}
	at, _ := slices.BinarySearchFunc(j.entries, seq+1, func(e *Entry, seq uint64) int { return compareUint(e.Seq, seq) })
	return at
}

// New returns an empty ledger.
func New() *Ledger {
	return &Ledger{
		logs:     map[LogID]*journal{},
		vector:   Vector{},
		outside:  map[LogID]map[uint64]*Entry{},
		sessions: map[SessionKey]*Session{},
		peers:    newPeers(),
	}
}

// Vector returns how much of each log is admitted. The caller must not change it, and it changes with the ledger.
func (l *Ledger) Vector() Vector { return l.vector }

// Entry returns the admitted entry at ref; nil where there is none, or where it matters no longer and was dropped.
func (l *Ledger) Entry(ref Ref) *Entry {
	j := l.logs[ref.Log]
	if j == nil || ref.Seq == 0 || ref.Seq > l.vector[ref.Log] {
		return nil
	}
	if at := j.find(ref.Seq - 1); at < len(j.entries) && j.entries[at].Seq == ref.Seq {
		return j.entries[at]
	}
	return nil
}

// Range returns the admitted entries of a log with from < seq ≤ to, none where some of them were dropped (see CanServe). The
// slice is shared: read only.
func (l *Ledger) Range(log LogID, from, to uint64) []*Entry {
	j := l.logs[log]
	if j == nil || from < j.base {
		return nil
	}
	to = min(to, l.vector[log])
	if from >= to {
		return nil
	}
	return j.entries[j.find(from):j.find(to)]
}

// Outside counts the entries that wait for what they name.
func (l *Ledger) Outside() int {
	n := 0
	for _, w := range l.outside {
		n += len(w)
	}
	return n
}

// OutsideOf returns the entries of a log that wait, ascending. A peer that asks for its own log counts them in.
func (l *Ledger) OutsideOf(log LogID) []*Entry {
	w := l.outside[log]
	out := make([]*Entry, 0, len(w))
	for _, seq := range slices.Sorted(maps.Keys(w)) {
		out = append(out, w[seq])
	}
	return out
}

// Wanting returns, for every entry that waits at the head of its log, the first thing it waits for.
func (l *Ledger) Wanting() Vector {
	want := Vector{}
	for log, w := range l.outside {
		next := l.vector[log] + 1
		e := w[next]
		if e == nil { // a gap: ask for what lies before the first that waits
			want.Join(Vector{log: slices.Min(slices.Collect(maps.Keys(w))) - 1})
			continue
		}
		e.Body.needs(func(log LogID, seq uint64) {
			if seq > l.vector[log] {
				want.Join(Vector{log: seq})
			}
		})
	}
	return want
}

// Add merges one entry and returns the entries that became admitted by it, in an order in which they may be added to an
// empty ledger; there may be some besides an error, which concerns one log only. An entry that is known already changes nothing.
func (l *Ledger) Add(e *Entry) ([]*Entry, error) {
	if have := l.Entry(e.Ref()); have != nil {
		if have.Digest != e.Digest {
			return nil, fmt.Errorf("%w: two contents for %s/%d", ErrForked, e.Log, e.Seq)
		}
		return nil, nil
	}
	if e.Seq <= l.vector[e.Log] { // it was dropped
		return nil, nil
	}
	w := l.outside[e.Log]
	if have := w[e.Seq]; have != nil {
		if have.Digest != e.Digest {
			return nil, fmt.Errorf("%w: two contents for %s/%d", ErrForked, e.Log, e.Seq)
		}
		return nil, nil // what is outside has been tried
	}
	next := e.Seq == l.vector[e.Log]+1 && l.ready(e)
	if !next && (len(w) >= maxWaiting || l.waiting+len(e.Raw) > maxWaitingBytes) {
		return nil, fmt.Errorf("%w: log %s", ErrFull, e.Log.Short())
	}
	if w == nil {
		w = map[uint64]*Entry{}
		l.outside[e.Log] = w
	}
	w[e.Seq] = e
	l.waiting += len(e.Raw)
	if !next {
		return nil, nil
	}
	return l.settle(e.Log)
}

// settle admits what can be admitted after the next entry of log arrived.
func (l *Ledger) settle(log LogID) (admitted []*Entry, err error) {
	todo := []LogID{log}
	for len(todo) > 0 {
		log, todo = todo[0], todo[1:]
		n := len(admitted)
		for {
			e := l.outside[log][l.vector[log]+1]
			if e == nil || !l.ready(e) {
				break
			}
			delete(l.outside[log], e.Seq)
			l.waiting -= len(e.Raw)
			if refused := l.admit(e); refused != nil {
				err = refused
				break
			}
			admitted = append(admitted, e)
		}
		if len(l.outside[log]) == 0 {
			delete(l.outside, log)
		}
		if len(admitted) > n { // others may have waited for these
			todo = slices.SortedFunc(maps.Keys(l.outside), LogID.Compare)
		}
	}
	return admitted, err
}

// ready reports whether everything that e names is held (causal admission).
func (l *Ledger) ready(e *Entry) bool {
	ok := true
	e.Body.needs(func(log LogID, seq uint64) {
		// An entry may name earlier entries of its own log.
		if seq > l.vector[log] {
			ok = false
		}
	})
	return ok
}

func (l *Ledger) admit(e *Entry) error {
	j := l.logs[e.Log]
	if j == nil {
		j = &journal{}
		l.logs[e.Log] = j
	}
	if l.vector[e.Log] > 0 && (j.last != e.Prev || j.ended) {
		return fmt.Errorf("%w: %s/%d does not follow what is held of that log", ErrForked, e.Log, e.Seq)
	}
	j.push(e)
	l.vector[e.Log] = e.Seq
	l.version++
	l.index(e)
	return nil
}

func (j *journal) push(e *Entry) {
	j.entries = append(j.entries, e)
	j.last, j.ended = e.Digest, e.Body.Kind() == KindPeerLeft
}

// Append adds the next entry of a log that the caller owns. It fails when the body names what is not held, which its author
// cannot have meant, and when the log has ended.
func (l *Ledger) Append(log LogID, body Body) (*Entry, error) {
	seq := l.vector[log] + 1
	prev := zeroDigest
	if j := l.logs[log]; j != nil {
		if j.ended {
			return nil, fmt.Errorf("ledger: log %s has ended: its peer left", log.Short())
		}
		prev = j.last
	}
	e := NewEntry(log, seq, prev, body)
	if len(e.Raw) > MaxEntry {
		return nil, fmt.Errorf("ledger: entry of %d bytes is over the limit of %d", len(e.Raw), MaxEntry)
	}
	if !l.ready(e) {
		return nil, fmt.Errorf("ledger: %s/%d names entries that are not held", log.Short(), seq)
	}
	if err := l.admit(e); err != nil {
		return nil, err
	}
	return e, nil
}

// Session returns a session by key, or nil when its opening is not held.
func (l *Ledger) Session(key SessionKey) *Session {
	s := l.sessions[key]
	if s == nil || s.opened == nil {
		return nil
	}
	s.derive()
	return s
}

// Sessions returns all sessions, by name and then key.
func (l *Ledger) Sessions() []*Session {
	var out []*Session
	for key := range l.sessions {
		if s := l.Session(key); s != nil {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *Session) int {
		if a.Name() != b.Name() {
			return compareStrings(a.Name(), b.Name())
		}
		return bytes.Compare(a.key[:], b.key[:])
	})
	return out
}
