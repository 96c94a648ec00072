package mesh

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

// errNoHolder is returned when no peer in reach delivers a blob, errAbsent when all of them say that they do not have it.
var (
	errNoHolder = errors.New("mesh: no peer in reach delivers it")
	errAbsent   = errors.New("mesh: no peer in reach has it")
)

// fetch makes sure that a blob is here, taking it from the first of the peers that delivers it; a transfer that breaks off goes on
// at the next, and one that stands still at whoever answers first. One fetch of a blob runs at a time.
func (p *Peer) fetch(ctx context.Context, d model.Digest, from []target) error {
	for {
		if p.dir.Blobs().Has(d) {
			return nil
		}
		p.mu.Lock()
		other, busy := p.fetching[d]
		if !busy {
			p.fetching[d] = make(chan struct{})
		}
		p.mu.Unlock()
		if !busy {
			break
		}
		select {
		case <-other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() {
		p.mu.Lock()
		close(p.fetching[d])
		delete(p.fetching, d)
		p.mu.Unlock()
	}()
	w, err := p.dir.Blobs().Create()
	if err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	x := &transfer{
		p: p, blob: d, w: w, h: model.NewHash(), next: slices.Clone(from), arrived: make(chan arrival), ended: make(chan ending),
		absent: len(from) > 0, last: errNoHolder,
	}
	err = x.run(ctx)
	x.w.Abort()
	return err
}

// transfer is a blob on its way here.
type transfer struct {
	p    *Peer
	blob model.Digest
	w    *store.Writer
	h    hash.Hash
	have int64

	next    []target         // whom to ask, in this order
	sources map[*source]bool // that were asked for what is behind have
	slow    map[ledger.LogID]bool
	running int // sources, the dropped ones too
	arrived chan arrival
	ended   chan ending

	absent bool // all that answered say that they do not have it
	last   error
}

// source is one answer to a request for the rest of a blob.
type source struct {
	target
	cancel context.CancelFunc
	taken  chan struct{} // what arrived was written; with room, as the source may have ended meanwhile
}

type arrival struct {
	from *source
	data []byte // until taken
}

type ending struct {
	from *source
	err  error // nil when all has come
}

func (x *transfer) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		for ; x.running > 0; x.running-- {
			<-x.ended
		}
	}()
	x.sources, x.slow = map[*source]bool{}, map[ledger.LogID]bool{}
	hedge := time.NewTicker(x.p.pace.hedge())
	defer hedge.Stop()
	for {
		if len(x.sources) == 0 {
			if !x.ask(ctx) {
				return x.failure()
			}
			hedge.Reset(x.p.pace.hedge())
		}
		select {
		case a := <-x.arrived:
			if !x.sources[a.from] {
				continue
			}
			x.drop(a.from)
			if err := x.write(a.data); err != nil {
				return err
			}
			a.from.taken <- struct{}{}
			hedge.Reset(x.p.pace.hedge())
		case e := <-x.ended:
			x.running--
			if !x.sources[e.from] {
				continue
			}
			delete(x.sources, e.from)
			if e.err != nil {
				x.note(e.err)
				continue
			}
			if done, err := x.finish(ctx, e.from); done || err != nil {
				return err
			}
		case <-hedge.C:
			if len(x.sources) < askedAtOnce {
				x.ask(ctx)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ask asks the next peer for what is not here yet; false when there is none.
func (x *transfer) ask(ctx context.Context) bool {
	if len(x.next) == 0 || ctx.Err() != nil {
		return false
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &source{target: x.next[0], cancel: cancel, taken: make(chan struct{}, 1)}
	x.next = x.next[1:]
	x.sources[s] = true
	x.running++
	have := x.have
	go func() {
		err := x.receive(ctx, s, have)
		cancel()
		x.ended <- ending{s, err}
	}()
	return true
}

// receive hands over what a source sends; nil when that was all.
func (x *transfer) receive(ctx context.Context, s *source, have int64) error {
	began := time.Now()
	resp, err := x.p.call(ctx, http.MethodGet, s.target, "blobs/"+x.blob.String(), nil, func(r *http.Request) {
		if have > 0 {
			r.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		}
	})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	x.p.pace.note(time.Since(began))
	if have > 0 && resp.StatusCode != http.StatusPartialContent {
		return fmt.Errorf("mesh: %s does not resume", s.name)
	}
	buf := make([]byte, copyBuffer)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			select {
			case x.arrived <- arrival{s, buf[:n]}:
			case <-ctx.Done():
				return ctx.Err()
			}
			select {
			case <-s.taken:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("mesh: %s: %w", s.name, err)
		}
	}
}

// drop goes on with one source alone, whose bytes came first: the others were asked for what is here now. They are asked once more
// when nobody else is left.
func (x *transfer) drop(but *source) {
	for s := range x.sources {
		if s == but {
			continue
		}
		s.cancel()
		delete(x.sources, s)
		x.absent = false
		if !x.slow[s.log] {
			x.slow[s.log] = true
			x.next = append(x.next, s.target)
		}
	}
}

func (x *transfer) write(b []byte) error {
	if _, err := x.w.Write(b); err != nil {
		return fmt.Errorf("mesh: %w", err)
	}
	_, _ = x.h.Write(b)
	x.have += int64(len(b))
	return nil
}

// note keeps why a source did not deliver.
func (x *transfer) note(err error) {
	var refusal *api.Problem
	x.absent = x.absent && errors.As(err, &refusal) && refusal.Status == http.StatusNotFound
	x.last = err
}

// finish makes a blob of what has come, if it is what was asked for.
func (x *transfer) finish(ctx context.Context, last *source) (done bool, err error) {
	got := model.Digest(x.h.Sum(nil))
	if got == x.blob {
		if err := x.w.Commit(ctx, x.blob, false); err != nil {
			return false, fmt.Errorf("mesh: %w", err)
		}
		x.p.metrics.bytesIn.Add(float64(x.have))
		return true, nil
	}
	x.p.log.Error().Str("peer", last.name).Stringer("model", x.blob).Stringer("got", got).Msg("a peer delivered other bytes than it was asked for")
	x.last = fmt.Errorf("mesh: %s delivered %s for %s", last.name, got.Short(), x.blob.Short())
	// What there is may be of several peers: all again, from the next.
	x.drop(nil)
	x.w.Abort()
	if x.w, err = x.p.dir.Blobs().Create(); err != nil {
		return false, fmt.Errorf("mesh: %w", err)
	}
	x.h.Reset()
	x.have, x.absent = 0, false
	return false, nil
}

func (x *transfer) failure() error {
	if x.absent {
		x.last = errAbsent
	}
	return fmt.Errorf("mesh: blob %s: %w", x.blob.Short(), x.last)
}
