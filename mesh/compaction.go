package mesh

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/model"
)

// maxSnapshot bounds the snapshot of a ledger that is taken from another peer, or read from the disk.
const maxSnapshot = 1 << 30

// bases is what the answer to an exchange says of compaction: 1 byte, 1 where entries that the caller lacks were dropped and only a
// snapshot can bring what they said; then, for every session with compacted rounds, its key and, as 8 bytes, the last of them, ascending.
type bases struct {
	dropped bool
	of      map[ledger.SessionKey]uint64
}

func (b bases) encode() []byte {
	out := []byte{0}
	if b.dropped {
		out[0] = 1
	}
	for _, key := range slices.SortedFunc(maps.Keys(b.of), func(a, b ledger.SessionKey) int { return bytes.Compare(a[:], b[:]) }) {
		out = append(out, key[:]...)
		out = binary.BigEndian.AppendUint64(out, b.of[key])
	}
	return out
}

func decodeBases(b []byte) (out bases, err error) {
	const pair = len(model.Digest{}) + 8
	if len(b) == 0 || b[0] > 1 || (len(b)-1)%pair != 0 {
		return out, fmt.Errorf("%w: %d bytes of bases", errState, len(b))
	}
	out = bases{dropped: b[0] == 1, of: make(map[ledger.SessionKey]uint64, (len(b)-1)/pair)}
	var last ledger.SessionKey
	for b = b[1:]; len(b) > 0; b = b[pair:] {
		key, round := ledger.SessionKey(b), binary.BigEndian.Uint64(b[len(model.Digest{}):])
		if round == 0 || len(out.of) > 0 && bytes.Compare(last[:], key[:]) >= 0 {
			return out, fmt.Errorf("%w: base %d is zero or out of order", errState, len(out.of))
		}
		out.of[key], last = round, key
	}
	return out, nil
}

// compact forgets how rounds that are final long since came about, once the log has grown by enough: by Config.CompactAfter, and by as
// much as what is kept.
func (p *Peer) compact() {
	stats := p.dir.Log().Stats()
	if stats.Segments < max(p.cfg.CompactAfter, stats.Snapshot) || !p.isSynced() {
		return
	}
	p.compacting.Lock()
	defer p.compacting.Unlock()
	n, pos, dropped, err := p.state(p.ctx, func() int { return p.replica.Compact(p.cfg.KeepRounds) })
	if err == nil && dropped > 0 {
		err = p.dir.Log().Snapshot(p.ctx, pos, n.Encode)
	}
	switch {
	case err != nil && p.ctx.Err() == nil:
		if skipped, due := p.said.again("compact"); due {
			p.log.Warn().Err(err).Int("skipped", skipped).Msg("the log could not be compacted; it stays as it is")
		}
	case err == nil && dropped > 0:
		p.metrics.compactions.Inc()
		p.log.Info().Int("entries", dropped).Int64("bytes", stats.Segments-p.dir.Log().Stats().Segments).Msg("the log was compacted")
	}
}

// errBusy says that own entries keep coming that are not durable yet.
var errBusy = errors.New("mesh: own entries are on their way to the disk")

// state returns a snapshot of the ledger whose own entries are all durable, and the last record that it stands for. before runs first, under the
// same lock.
func (p *Peer) state(ctx context.Context, before func() int) (n *ledger.Snapshot, pos uint64, done int, err error) {
	for range 10 {
		if err := p.dir.Log().Sync(ctx, p.dir.Log().Last()); err != nil {
			return nil, 0, 0, fmt.Errorf("mesh: %w", err)
		}
		p.mu.Lock()
		if p.own == p.replica.Ledger().Vector()[p.self] {
			done = before()
			n, pos = p.replica.Ledger().Snapshot(), p.dir.Log().Last()
			p.mu.Unlock()
			return n, pos, done, nil
		}
		changed := p.changed
		p.mu.Unlock()
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, 0, 0, fmt.Errorf("mesh: %w", context.Cause(ctx))
		}
	}
	return nil, 0, 0, errBusy
}

// serveSnapshot gives the ledger's state to a peer that lacks entries which are no longer here.
func (p *Peer) serveSnapshot(w http.ResponseWriter, r *http.Request) {
	n, _, _, err := p.state(r.Context(), func() int { return 0 })
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	p.metrics.snapshots.WithLabelValues("given").Inc()
	if err := n.Encode(w); err != nil {
		p.log.Debug().Err(err).Msg("a snapshot was not taken to its end")
	}
}

// nothing is a record that stands for no entry: msgpack's nil.
var nothing = []byte{0xc0}

// saveState has a snapshot take the place of all records. It is called with p.mu held.
func (p *Peer) saveState(n *ledger.Snapshot) error {
	if p.dir.Log().Last() == 0 { // a snapshot stands for records
		if _, err := p.dir.Log().Append(nothing); err != nil {
			return err
		}
	}
	return p.dir.Log().Snapshot(p.ctx, p.dir.Log().Last(), n.Encode)
}

// errNotMine is why a snapshot is left alone that holds more of this peer's own log than this peer.
var errNotMine = errors.New("mesh: another peer holds more of this peer's own log than it does itself")

// takeSnapshot merges the ledger's state as another peer has it, in place of entries that peer has no more; it showed a when it was asked
// for them. One is taken at a time, and none whose news another has brought.
func (p *Peer) takeSnapshot(ctx context.Context, t target, a answer) error {
	p.compacting.Lock()
	defer p.compacting.Unlock()
	p.mu.Lock()
	l := p.replica.Ledger()
	known := l.Vector().Covers(a.vector) && !l.Needs(a.bases.of)
	p.mu.Unlock()
	if known {
		return nil
	}
	resp, err := p.call(ctx, http.MethodGet, t, "snapshot", nil, nil)
	if err != nil {
		return err
	}
	n, err := ledger.DecodeSnapshot(resp.Body, maxSnapshot)
	drain(resp.Body)
	if err != nil {
		return fmt.Errorf("mesh: of %s: %w", t.name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.broken != nil:
		return p.broken
	case n.Vector()[p.self] > l.Vector()[p.self]:
		if p.joined {
			p.breakDown(fmt.Errorf("mesh: entry %d of this peer's own log comes from outside: another process runs on a copy of %s; stop one of them and give it an empty data directory", n.Vector()[p.self], p.cfg.DataDir))
		}
		return errNotMine
	}
	l = p.replica.Ledger()
	if _, err := l.Merge(n); err != nil {
		p.metrics.forks.Inc()
		p.log.Error().Err(err).Str("peer", t.name).Msg("a peer's log has two contents: its data directory was copied; it is refused")
	}
	// What is said from now on may name what came with the snapshot, so that must be on the disk first: nobody else gets the ledger until it is.
	if err := p.saveState(l.Snapshot()); err != nil {
		p.breakDown(fmt.Errorf("mesh: %w", err))
		return storageProblem(err)
	}
	p.membership = true
	for _, st := range p.sessions {
		st.counted = false
	}
	p.metrics.snapshots.WithLabelValues("taken").Inc()
	p.log.Info().Str("peer", t.name).Int("sessions", len(l.Sessions())).Msg("took a snapshot of the ledger")
	p.notify()
	p.wake()
	return nil
}
