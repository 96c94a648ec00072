package fedn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

// deliver pushes an update until a peer has acknowledged it, and forgets it then. It is called with busy
// held, and after contact.
func (g *Gateway) deliver(ctx context.Context, p *pending) (api.Receipt, error) {
	spec := g.spec.Load()
	update, err := open(p.path())
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("%w: %w", errLost, err)
	}
	if err != nil {
		return api.Receipt{}, err
	}
	defer func() { _ = update.Close() }()
	base, err := model.ParseDigest(p.Base)
	if err == nil && update.layout.Diff(spec.Layout()) != nil { // it is from before the first contact
		if update, err = conform(ctx, g.cfg.Dir, update, spec); err == nil {
			base, err = g.convertedBase(ctx, *p, spec)
		}
	}
	if err != nil {
		return api.Receipt{}, err
	}
	known, err := g.knows(ctx, base)
	if err != nil {
		return api.Receipt{}, err
	}
	if !known {
		step, err := g.step(ctx, p, update, spec)
		if err != nil {
			return api.Receipt{}, err
		}
		_ = update.Close()
		update = step
	} else {
		g.join()
		p.Base = base.String()
	}
	receipt, err := g.mesh.Push(ctx, g.cfg.Session, api.PushOptions{Combiner: g.cfg.Combiner, ID: p.ID, Weight: p.Weight, Base: p.Base}, api.File(update.Name()))
	if err != nil {
		return receipt, err
	}
	g.well()
	return receipt, g.spool.done(*p)
}

// convertedBase is the digest that an update's base has in the session's layout.
func (g *Gateway) convertedBase(ctx context.Context, p pending, spec *aggregate.Spec) (model.Digest, error) {
	digest, err := model.ParseDigest(p.Base)
	if err != nil {
		return digest, err
	}
	base, err := open(p.base())
	if errors.Is(err, os.ErrNotExist) {
		return digest, nil // and the session does not know it
	}
	if err != nil || base.layout.Diff(spec.Layout()) == nil {
		return digest, errors.Join(err, base.Close())
	}
	if base, err = conform(ctx, g.cfg.Dir, base, spec); err != nil {
		return digest, err
	}
	return base.digest, base.Close()
}

// knows reports whether the session has, or had, a model.
func (g *Gateway) knows(ctx context.Context, d model.Digest) (bool, error) {
	_, err := g.mesh.Head(ctx, g.cfg.Session, api.PullOptions{Digest: d.String()})
	switch {
	case api.TypeUnknownModel.Is(err):
		return false, nil
	case api.TypeModelGone.Is(err):
		return true, nil // the push tells whether that matters
	}
	return err == nil, err
}

// step makes of an update whose base the session does not know one that has the same effect, the same step, on the session's latest
// model. That is right for a network that takes part and had to go on without the mesh. One that never had a model of the session
// trains something else, and there it is refused.
func (g *Gateway) step(ctx context.Context, p *pending, update *file, spec *aggregate.Spec) (*file, error) {
	foreign := fmt.Errorf("%w: session %q does not have the model %.8s that this update starts from", errForeign, g.cfg.Session, p.Base)
	if !g.joined.Load() {
		return nil, foreign
	}
	base, err := open(p.base())
	if errors.Is(err, os.ErrNotExist) {
		return nil, foreign
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = base.Close() }()
	switch digest, err := base.sum(); {
	case err != nil:
		return nil, err
	case digest.String() != p.Base: // a crash took it
		return nil, foreign
	}
	if base, err = conform(ctx, g.cfg.Dir, base, spec); err != nil {
		return nil, err
	}
	latest, err := g.pullFile(ctx, api.PullOptions{})
	if err != nil {
		return nil, err
	}
	defer latest.Close()
	terms := []aggregate.Term{{Source: latest, Weight: 1}, {Source: update, Weight: 1}, {Source: base, Weight: -1}}
	out, err := write(g.cfg.Dir, spec.Layout(), func(w io.Writer) error {
		b := newBuffered(w)
		if _, err := spec.Mean(ctx, nil, 0, spec.Elements(), terms, nil, 1, b); err != nil {
			return err
		}
		return b.Flush()
	})
	if err != nil {
		return nil, err
	}
	// It is pushed from disk, the same at each try.
	q, err := g.spool.step(*p, out, latest.digest)
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	g.log.Info().Str("update", p.ID).Str("from", p.Base).Stringer("onto", latest.digest).
		Msg("an update that starts from none of the session's models counts as the same step from the latest")
	*p = q
	return out, nil
}

// refuse sets aside what the mesh does not take, and says so. The caller may have its model open as f.
func (g *Gateway) refuse(p pending, f *file, err error) {
	if p.File != "" {
		f = nil // another one
	}
	path, moved := g.spool.setAside(p, f)
	if moved != nil {
		g.log.Error().Err(moved).Str("update", p.ID).Msg("an update that is refused cannot be set aside")
	}
	do := g.advice(err)
	g.log.Error().Err(err).Str("file", path).Str("do", do).Msg("the mesh will not count this update: it is set aside")
	g.trouble.is(fmt.Sprintf("the mesh did not count the last update: %v: %s", err, do))
}

// deliverLate pushes what is on disk, now and then, until Close.
func (g *Gateway) deliverLate() {
	g.greet()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-timer.C:
		case <-g.kick:
		}
		g.deliverAll()
		timer.Reset(g.cfg.retry)
	}
}

// greet finds out, before anybody waits for it, whether the mesh lets this gateway in.
func (g *Gateway) greet() {
	ctx, cancel := context.WithTimeout(g.ctx, g.cfg.short)
	defer cancel()
	_, err := g.mesh.Session(ctx, g.cfg.Session)
	switch {
	case g.ctx.Err() != nil || err == nil:
	case api.TypeUnknownSession.Is(err):
		g.log.Info().Msg("nobody has opened the session yet: it is opened with the combiner's global model")
	default:
		g.complain(err)
	}
}

func (g *Gateway) deliverAll() {
	select {
	case g.busy <- struct{}{}:
	default:
		return // a round is being delivered, and this one's turn comes
	}
	defer func() { <-g.busy }()
	ps, damaged, err := g.spool.list()
	if err != nil {
		g.complain(err)
		return
	}
	for _, id := range damaged {
		g.refuse(pending{ID: id, dir: g.spool.dir}, nil, errDamaged)
	}
	for _, p := range ps {
		if live := g.live.Load(); live != nil && *live == p.ID {
			continue
		}
		ctx, cancel := context.WithTimeout(g.ctx, g.cfg.Patience)
		err := g.contact(ctx, "")
		var r api.Receipt
		reached := err == nil
		if reached {
			r, err = g.deliver(ctx, &p)
		}
		cancel()
		switch {
		case g.ctx.Err() != nil:
			return
		case !reached && api.TypeUnknownSession.Is(err):
			return // the combiner's next global model opens it
		case reached && permanent(err):
			g.refuse(p, nil, err)
		case err != nil:
			g.complain(err)
			return
		default:
			g.log.Info().Str("update", p.ID).Uint64("round", r.BaseRound).Msg("pushed an update late: it counts as a step from its older base")
		}
	}
}

func (g *Gateway) wake() {
	select {
	case g.kick <- struct{}{}:
	default:
	}
}

// join remembers, over restarts too, that the network has trained a model of the session, or was given one.
func (g *Gateway) join() {
	if g.joined.Swap(true) {
		return
	}
	if err := writeSynced(joinedPath(g.cfg), []byte(g.cfg.Session+"\n")); err != nil {
		g.log.Warn().Err(err).Msg("it is not remembered that the network takes part")
	}
}

func joinedPath(c Config) string { return filepath.Join(c.Dir, "joined") }

func hasJoined(c Config) bool {
	b, err := os.ReadFile(joinedPath(c))
	return err == nil && string(b) == c.Session+"\n"
}
