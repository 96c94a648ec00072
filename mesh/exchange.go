package mesh

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/fedmesh/fedmesh/mesh/ledger"
)

// Anti-entropy: a peer sends its vector to another and gets the entries it lacks.
//
//	POST /v1/peer/entries
//	request:  state of the caller
//	response: state of the answering peer, its bases (compaction.go), then entries, each behind its length; the caller asks again while
//	          it still lacks some, and for a snapshot where it cannot have them
//
// A state is a log id, the number of pairs as 4 bytes, and per pair a log id and a sequence number of 8 bytes, ascending; a length
// is 4 bytes. All integers are big-endian.
const (
	maxState    = 1 << 20
	maxFrame    = max(maxState, ledger.MaxEntry)
	maxExchange = 4 << 20  // bytes after which an answer ends
	maxAnswer   = 64 << 20 // bytes of entries taken from one answer: it brings one of each log even when they are long
)

func encodeState(self ledger.LogID, v ledger.Vector) []byte {
	b := append([]byte(nil), self[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	for _, log := range v.Logs() {
		b = append(b, log[:]...)
		b = binary.BigEndian.AppendUint64(b, v[log])
	}
	return b
}

var errState = errors.New("mesh: damaged state")

func decodeState(b []byte) (log ledger.LogID, v ledger.Vector, err error) {
	const pair = len(log) + 8
	if len(b) < len(log)+4 || len(b) > maxState {
		return log, nil, fmt.Errorf("%w: %d bytes", errState, len(b))
	}
	copy(log[:], b)
	n := binary.BigEndian.Uint32(b[len(log):])
	b = b[len(log)+4:]
	if uint64(len(b)) != uint64(n)*uint64(pair) {
		return log, nil, fmt.Errorf("%w: %d pairs in %d bytes", errState, n, len(b))
	}
	v = make(ledger.Vector, n)
	var last ledger.LogID
	for i := 0; len(b) > 0; i, b = i+1, b[pair:] {
		var l ledger.LogID
		copy(l[:], b)
		seq := binary.BigEndian.Uint64(b[len(l):])
		if seq == 0 || i > 0 && last.Compare(l) >= 0 {
			return log, nil, fmt.Errorf("%w: pair %d is zero or out of order", errState, i)
		}
		v[l], last = seq, l
	}
	return log, v, nil
}

// serveEntries answers an exchange.
func (p *Peer) serveEntries(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r, maxState)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	caller, theirs, err := decodeState(body)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	p.answers(caller)
	p.mu.Lock()
	mine := p.visible()
	p.remember(caller, theirs)
	behind := !p.replica.Ledger().Vector().Covers(theirs)
	var out bytes.Buffer
	out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(encodeState(p.self, mine)))))
	out.Write(encodeState(p.self, mine))
	l := p.replica.Ledger()
	compacted := bases{dropped: !l.CanServe(theirs), of: l.Bases()}.encode()
	out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(compacted))))
	out.Write(compacted)
	for _, e := range p.owed(theirs, mine, maxExchange-out.Len()) {
		out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(e.Raw))))
		out.Write(e.Raw)
	}
	p.mu.Unlock()
	if behind {
		p.exchangeSoon(caller)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = w.Write(out.Bytes())
}

// remember keeps what a peer of this mesh says that it holds; what strangers say would only fill the memory. It is called with p.mu
// held.
func (p *Peer) remember(log ledger.LogID, v ledger.Vector) {
	_, known := p.members[log]
	if !known {
		_, known = p.replica.Ledger().Peer(log)
	}
	if known {
		p.vectors[log] = v
	}
}

// owed returns entries between two vectors, of about so many bytes. It takes one of each log by turns: the entry that this peer
// admitted first of those that the other lacks is then among them, and the other can admit it, whatever the logs name of each
// other. It is called with p.mu held.
func (p *Peer) owed(from, to ledger.Vector, room int) []*ledger.Entry {
	logs := to.Logs()
	var out []*ledger.Entry
	for i, more := uint64(0), true; more && (i == 0 || room > 0); i++ {
		more = false
		for _, log := range logs {
			if have, end := from[log], to[log]; have >= end || i >= end-have || i > 0 && room <= 0 {
				continue
			}
			for _, e := range p.replica.Ledger().Range(log, from[log]+i, from[log]+i+1) {
				out = append(out, e)
				room -= len(e.Raw)
				more = true
			}
		}
	}
	return out
}

// exchange takes from another peer what it holds and this one lacks.
func (p *Peer) exchange(ctx context.Context, t target) error {
	for { // an answer is bounded; what is left takes another
		p.mu.Lock()
		before := p.replica.Ledger().Vector().Clone()
		state := encodeState(p.self, p.visible())
		p.mu.Unlock()
		a, err := p.ask(ctx, t, state)
		if err != nil {
			return err
		}
		if err := p.admit(a.entries); err != nil {
			return err
		}
		p.mu.Lock()
		p.remember(a.log, a.vector)
		l := p.replica.Ledger()
		all := l.Vector().Covers(a.vector)
		done := all || before.Covers(l.Vector())
		compacted := a.bases.dropped && !all || all && l.Needs(a.bases.of)
		p.mu.Unlock()
		if compacted {
			if err := p.takeSnapshot(ctx, t, a); err != nil && !errors.Is(err, errNotMine) {
				return err
			}
			return nil // what else there is comes with the next exchange
		}
		if done { // or what is left is not for this peer: more of its own log than it has itself, a log with two contents
			return nil
		}
	}
}

func (p *Peer) ask(ctx context.Context, t target, state []byte) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.StallAfter)
	defer cancel()
	resp, err := p.call(ctx, http.MethodPost, t, "entries", bytes.NewReader(state), nil)
	if err != nil {
		return a, err
	}
	defer drain(resp.Body)
	if a, err = readAnswer(resp.Body); err != nil {
		return a, fmt.Errorf("mesh: entries of %s: %w", t.name, err)
	}
	return a, nil
}

// answer is what serveEntries says.
type answer struct {
	log     ledger.LogID
	vector  ledger.Vector
	bases   bases
	entries []*ledger.Entry
}

// readAnswer reads what serveEntries writes.
func readAnswer(r io.Reader) (a answer, err error) {
	br := bufio.NewReader(r)
	head, err := readFrame(br)
	if err == nil {
		a.log, a.vector, err = decodeState(head)
	}
	if err == nil {
		head, err = readFrame(br)
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		a.bases, err = decodeBases(head)
	}
	if err != nil {
		return answer{}, err
	}
	for total := 0; ; {
		raw, err := readFrame(br)
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return answer{}, err
		}
		if total += len(raw); total > maxAnswer {
			return answer{}, fmt.Errorf("more than %d bytes of entries", maxAnswer)
		}
		e, err := ledger.DecodeEntry(raw)
		if err != nil {
			return answer{}, err
		}
		a.entries = append(a.entries, e)
	}
}

// readFrame reads a length and so many bytes; io.EOF only where a frame would begin.
func readFrame(r io.Reader) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(n[:])
	if size > maxFrame {
		return nil, fmt.Errorf("frame of %d bytes, over the limit of %d", size, maxFrame)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, fmt.Errorf("frame of %d bytes: %w", size, io.ErrUnexpectedEOF)
	}
	return b, nil
}

// exchangeSoon has an exchange with a peer that lives done by exchangeLoop; requests that come faster than it works merge.
func (p *Peer) exchangeSoon(log ledger.LogID) {
	p.mu.Lock()
	alive := p.members[log].alive
	if alive {
		p.urgent[log] = true
	}
	p.mu.Unlock()
	if !alive {
		return
	}
	p.hasten()
}

// hasten wakes exchangeLoop.
func (p *Peer) hasten() {
	select {
	case p.hurry <- struct{}{}:
	default:
	}
}

// exchangeLoop brings this peer up to date: with everybody after the start and after a stall, then with a random other peer now
// and then, and at once with one that is known to have more.
func (p *Peer) exchangeLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	alone := time.Now().Add(p.cfg.AloneAfter)
	for {
		select {
		case <-p.ctx.Done():
			return
		case <-timer.C:
		case <-p.hurry:
		}
		p.mu.Lock()
		synced := p.synced
		all := p.living()
		urgent := p.urgent
		p.urgent = map[ledger.LogID]bool{}
		p.mu.Unlock()
		switch {
		case !synced:
			p.catchUp(all, alone)
		case len(all) > 0 && len(urgent) == 0:
			p.exchangeAside(all[rand.IntN(len(all))])
		default:
			for _, t := range all {
				if urgent[t.log] {
					p.exchangeAside(t)
				}
			}
		}
		wait := p.cfg.ExchangeEvery/2 + rand.N(p.cfg.ExchangeEvery)
		if !p.isSynced() {
			wait = min(wait, 100*time.Millisecond)
		}
		timer.Reset(wait)
	}
}

func (p *Peer) isSynced() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.synced
}

func (p *Peer) tryExchange(t target) bool {
	err := p.exchange(p.ctx, t)
	if err != nil && p.ctx.Err() == nil {
		p.log.Debug().Err(err).Str("peer", t.name).Msg("an exchange failed")
	}
	return err == nil
}

// exchangeAside exchanges with a peer in a goroutine of its own, so that one that hangs keeps no other waiting. One exchange with a peer
// runs at a time; whoever asks for another meanwhile has it after.
func (p *Peer) exchangeAside(t target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exchanging[t.log] {
		p.urgent[t.log] = true
		return
	}
	p.exchanging[t.log] = true
	p.wg.Go(func() {
		p.tryExchange(t)
		p.mu.Lock()
		delete(p.exchanging, t.log)
		again := p.urgent[t.log]
		p.mu.Unlock()
		if again {
			p.hasten()
		}
	})
}
