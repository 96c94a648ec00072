package fedn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model/safetensors"
)

// Mesh is what a gateway needs of a mesh. An *api.Client is one.
type Mesh interface {
	Session(ctx context.Context, session string) (api.SessionInfo, error)
	CreateSession(ctx context.Context, name string, cfg api.SessionConfig, seed api.Source) (api.SessionInfo, bool, error)
	Head(ctx context.Context, session string, o api.PullOptions) (api.ModelInfo, error)
	Pull(ctx context.Context, session string, o api.PullOptions, w io.Writer) (api.ModelInfo, error)
	Push(ctx context.Context, session string, o api.PushOptions, body api.Source) (api.Receipt, error)
	Rounds(ctx context.Context, session string, from uint64, limit int) ([]api.RoundInfo, error)
}

const (
	// pollWait is how long one request for a newer model waits.
	pollWait = 20 * time.Second
	// roundsAtOnce is how many rounds are looked at in one request.
	roundsAtOnce = 100
)

// contact finds the session, or opens it with the model at seed if one is given, and learns its layout. Once that
// succeeded it does nothing.
func (g *Gateway) contact(ctx context.Context, seed string) error {
	if g.spec.Load() != nil {
		return nil
	}
	info, err := g.mesh.Session(ctx, g.cfg.Session)
	if api.TypeUnknownSession.Is(err) && seed != "" {
		var created bool
		info, created, err = g.mesh.CreateSession(ctx, g.cfg.Session, g.cfg.Open, api.File(seed))
		switch {
		case api.TypeSessionConflict.Is(err): // another combiner was first
			info, err = g.mesh.Session(ctx, g.cfg.Session)
		case err != nil:
			err = &openError{g.cfg.Session, err}
		case created:
			g.log.Info().Str("seed", info.Seed).Msg("opened the session with the combiner's global model")
		}
	}
	if err != nil {
		return err
	}
	round := uint64(0)
	first, err := g.pullFile(ctx, api.PullOptions{Round: &round})
	if err != nil {
		return err
	}
	defer first.Close()
	spec, err := specOf(first)
	if err != nil {
		return err
	}
	if other := otherwise(g.cfg.Open, info.Config); other != "" {
		const what, do = "the session was opened with another configuration than this gateway's, and keeps to that", "give all gateways the same flags"
		g.log.Warn().Str("differs", other).Str("do", do).Msg(what)
		text := what + ": " + other + ": " + do
		g.aside.Store(&text)
	}
	g.spec.Store(spec)
	g.well()
	return nil
}

// otherwise lists where a session differs from what was asked for and is not the default.
func otherwise(asked, has api.SessionConfig) string {
	usual := api.DefaultSessionConfig()
	var out []string
	for _, f := range []struct{ name, asked, usual, has any }{
		{"strategy", asked.Strategy, usual.Strategy, has.Strategy},
		{"target_combiners", asked.TargetCombiners, usual.TargetCombiners, has.TargetCombiners},
		{"min_combiners", asked.MinCombiners, usual.MinCombiners, has.MinCombiners},
		{"copies", asked.Copies, usual.Copies, has.Copies},
		{"round_timeout", time.Duration(asked.RoundTimeout), time.Duration(usual.RoundTimeout), time.Duration(has.RoundTimeout)},
		{"settle_timeout", time.Duration(asked.SettleTimeout), time.Duration(usual.SettleTimeout), time.Duration(has.SettleTimeout)},
		{"lost_after", time.Duration(asked.LostAfter), time.Duration(usual.LostAfter), time.Duration(has.LostAfter)},
	} {
		if f.asked != f.usual && f.asked != f.has {
			out = append(out, fmt.Sprintf("%s is %v, not %v", f.name, f.has, f.asked))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(asked.Params)) {
		if v := asked.Params[name]; asked.Strategy == has.Strategy && v != has.Params[name] {
			out = append(out, fmt.Sprintf("%s is %q, not %q", name, has.Params[name], v))
		}
	}
	return strings.Join(out, "; ")
}

// specOf returns the spec of a session with this seed.
func specOf(seed *file) (*aggregate.Spec, error) {
	scales, err := aggregate.ScanScales(seed.layout, seed)
	if err != nil {
		return nil, fmt.Errorf("fedn: %w", err)
	}
	spec, err := aggregate.NewSpec(seed.layout, scales)
	if err != nil {
		return nil, fmt.Errorf("fedn: %w", err)
	}
	return spec, nil
}

// pullFile takes a model. The file is removed when it is closed.
func (g *Gateway) pullFile(ctx context.Context, o api.PullOptions) (*file, error) {
	f, _, err := g.pull(ctx, o)
	return f, err
}

func (g *Gateway) pull(ctx context.Context, o api.PullOptions) (*file, uint64, error) {
	f, err := create(g.cfg.Dir)
	if err != nil {
		return nil, 0, err
	}
	info, err := g.mesh.Pull(ctx, g.cfg.Session, o, f)
	if err == nil {
		f.digest = info.Digest
		f.layout, err = safetensors.ReadLayout(f, info.Bytes)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Round, nil
}

// await returns the model of the round that counts an update.
func (g *Gateway) await(ctx context.Context, r api.Receipt) (*file, error) {
	for after := r.BaseRound; ; {
		f, newest, err := g.pull(ctx, api.PullOptions{After: strconv.FormatUint(after, 10), Wait: pollWait})
		if err != nil && !errors.Is(err, api.ErrNotModified) {
			return nil, err
		}
		// Nothing newer may still mean an older round that was amended.
		round, err := g.counting(ctx, r)
		if err == nil && round != 0 && round == newest {
			return f, nil
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		if round != 0 {
			return g.pullFile(ctx, api.PullOptions{Round: &round})
		}
		after = max(after, newest)
	}
}

// counting returns the round that counts an update and has a model, or 0 while there is none.
func (g *Gateway) counting(ctx context.Context, r api.Receipt) (uint64, error) {
	for from := r.BaseRound + 1; ; {
		rounds, err := g.mesh.Rounds(ctx, g.cfg.Session, from, roundsAtOnce)
		if err != nil {
			return 0, err
		}
		for _, info := range rounds {
			counts := slices.ContainsFunc(info.Updates, func(u api.UpdateInfo) bool { return u.Combiner == r.Combiner && u.ID == r.ID })
			if counts && info.Model != "" && info.State != api.RoundOpen {
				return info.Round, nil
			}
		}
		if len(rounds) < roundsAtOnce {
			return 0, nil
		}
		from = rounds[len(rounds)-1].Round + 1
	}
}
