package mesh

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

// Sum states: an exact weighted sum never travels without its label, the set of updates inside it.
//
// At its seal a peer gossips the sum of the updates in its cut that combiners pushed to it, when it is small. Larger ones are asked
// for by label and range, from any peer that holds the updates: the bits are the same whoever answers.
const (
	maxGossiped = 256 << 10 // encoded bytes of a sum that is gossiped
	maxLabel    = 1 << 14   // updates in a label
	cheap       = 1 << 20   // bytes of updates that are fetched rather than their sum be asked for
	maxMetrics  = 64        // metrics of an update
	maxPartials = 64        // sum states kept for a session

	maxSumRequest = 8 << 20 // bytes; a label of the longest names has less
)

// gossipPartial publishes the sum of the updates that a round's own seal brings and that combiners pushed to this very peer.
func (p *Peer) gossipPartial(seal *ledger.RoundSealed) {
	p.mu.Lock()
	s := p.replica.Ledger().Session(seal.Session)
	var own []*ledger.UpdateHeld
	if s != nil && seal.Round < s.Open() {
		for _, u := range s.Round(seal.Round).Content {
			if p.accepted[seal.Session][u.Key()] {
				own = append(own, u)
			}
		}
	}
	alone := len(p.living()) == 0
	p.mu.Unlock()
	if len(own) == 0 || alone {
		return
	}
	st, err := p.prepare(seal.Session)
	if err != nil || st.summing() == nil || st.estimateSum(own) > maxGossiped {
		return
	}
	var sum bytes.Buffer
	err = p.sum(p.ctx, st, labelOf(own), 0, st.spec.Elements(), &sum)
	if err != nil {
		p.log.Debug().Err(err).Msg("no sum to gossip")
		return
	}
	if sum.Len() > maxGossiped {
		return // larger than expected
	}
	msg := partial{Session: seal.Session, Round: seal.Round, Label: labelOf(own), Metrics: sumMetrics(own), Sum: sum.Bytes()}
	for _, u := range own {
		msg.Weight += u.Weight
	}
	p.mu.Lock()
	g := p.gossip
	p.mu.Unlock()
	g.Broadcast(append([]byte{msgPartial}, encodePartial(&msg)...))
	p.metrics.sums.WithLabelValues("gossiped").Inc()
}

// summing returns the session's strategy if sums of updates may stand in their place. Requests for sums name no bases and rounds, so
// the terms must be the updates themselves.
func (st *session) summing() aggregate.Summing {
	if s, ok := st.strategy.(aggregate.Summing); ok && s.Plain() {
		return s
	}
	return nil
}

// estimateSum returns about how many bytes the sum of some updates takes.
func (st *session) estimateSum(us []*ledger.UpdateHeld) int64 {
	var total uint64
	for _, u := range us {
		total += u.Weight
	}
	return st.spec.EstimatePartial(0, st.spec.Elements(), int64(min(total, aggregate.MaxTotalWeight)))
}

// sumMetrics adds up the metrics that all of the updates report, in the order of the updates.
func sumMetrics(us []*ledger.UpdateHeld) []weighted {
	sums, counts := map[string]float64{}, map[string]int{}
	for _, u := range us {
		for _, m := range u.Metrics {
			sums[m.Name] += float64(m.Value * float64(u.Weight))
			counts[m.Name]++
		}
	}
	var out []weighted
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		if counts[name] == len(us) {
			out = append(out, weighted{Name: name, Sum: sums[name]})
		}
	}
	return out
}

// sum writes the exact sum over an explicit label. All of the label must be here; what cannot be summed is told before the first byte.
func (p *Peer) sum(ctx context.Context, st *session, label []labelled, from, to int64, out io.Writer) error {
	summing := st.summing()
	if summing == nil {
		return fmt.Errorf("mesh: strategy %s has no use for sums", st.strategy.Info().Name)
	}
	files := map[model.Digest]*store.Blob{} // a label may name the same bytes many times
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	var updates []aggregate.Update
	for _, u := range label {
		b := files[u.Model]
		if b == nil {
			var err error
			if b, err = p.dir.Blobs().Open(u.Model); err != nil {
				return fmt.Errorf("mesh: update %s, model %s, is not here", u.key(), u.Model.Short())
			}
			files[u.Model] = b
		}
		if b.Size() != st.spec.Layout().Size() {
			return fmt.Errorf("mesh: blob %s is no update of the session", u.Model.Short())
		}
		updates = append(updates, aggregate.Update{Weight: int64(u.Weight), Source: b})
	}
	terms, err := summing.Terms(ctx, aggregate.Round{Spec: st.spec}, updates)
	if err != nil {
		return err
	}
	return st.spec.Partial(ctx, nil, from, to, terms, out)
}

// serveSums answers a request for a sum.
func (p *Peer) serveSums(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r, maxSumRequest)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	req, err := decodeSumRequest(body)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	s, err := p.sessionOf(r)
	if err != nil {
		refuse(w, http.StatusNotFound, err)
		return
	}
	st, err := p.prepare(s.Key())
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	if req.To > st.spec.Elements() {
		refuse(w, http.StatusBadRequest, fmt.Errorf("mesh: elements %d to %d of a model of %d", req.From, req.To, st.spec.Elements()))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	out := &begun{Writer: w}
	switch err := p.sum(r.Context(), st, req.Label, req.From, req.To, out); {
	case err == nil:
		p.metrics.sums.WithLabelValues("served").Inc()
	case !out.yes:
		refuse(w, http.StatusNotFound, err)
	default:
		p.log.Debug().Err(err).Msg("a sum was broken off")
		panic(http.ErrAbortHandler) // the answer has begun: only a broken connection tells that it is not whole
	}
}

// begun remembers whether anything was written.
type begun struct {
	io.Writer
	yes bool
}

func (b *begun) Write(p []byte) (int, error) {
	b.yes = true
	return b.Writer.Write(p)
}

// receivePartial keeps a gossiped sum state until its round is computed.
func (p *Peer) receivePartial(b []byte) {
	msg, err := decodePartial(b)
	if err != nil {
		if skipped, due := p.said.again("sum"); due {
			p.log.Warn().Err(err).Int("skipped", skipped).Msg("a gossiped sum was refused")
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	key := msg.Session
	s := p.replica.Ledger().Session(key)
	if s == nil {
		return
	}
	kept := slices.DeleteFunc(p.partials[key], func(q partial) bool { return q.Round <= s.Final() })
	if len(kept) >= maxPartials {
		kept = kept[1:]
	}
	p.partials[key] = append(kept, *msg)
	p.wake()
}

// sumSource is a sum that stands for some updates of a round: gossiped, or to be asked for.
type sumSource struct {
	keys  []ledger.Key
	label []labelled
	whole []byte // the gossiped sum
	spec  *aggregate.Spec
	from  target // whom to ask for it, when whole is nil
	path  string
}

// origin is what was done to have the sum, as metrics call it.
func (s *sumSource) origin() string {
	if s.whole != nil {
		return "received"
	}
	return "asked"
}

// covered returns the updates that sums stand for.
func covered(sums []sumSource) map[ledger.Key]bool {
	out := map[ledger.Key]bool{}
	for _, s := range sums {
		for _, k := range s.keys {
			out[k] = true
		}
	}
	return out
}

// sumsFor chooses sums that stand for updates of a round that are not here: first what was gossiped, as long as labels are
// disjoint and lie inside the content; then sums to be asked of holders, where they are smaller than the updates.
func (p *Peer) sumsFor(ctx context.Context, st *session, w ledger.Work) []sumSource {
	if st.summing() == nil {
		return nil
	}
	open := map[ledger.Key]*ledger.UpdateHeld{} // content that is not here
	all := map[ledger.Key]*ledger.UpdateHeld{}
	for _, u := range w.Round.Content {
		all[u.Key()] = u
		if !p.dir.Blobs().Has(u.Model) {
			open[u.Key()] = u
		}
	}
	if len(open) == 0 || ctx.Err() != nil {
		return nil
	}
	var out []sumSource
	taken := map[ledger.Key]bool{}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.partials[w.Session] {
		if src, ok := q.standsFor(all, open, taken, st.spec); ok {
			out = append(out, src)
		}
	}
	s, inARow := p.replica.Ledger().Session(w.Session), w.Round.Number <= p.local(w.Session).turn.goal
	for _, t := range p.living() {
		if _, slow := p.slow[t.log]; slow {
			continue
		}
		var group []*ledger.UpdateHeld
		var size int64
		for _, u := range w.Round.Content {
			if open[u.Key()] != nil && slices.Contains(s.HoldersOf(u), t.log) {
				group = append(group, u)
				size += int64(u.Bytes)
			}
		}
		sum := st.estimateSum(group)
		if inARow {
			sum *= 2 // updates come ahead, while the round before is computed; a sum takes its time then
		}
		if sum >= size || sum <= maxGossiped && size <= cheap {
			continue // a sum that small is on its way by gossip, and the updates are soon had should it not arrive
		}
		src := sumSource{label: labelOf(group), from: t, path: "sums/" + w.Session.String()}
		for _, u := range group {
			src.keys = append(src.keys, u.Key())
			delete(open, u.Key())
		}
		out = append(out, src)
	}
	return out
}

// standsFor reports whether a gossiped sum can be used for a round, and marks what it covers.
func (q *partial) standsFor(all, open map[ledger.Key]*ledger.UpdateHeld, taken map[ledger.Key]bool, spec *aggregate.Spec) (sumSource, bool) {
	src := sumSource{label: q.Label, whole: q.Sum, spec: spec}
	useful := false
	for _, u := range q.Label {
		key := u.key()
		in := all[key]
		if in == nil || taken[key] || in.Model != u.Model || in.Weight != u.Weight {
			return src, false
		}
		useful = useful || open[key] != nil
		src.keys = append(src.keys, key)
	}
	if !useful || spec.CheckPartial(nil, q.Sum) != nil {
		return src, false
	}
	for _, key := range src.keys {
		taken[key] = true
		delete(open, key)
	}
	return src, true
}

// openSums opens the sums for a range; done closes them.
func (p *Peer) openSums(ctx context.Context, sources []sumSource, from, to int64) (sums []io.Reader, done func(), err error) {
	var bodies []io.Closer
	done = func() {
		for _, b := range bodies {
			_ = b.Close()
		}
	}
	for _, s := range sources {
		if s.whole != nil {
			part, err := s.spec.CutPartial(s.whole, from, to)
			if err != nil {
				done()
				return nil, nil, fmt.Errorf("mesh: %w", err)
			}
			sums = append(sums, bytes.NewReader(part))
			continue
		}
		req := encodeSumRequest(&sumRequest{Label: s.label, From: from, To: to})
		resp, err := p.call(ctx, http.MethodPost, s.from, s.path, bytes.NewReader(req), nil)
		if err != nil {
			p.hesitates(s.from.log)
			done()
			return nil, nil, err
		}
		bodies = append(bodies, resp.Body)
		sums = append(sums, resp.Body)
	}
	return sums, done, nil
}
