package sim

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"

	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// world is one run: a clock, a queue of events, a random source, peers, combiners, and a network between them.
type world struct {
	now   ledger.Time
	queue events
	seq   uint64
	rng   *rand.Rand
	more  *rand.Rand // for faults that were added later, so that older seeds keep what they were
	late  *rand.Rand // for compaction, which came after those
	trace io.Writer
	hash  uint64 // of everything traced: two runs of a seed agree in it

	opts      options
	peers     []*peer
	combiners []*combiner
	group     map[*peer]int // partition: peers talk within a group
	deaf      map[way]bool  // what goes this way is lost, for a while
	loss      float64       // of one message
	chaos     bool          // faults still happen
	sessions  []ledger.SessionKey
	law       laws
	forgotten map[string]bool // what operators proposed
}

// options are what a seed draws for its run.
type options struct {
	peers      int
	sessions   int
	combiners  int
	chaosFor   ledger.Time
	copies     int
	minimum    int
	target     int
	permanent  bool // one peer dies for good
	forgets    bool // operators forget those that died for good, and now and then somebody who is only away
	conflicts  bool // combiners push other bytes under a key they used
	leaves     bool // one peer leaves in good order
	power      bool // kills may be power cuts
	joins      int  // peers that join in mid-session
	killEvery  ledger.Time
	splitEvery ledger.Time

	skew     bool // the peers' clocks run at different speeds
	slow     bool // one peer takes ten times as long for everything
	oneWay   bool // now and then one peer does not hear another, and does not notice
	restores bool // disks are lost, or go back to what they were some time ago
	compacts bool // peers compact their ledgers
	keep     uint64
	closes   bool // a session is closed in the middle
}

// way is a direction between two peers.
type way struct{ from, to *peer }

func draw(rng *rand.Rand) options {
	o := options{
		peers: 2 + rng.IntN(6), sessions: 1 + rng.IntN(2), combiners: 2 + rng.IntN(5),
		chaosFor: ledger.Time(5000 + rng.IntN(20000)), copies: 1 + rng.IntN(3),
		killEvery: ledger.Time(500 + rng.IntN(6000)), splitEvery: ledger.Time(1500 + rng.IntN(10000)),
	}
	o.minimum = 1 + rng.IntN(min(2, o.combiners))
	o.target = rng.IntN(o.combiners + 1)
	o.permanent = rng.IntN(3) == 0
	o.leaves = o.peers > 2 && rng.IntN(3) == 0
	o.joins = rng.IntN(3)
	o.power = rng.IntN(2) == 0
	o.forgets = rng.IntN(3) == 0
	o.conflicts = rng.IntN(4) == 0
	return o
}

func (o *options) drawMore(rng *rand.Rand) {
	o.skew = rng.IntN(3) == 0
	o.slow = rng.IntN(5) == 0
	o.oneWay = rng.IntN(3) == 0
	o.restores = rng.IntN(4) == 0
}

func (o *options) drawLate(rng *rand.Rand) {
	o.compacts = rng.IntN(2) == 0
	o.keep = uint64(rng.IntN(4))
	o.closes = rng.IntN(4) == 0
}

type event struct {
	at  ledger.Time
	seq uint64
	do  func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) } //nolint:errcheck // after pushes nothing else
func (q *events) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// after runs do once d has passed.
func (w *world) after(d ledger.Time, do func()) {
	w.seq++
	heap.Push(&w.queue, event{at: w.now + max(d, 0), seq: w.seq, do: do})
}

// every runs do again and again, at intervals between half of d and one and a half.
func (w *world) every(d ledger.Time, do func()) {
	w.after(w.between(d/2, d+d/2), func() {
		do()
		w.every(d, do)
	})
}

func (w *world) between(lo, hi ledger.Time) ledger.Time {
	return lo + ledger.Time(w.rng.Int64N(int64(max(hi-lo, 1))))
}

// delay is how long a message takes: mostly a few milliseconds, now and then much longer, so that messages overtake each other.
func (w *world) delay() ledger.Time {
	if w.rng.IntN(20) == 0 {
		return w.between(50, 800)
	}
	return w.between(1, 20)
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// run handles events until the clock reaches end.
func (w *world) run(end ledger.Time) {
	for len(w.queue) > 0 && w.queue[0].at <= end {
		e := heap.Pop(&w.queue).(event) //nolint:errcheck // after pushes nothing else
		w.now = e.at
		e.do()
	}
	w.now = end
}

// linked reports whether two peers can ask each other now: what needs both ways.
func (w *world) linked(a, b *peer) bool {
	return w.together(a, b) && !w.deaf[way{a, b}] && !w.deaf[way{b, a}]
}

// together reports whether two peers take each other for alive, as somebody else hears both.
func (w *world) together(a, b *peer) bool { return a.up && b.up && a != b && w.group[a] == w.group[b] }

// say writes one line of trace and folds it into the run's hash.
func (w *world) say(format string, args ...any) {
	line := fmt.Sprintf("%7d  "+format+"\n", append([]any{w.now}, args...)...)
	h := fnv.New64a()
	fmt.Fprintf(h, "%d", w.hash)
	_, _ = io.WriteString(h, line)
	w.hash = h.Sum64()
	if w.trace != nil {
		_, _ = io.WriteString(w.trace, line)
	}
}

func sortLogs(logs []ledger.LogID) { slices.SortFunc(logs, ledger.LogID.Compare) }
