package ledger

import (
	"errors"
	"fmt"

	"github.com/fedmesh/fedmesh/model"
)

func (b *PeerJoined) encode(e *encoder) { e.array(2); e.text(b.Name); e.text(b.Mesh) }
func (b *PeerLeft) encode(e *encoder)   { e.array(1); e.vector(b.Seen) }

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
	e.array(7)
	e.sum(c.Session)
	e.uint(c.Round)
	e.sum(c.Inputs)
	e.sum(c.Model)
	e.sum(c.State)
	e.uint(c.Most)
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
		d.arrayOf(1)
		return &PeerLeft{Seen: d.vector()}
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
		d.arrayOf(7)
		return &RoundComputed{Session: d.sum(), Round: d.uint(), Inputs: d.sum(), Result: Result{Model: d.sum(), State: d.sum()}, Most: d.uint(), Seen: d.vector()}
	}
	d.fail(fmt.Errorf("unknown kind %d; this peer is older than the one that wrote it", k))
	return nil
}
