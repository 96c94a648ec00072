package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/ledger"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/mesh/upload"
	"github.com/fedmesh/fedmesh/model"
	"github.com/fedmesh/fedmesh/model/codec"
)

// offer is an update on its way in: all that is said of it but its bytes. Between peers it travels as JSON in a header.
type offer struct {
	Session   ledger.SessionKey  `json:"-"`
	Combiner  string             `json:"-"`
	ID        string             `json:"id,omitempty"` // empty: the digest of the body
	Weight    uint64             `json:"weight"`
	Base      model.Digest       `json:"base"`
	BaseRound uint64             `json:"base_round"`
	Metrics   map[string]float64 `json:"metrics,omitempty"`
	Model     *model.Digest      `json:"model,omitempty"` // of the body, where the sender knows it already

	// The upload that the client sends it by, under whose name it can be gone on with here.
	Upload string `json:"upload,omitempty"`
	Length int64  `json:"length,omitempty"` // bytes of that
}

// parseOffer reads an offer of another peer and holds it to the rules of the public interface: what passes goes into the ledger.
func parseOffer(header, combiner string) (offer, error) {
	o := offer{Combiner: combiner}
	if header == "" {
		return o, fmt.Errorf("mesh: no %s header, which says what the update is", headerUpdate)
	}
	if err := json.Unmarshal([]byte(header), &o); err != nil {
		return o, fmt.Errorf("mesh: %s header: %w", headerUpdate, err)
	}
	if err := api.CheckName("combiner", combiner); err != nil {
		return o, api.InvalidRequest("combiner", err)
	}
	if o.ID != "" {
		if err := api.CheckID(o.ID); err != nil {
			return o, api.InvalidRequest("id", err)
		}
	}
	if o.Weight == 0 || o.Weight > ledger.MaxWeight {
		return o, api.InvalidRequest("weight", fmt.Errorf("weight %d is not in 1 to %d", o.Weight, uint64(ledger.MaxWeight)))
	}
	if o.Upload != "" {
		if err := upload.CheckName(o.Upload); err != nil {
			return o, api.InvalidRequest("upload", err)
		}
		if o.Length < 1 {
			return o, api.InvalidRequest("length", fmt.Errorf("an upload of %d bytes", o.Length))
		}
	}
	if len(o.Metrics) > maxMetrics {
		return o, api.InvalidRequest("metric", fmt.Errorf("%d metrics; at most %d", len(o.Metrics), maxMetrics))
	}
	for _, name := range slices.Sorted(maps.Keys(o.Metrics)) {
		if err := api.CheckName("metric", name); err != nil {
			return o, api.InvalidRequest("metric", err)
		}
	}
	return o, nil
}

// update completes an offer with what its body turned out to be.
func (o offer) update(d model.Digest, size int64) *ledger.UpdateHeld {
	u := &ledger.UpdateHeld{
		Session: o.Session, Combiner: o.Combiner, ID: o.ID, Model: d, Bytes: uint64(size), Weight: o.Weight, Base: o.Base, BaseRound: o.BaseRound,
	}
	if u.ID == "" {
		u.ID = d.String()
	}
	for _, name := range slices.Sorted(maps.Keys(o.Metrics)) {
		u.Metrics = append(u.Metrics, ledger.Metric{Name: name, Value: o.Metrics[name]})
	}
	return u
}

// receive reads the body of an update into a blob that is not committed yet; durable says that it is to be committed so.
func (p *Peer) receive(st *session, o offer, body io.Reader, durable bool) (w *store.Writer, d model.Digest, err error) {
	spec := st.spec
	release, full, err := p.reserve(o, spec.Layout().Size())
	if err != nil {
		return nil, d, err
	}
	defer release()
	w, err = p.dir.Blobs().Create()
	if err != nil {
		return nil, d, storageProblem(err)
	}
	if durable {
		w.Early()
	}
	var buf []byte
	if o.Upload == "" {
		buf = p.buffers.lend()
		defer p.buffers.giveBack(buf)
	} else { // which may wait for long; there are not many
		buf = make([]byte, largeBuffer)
	}
	_, d, err = codec.Ingest(body, w, codec.Options{
		Layout: spec.Layout(), Buffer: buf,
		Check: func(tensor int, _ model.Tensor, elem int64, b []byte) error { return spec.Check(tensor, elem, b) },
	})
	if err != nil {
		w.Abort()
		return nil, d, modelProblem(err)
	}
	if full != nil {
		p.mu.Lock()
		again := p.holds(o.Session, ledger.Key{Combiner: o.Combiner, ID: d.String()})
		p.mu.Unlock()
		if !again {
			w.Abort()
			return nil, d, full
		}
	}
	return w, d, nil
}

// hold commits a received blob, w, and says so; with w nil the bytes are here already. It returns the update as it is known in the ledger, and whether it was known
// before. Nothing is left behind when it fails.
func (p *Peer) hold(ctx context.Context, w *store.Writer, u *ledger.UpdateHeld, durable bool) (known *ledger.UpdateHeld, duplicate bool, err error) {
	release := p.pin(u.Model, u.Base)
	defer release()
	if err := p.fits(u); err != nil {
		return nil, false, err
	}
	had := p.dir.Blobs().Has(u.Model)
	if w != nil {
		if err := w.Commit(ctx, u.Model, durable); err != nil {
			return nil, false, storageProblem(err)
		}
	}
	if durable {
		if err := p.syncAll(ctx, []model.Digest{u.Model, u.Base}); err != nil {
			return nil, false, storageProblem(err)
		}
	}
	err = p.say(ctx, func() ([]ledger.Body, error) {
		s := p.replica.Ledger().Session(u.Session)
		if err := p.mayHold(s, u); err != nil {
			return nil, err
		}
		known = u
		if k := s.Known(u.Key()); k != nil {
			known, duplicate = k, true
		}
		if isFinal(s, u.Key()) || slices.Contains(s.HoldersOf(known), p.self) {
			return nil, nil
		}
		if !p.dir.Blobs().Has(u.Model) || !p.dir.Blobs().Has(u.Base) {
			return nil, api.Unavailable("the update or its base went while it was looked at", time.Second)
		}
		return []ledger.Body{known}, nil
	})
	if err != nil {
		if !had {
			p.discard(u.Model)
		}
		return nil, false, err
	}
	return known, duplicate, nil
}

// discard removes a blob that was just committed for nothing, unless something else has come to need it.
func (p *Peer) discard(d model.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pins[d] > 1 || p.needed()[d] {
		return
	}
	if err := p.dir.Blobs().Remove(d); err != nil {
		p.log.Warn().Err(err).Stringer("model", d).Msg("a refused model could not be removed")
	}
}

// fits is mayHold for callers that do not hold p.mu.
func (p *Peer) fits(u *ledger.UpdateHeld) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mayHold(p.replica.Ledger().Session(u.Session), u)
}

// mayHold reports why an update cannot be held: its key has other contents, or the session is over. It is called with p.mu held.
func (p *Peer) mayHold(s *ledger.Session, u *ledger.UpdateHeld) error {
	switch {
	case s == nil:
		return api.UnknownSession(u.Session.String())
	case p.leaving:
		return api.Unavailable("this peer is leaving the mesh", time.Second)
	}
	known := s.Known(u.Key())
	switch {
	case p.replica.MayHold(s, u):
		return nil
	case known == nil && !p.replica.Accepting(s):
		return api.ClosedSession(s.Name(), api.SessionClosed)
	case known != nil && !known.Same(u):
		reason := "other bytes"
		switch {
		case known.Model == u.Model && known.Weight != u.Weight:
			reason = fmt.Sprintf("weight %d, not %d", known.Weight, u.Weight)
		case known.Model == u.Model:
			reason = "another base"
		}
		return api.UpdateConflict(u.Combiner, u.ID, known.Model.String(), reason)
	}
	return unknownRound(u.BaseRound)
}

func unknownRound(n uint64) error {
	return api.Unavailable(fmt.Sprintf("round %d, which the update's base is of, is not known here yet", n), time.Second)
}

// serveHold takes a copy of an update that another peer receives, or holds.
func (p *Peer) serveHold(w http.ResponseWriter, r *http.Request) {
	if err := p.Ready(); err != nil {
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	o, err := parseOffer(r.Header.Get(headerUpdate), r.PathValue("combiner"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	s, err := p.sessionOf(r)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	o.Session = s.Key()
	began := time.Now()
	var u *ledger.UpdateHeld
	if o.Upload == "" {
		u, err = p.takeCopy(r.Context(), o, r.Body)
	} else {
		u, err = p.takeUpload(r, o)
	}
	p.tellCopy(r, s, o, u, time.Since(began), err)
	if err != nil {
		if fault := api.ModelFault(err); fault != nil {
			err = fault // with the status of the public interface, so that the sender sees why
		}
		refuse(w, http.StatusServiceUnavailable, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(held{Digest: u.Model})
}

// held is the answer of a peer that took a copy.
type held struct {
	Digest model.Digest `json:"digest"`
}

// knowsRound reports whether the round is known here that an offer's base is of.
func (p *Peer) knowsRound(o offer) (*ledger.Session, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.replica.Ledger().Session(o.Session)
	return s, o.BaseRound < s.Open()
}

func (p *Peer) takeCopy(ctx context.Context, o offer, body io.Reader) (*ledger.UpdateHeld, error) {
	var s *ledger.Session
	if !p.askAround(ctx, func() (known bool) {
		s, known = p.knowsRound(o)
		return known
	}) {
		return nil, unknownRound(o.BaseRound)
	}
	others := p.callerFirst(ctx)
	release := p.pin(o.Base)
	defer release()
	if err := p.fetchModel(ctx, s.Seed(), others); err != nil {
		return nil, err
	}
	if !p.counted(o) {
		if err := p.fetchModel(ctx, o.Base, others); err != nil {
			return nil, err
		}
	}
	st, err := p.prepare(o.Session)
	if err != nil {
		return nil, err
	}
	w, d, err := p.receive(st, o, body, false)
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	if _, err := io.Copy(io.Discard, body); err != nil { // its end, as an acceptor waits for it
		return nil, modelProblem(err)
	}
	if o.Model != nil && *o.Model != d {
		return nil, api.NewProblem("peer", http.StatusUnprocessableEntity, "Other bytes", fmt.Sprintf("mesh: the body has digest %s, %s was announced", d, *o.Model))
	}
	u, _, err := p.hold(ctx, w, o.update(d, st.spec.Layout().Size()), false)
	if err == nil {
		p.metrics.updates.WithLabelValues("copied").Inc()
	}
	return u, err
}
