package sim

import (
	"bytes"

	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// written counts the records ever appended to the peer's journal.
func (p *peer) written() int { return p.cut + len(p.journal) }

// compactLater compacts again and again.
func (p *peer) compactLater() {
	p.live(ledger.Time(1250+p.w.late.IntN(2500)), func() {
		p.compact()
		p.compactLater()
	})
}

// compact forgets how rounds that are final long since came about, here and, a little later, on the disk.
func (p *peer) compact() {
	l := p.replica.Ledger()
	if p.own != l.Vector()[p.log] {
		return // what was decided upon own entries must be durable before it becomes irrevocable
	}
	if dropped := p.replica.Compact(p.w.opts.keep); dropped > 0 {
		p.w.say("%s drops %d entries", p.name, dropped)
		p.save()
	}
}

// save writes a snapshot of the ledger as it is now. Once it is durable it stands for the records before it.
func (p *peer) save() {
	b, upto, saves := p.encode(), p.written(), p.saves
	p.live(ledger.Time(1+p.w.late.IntN(200)), func() {
		if p.saves == saves { // none that is newer was faster
			p.replace(b, upto)
		}
	})
}

func (p *peer) replace(snapshot []byte, upto int) {
	p.saves++
	p.snapshot = snapshot
	p.journal = p.journal[upto-p.cut:]
	p.durable = max(p.durable-(upto-p.cut), 0)
	p.cut = upto
}

func (p *peer) encode() []byte {
	var b bytes.Buffer
	if err := p.replica.Ledger().Snapshot().Encode(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// takeSnapshot takes the state of a peer that has no longer the entries which this one lacks.
func (p *peer) takeSnapshot(q *peer) {
	if q.own != q.replica.Ledger().Vector()[q.log] {
		return // some are not durable yet
	}
	b := q.encode()
	p.live(ledger.Time(1+p.w.late.IntN(50)), func() {
		l := p.replica.Ledger()
		n := p.decode(b)
		if have := l.Vector()[p.log]; n.Vector()[p.log] > have || p.own != have {
			return // this peer's disk went back in time; or an own entry is not durable yet
		}
		p.w.say("%s takes a snapshot of %s", p.name, q.name)
		_, err := l.Merge(n)
		if err != nil {
			p.w.law.broken("%s: %v", p.name, err)
		}
		// It is durable, with all that is known here, before the peer says anything more.
		p.replace(p.encode(), p.written())
		p.poke()
	})
}

func (p *peer) decode(b []byte) *ledger.Snapshot {
	n, err := ledger.DecodeSnapshot(bytes.NewReader(b), 1<<30)
	if err != nil {
		panic(err)
	}
	return n
}

func (p *peer) merge(l *ledger.Ledger, snapshot []byte) {
	if _, err := l.Merge(p.decode(snapshot)); err != nil {
		panic(err)
	}
}
