package fedn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
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
	// contactTime bounds how long a combiner waits for the mesh before it has anything to wait for.
	contactTime = 10 * time.Second
	// pollWait is how long one request for a newer model waits.
	pollWait = 20 * time.Second
	// roundsAtOnce is how many rounds are looked at in one request.
	roundsAtOnce = 100
)

// contact finds the session, or opens it with a model, and learns its layout. Once that
// succeeded it does nothing.
func (g *Gateway) contact(ctx context.Context, global *file) error {
	if g.spec != nil {
		return nil
	}
	info, err := g.mesh.Session(ctx, g.cfg.Session)
	if statusOf(err) == http.StatusNotFound {
		var created bool
		info, created, err = g.mesh.CreateSession(ctx, g.cfg.Session, g.cfg.Open, api.File(global.Name()))
		if statusOf(err) == http.StatusConflict { // another combiner was first
			info, err = g.mesh.Session(ctx, g.cfg.Session)
		}
		if err == nil && created {
			g.log.Info().Str("session", g.cfg.Session).Str("seed", info.Seed).Msg("opened the session with the combiner's global model")
		}
	}
	if err != nil {
		return err
	}
	seed, err := g.pullFile(ctx, api.PullOptions{Round: new(uint64)})
	if err != nil {
		return err
	}
	defer seed.Close()
	spec, err := specOf(seed)
	if err != nil {
		return err
	}
	g.spec = spec
	return nil
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

// base returns the digest under which the session knows the model that clients trained from;
// empty when it does not.
func (g *Gateway) base(ctx context.Context, d model.Digest) (string, error) {
	_, err := g.mesh.Head(ctx, g.cfg.Session, api.PullOptions{Digest: d.String()})
	switch {
	case statusOf(err) == http.StatusNotFound:
		g.log.Warn().Str("session", g.cfg.Session).Stringer("model", d).
			Msg("the combiner's global model is none of the session's: its clients' models count as if trained from the latest")
		return "", nil
	case err != nil:
		return "", err
	}
	return d.String(), nil
}

// push delivers an update until it is acknowledged.
func (g *Gateway) push(ctx context.Context, p pending) (api.Receipt, error) {
	base := p.Base
	if base == "" {
		base = "latest"
	}
	return g.mesh.Push(ctx, g.cfg.Session, api.PushOptions{Combiner: g.cfg.Combiner, ID: p.ID, Weight: p.Weight, Base: base}, api.File(p.path))
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

// statusOf is the HTTP status of a refusal, 0 for anything else.
func statusOf(err error) int {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p.Status
	}
	return 0
}

// refused tells whether trying again cannot help until somebody does something about it.
func refused(err error) bool {
	s := statusOf(err)
	return s >= 400 && s < 500 && s != http.StatusRequestTimeout && s != http.StatusTooManyRequests
}

// advice says what to do about a refusal.
func advice(err error) string {
	switch statusOf(err) {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "the mesh refuses this gateway's token: give one with the role combiner that may push to this session as this combiner (--token-file)"
	case http.StatusNotFound:
		return "the session is not there: open it, or check --session and --peers"
	case http.StatusConflict:
		return "the session is closed or holds other bytes under this key: check --session, and that no other gateway has this --combiner"
	case http.StatusUnprocessableEntity:
		return "the models do not have the session's tensors or hold values that are not numbers: start another session for another model"
	case http.StatusRequestEntityTooLarge:
		return "the model is larger than the peers take (node --max-body)"
	}
	return "see the error"
}
