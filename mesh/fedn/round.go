package fedn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// begin starts a round from the combiner's global model. It returns what the combiner's log should say besides.
//
// FEDn tries again what failed, but has read its global model to the end by then and sends nothing, and only the clients that are left: then
// the round goes on.
func (g *Gateway) begin(ctx context.Context, r io.Reader) (string, error) {
	in := newReader(r)
	if _, err := in.Peek(1); errors.Is(err, io.EOF) && g.now != nil {
		if g.now.answered {
			return "", g.now.clear()
		}
		return "", nil
	}
	f, err := ingest(g.cfg.Dir, in)
	if err != nil {
		return "", err
	}
	short, cancel := context.WithTimeout(ctx, g.cfg.short)
	defer cancel()
	if err := g.contact(short, f.Name()); err != nil {
		g.complain(err)
	}
	spec := g.spec.Load()
	if spec == nil { // the session will have it, if it is opened with this model
		if spec, err = specOf(f); err != nil {
			return "", errors.Join(err, f.Close())
		}
	}
	if f, err = conform(ctx, g.cfg.Dir, f, spec); err != nil {
		return "", err
	}
	err = g.now.Close()
	g.now = newCollection(g.cfg.Dir, spec, f)
	note := g.trouble.text()
	if once := g.aside.Swap(nil); once != nil && note == "" {
		return *once, err
	}
	if note == "" && g.spec.Load() != nil && !g.joined.Load() {
		switch known, err := g.knows(short, f.digest); {
		case err != nil:
		case known:
			g.join()
		default:
			note = fmt.Sprintf("session %q does not have this model, and what is trained from it is not counted: %s", g.cfg.Session, g.advice(errForeign))
		}
	}
	return note, err
}

// alone is the log's line for a round without the mesh.
const alone = "round done without the mesh: the combiner gets its own clients' mean"

// answer computes, delivers and waits, and returns what to say.
func (g *Gateway) answer(ctx context.Context) (*file, error) {
	c := g.now
	if c == nil {
		return nil, errors.New("fedn: asked for an aggregate before a global model was stored")
	}
	if c.clients() == 0 { // FEDn asks once more after a failure, but has thrown the clients' models away
		if g.last != nil && g.last.global == c.global.digest {
			return g.last.model, nil
		}
		g.log.Warn().Msg("no client brought a model that can be used: the model stays as it is")
		return c.global, nil
	}
	mean, weight, err := c.mean(ctx)
	if err != nil {
		return nil, err
	}
	clients := c.clients()
	id := newID()
	g.live.Store(&id)
	defer g.live.Store(nil)
	p, err := g.spool.add(pending{ID: id, Weight: weight, Base: c.global.digest.String()}, mean, c.global)
	if err != nil {
		if mean.File == nil {
			return nil, err
		}
		mean.kept, c.global.kept = false, false
		g.complain(err)
		g.log.Info().Int("clients", clients).Int64("weight", weight).Msg(alone)
		return g.remember(c, mean, mean), nil
	}
	g.trim()
	start := time.Now()
	patient, cancel := context.WithTimeout(ctx, g.cfg.Patience)
	defer cancel()
	told := g.tellWaiting(patient)
	out, acknowledged, err := g.exchange(patient, &p)
	told()
	own := alone
	switch {
	case err == nil:
		g.log.Info().Int("clients", clients).Int64("weight", weight).Str("update", p.ID).Stringer("model", out.digest).
			Dur("push", acknowledged.Sub(start)).Dur("took", time.Since(start)).Msg("round done")
	case errors.Is(err, errForeign):
		g.refuse(p, mean, err)
		if out, err = g.pullFile(patient, api.PullOptions{}); err != nil {
			g.complain(err)
			break
		}
		g.join()
		own = "round done: the combiner gets the session's model, and trains that from now on"
	case acknowledged.IsZero() && g.spec.Load() != nil && permanent(err):
		g.refuse(p, mean, err)
	default:
		g.complain(err)
		g.live.Store(nil) // late from here on
		g.wake()
	}
	if out == nil || err != nil {
		out = mean
	}
	if acknowledged.IsZero() {
		g.log.Info().Int("clients", clients).Int64("weight", weight).Str("update", p.ID).Dur("took", time.Since(start)).Msg(own)
	}
	return g.remember(c, out, mean), nil
}

// remember keeps an answer for who asks again.
func (g *Gateway) remember(c *collection, out, mean *file) *file {
	var err error
	if out != mean {
		err = mean.Close()
	}
	if g.last != nil {
		err = errors.Join(err, g.last.model.Close())
	}
	c.answered = true
	g.last = &answer{global: c.global.digest, model: out}
	if err != nil {
		g.log.Warn().Err(err).Msg("a file could not be closed")
	}
	return out
}

// trim keeps what waits on disk within its bounds.
func (g *Gateway) trim() {
	gone, err := g.spool.trim()
	if err != nil {
		g.log.Error().Err(err).Msg("old updates on disk cannot be removed")
	}
	for _, p := range gone {
		g.log.Error().Str("update", p.ID).Str("do", "raise --max-pending where the mesh may be away for long").
			Msg("too much waits for the mesh: the oldest update is thrown away")
	}
}

// tellWaiting says once that a round takes long and why, unless it is told in time that it is over.
func (g *Gateway) tellWaiting(ctx context.Context) (over func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		timer := time.NewTimer(g.cfg.tell)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		short, cancel := context.WithTimeout(ctx, g.cfg.short/2)
		defer cancel()
		info, err := g.mesh.Session(short, g.cfg.Session)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			g.complain(err)
		default:
			g.log.Info().Uint64("round", info.Round).Int("target_combiners", info.Config.TargetCombiners).Stringer("round_timeout", time.Duration(info.Config.RoundTimeout)).
				Msg("waiting for the round: it ends when that many combiners are in, or when its time is over")
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// exchange delivers an update and returns the model of the round that counts it, and when the update was
// acknowledged.
func (g *Gateway) exchange(ctx context.Context, p *pending) (*file, time.Time, error) {
	if err := g.contact(ctx, p.base()); err != nil {
		return nil, time.Time{}, err
	}
	select {
	case g.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, time.Time{}, fmt.Errorf("fedn: an earlier update is still being pushed: %w", ctx.Err())
	}
	receipt, err := g.deliver(ctx, p)
	<-g.busy
	if err != nil {
		return nil, time.Time{}, err
	}
	acknowledged := time.Now()
	f, err := g.await(ctx, receipt)
	return f, acknowledged, err
}
