package gossip

import (
	"bytes"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is what is known of a member's life.
type State string

// The states of a member. Memberlist also suspects members before it takes them
// for dead, but does not show it: a suspect is reported as alive.
const (
	Alive State = "alive"
	Dead  State = "dead" // stopped answering
	Left  State = "left" // said that it leaves
)

// Member is one participant of the mesh as this one sees it.
type Member struct {
	Name  string
	Addr  string // host:port of its gossip
	Meta  []byte // as last heard; the holder may change it
	State State
}

const (
	// maxMembers bounds the members remembered, alive or not.
	maxMembers = 1024
	// noticeFor is how long a member's word that it leaves explains its silence.
	noticeFor = 30 * time.Second
)

// table remembers members. Memberlist's own list holds only those alive, and
// reading its nodes races with its updates, so the table copies what the event
// callbacks are given. Its lock is a leaf: nothing is called while it is held.
type table struct {
	self string

	mu      sync.Mutex
	entries map[string]*entry
	alive   int // of the entries, self included
}

type entry struct {
	node    memberlist.Node
	state   State
	since   time.Time
	leaving time.Time // when it said that it leaves
}

func (e *entry) addr() string {
	return net.JoinHostPort(e.node.Addr.String(), strconv.Itoa(int(e.node.Port)))
}

func newTable(self string) *table {
	return &table{self: self, entries: map[string]*entry{}}
}

func cloneNode(n *memberlist.Node) memberlist.Node {
	c := *n
	c.Addr, c.Meta = bytes.Clone(n.Addr), bytes.Clone(n.Meta)
	return c
}

// admit says whether a member may enter. When the table is full it forgets the
// member gone longest.
func (t *table) admit(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.entries[name] != nil || len(t.entries) < maxMembers {
		return true
	}
	var oldest *entry
	for _, e := range t.entries {
		if e.state != Alive && (oldest == nil || e.since.Before(oldest.since)) {
			oldest = e
		}
	}
	if oldest == nil {
		return false
	}
	delete(t.entries, oldest.node.Name)
	return true
}

// joined reports whether the member was dead before.
func (t *table) joined(n *memberlist.Node) (returned bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[n.Name]
	if e == nil || e.state != Alive {
		t.alive++
	}
	returned = e != nil && e.state == Dead
	t.entries[n.Name] = &entry{node: cloneNode(n), state: Alive, since: time.Now()}
	return returned
}

// dead returns a member that is dead and whose address no other has taken over.
func (t *table) dead(name string) (Member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[name]
	if e == nil || e.state != Dead || t.taken(e) {
		return Member{}, false
	}
	return e.member(), true
}

// lately returns the members that died within d, as dead does each.
func (t *table) lately(d time.Duration) []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	var ms []Member
	for _, e := range t.entries {
		if e.state == Dead && time.Since(e.since) < d && !t.taken(e) {
			ms = append(ms, e.member())
		}
	}
	return ms
}

// taken says whether a member that lives has the address of one that is dead. It
// is called with mu held.
func (t *table) taken(dead *entry) bool {
	for _, e := range t.entries {
		if e.state == Alive && e.node.Port == dead.node.Port && e.node.Addr.Equal(dead.node.Addr) {
			return true
		}
	}
	return false
}

func (e *entry) member() Member {
	return Member{Name: e.node.Name, Addr: e.addr(), Meta: bytes.Clone(e.node.Meta), State: e.state}
}

func (t *table) updated(n *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.entries[n.Name]; e != nil {
		e.node = cloneNode(n)
	}
}

// gone records that a member left or died: memberlist does not say which, the
// member's own notice does.
func (t *table) gone(n *memberlist.Node) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[n.Name]
	if e == nil || e.state != Alive {
		return
	}
	t.alive--
	e.node, e.since, e.state = cloneNode(n), time.Now(), Dead
	if n.Name == t.self || !e.leaving.IsZero() && time.Since(e.leaving) < noticeFor {
		e.state = Left
	}
}

// notice records a member's word that it leaves. It reports whether that changed
// what is known: the word may come after the silence.
func (t *table) notice(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[name]
	if e == nil {
		return false
	}
	e.leaving = time.Now()
	if e.state == Dead && time.Since(e.since) < noticeFor {
		e.state = Left
		return true
	}
	return false
}

func (t *table) list() []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	ms := make([]Member, 0, len(t.entries))
	for _, e := range t.entries {
		ms = append(ms, e.member())
	}
	slices.SortFunc(ms, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return ms
}

// count returns how many members are in a state, self included.
func (t *table) count(s State) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, e := range t.entries {
		if e.state == s {
			n++
		}
	}
	return n
}

func (t *table) numAlive() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.alive
}

// node returns a copy of a member that is alive.
func (t *table) node(name string) (memberlist.Node, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[name]
	if e == nil || e.state != Alive {
		return memberlist.Node{}, false
	}
	return e.node, true
}

// others returns the names of the other members alive, sorted.
func (t *table) others() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	names := make([]string, 0, len(t.entries))
	for name, e := range t.entries {
		if e.state == Alive && name != t.self {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// addrs returns the addresses of the other members in a state, the latest change
// first.
func (t *table) addrs(s State) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var es []*entry
	for name, e := range t.entries {
		if e.state == s && name != t.self {
			es = append(es, e)
		}
	}
	slices.SortFunc(es, func(a, b *entry) int {
		if c := b.since.Compare(a.since); c != 0 {
			return c
		}
		return strings.Compare(a.node.Name, b.node.Name)
	})
	as := make([]string, len(es))
	for i, e := range es {
		as[i] = e.addr()
	}
	return as
}

func (t *table) selfEntry() (Member, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[t.self]
	if e == nil {
		return Member{}, false
	}
	return Member{Name: t.self, Addr: e.addr(), Meta: bytes.Clone(e.node.Meta), State: e.state}, true
}
