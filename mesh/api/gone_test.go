package api_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// One peer that has deleted a model is not the last to be asked; when none has it, the answer is that it is gone.
func TestModelGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := newMesh(t)
		m := someModel(t, 4, 1)
		f, g := newFake().with("s", m), newFake().with("s", m)
		mesh.peer("a", f)
		mesh.peer("b", g)
		c := mesh.client(api.ClientOptions{Passes: 3}, "a", "b")
		ctx := t.Context()
		gone := api.ModelGone("s", api.AtRound(0), 0, 2)
		f.onModel = func(api.Model) (api.Model, error) { return api.Model{}, gone }
		round := uint64(0)
		if info, err := c.Pull(ctx, "s", api.PullOptions{Round: &round}, io.Discard); err != nil || info.Peer != "http://b:80" {
			t.Errorf("%+v, %v", info, err)
		}
		asked := 0
		g.onModel = func(api.Model) (api.Model, error) { asked++; return api.Model{}, gone }
		_, err := c.Pull(ctx, "s", api.PullOptions{Round: &round}, io.Discard)
		var p *api.Problem
		if !errors.As(err, &p) || !api.TypeModelGone.Is(err) || p.Status != 410 || p.Detail != gone.Detail || p.Extra["keep"] != 2.0 || asked != 1 {
			t.Errorf("%v after %d questions", err, asked)
		}
		// A header has no body to say so.
		if _, err := c.Head(ctx, "s", api.PullOptions{Digest: m.digest.String()}); !api.TypeModelGone.Is(err) {
			t.Errorf("head: %v", err)
		}
		// What was trained from it is for the peers to judge: they may have counted it.
		r, err := c.Push(ctx, "s", api.PushOptions{Combiner: "c", Weight: 1, Base: m.digest.String()}, api.Bytes(m.file))
		if err != nil || r.Base != m.digest.String() {
			t.Errorf("push: %+v, %v", r, err)
		}
		pushes := 0
		f.onPush = func(context.Context, api.PushRequest) (api.Receipt, error) {
			pushes++
			return api.Receipt{}, api.BaseGone(m.digest.String())
		}
		g.onPush = f.onPush
		if _, err := c.Push(ctx, "s", api.PushOptions{Combiner: "c", Weight: 1, Base: m.digest.String()}, api.Bytes(m.file)); !api.TypeBaseGone.Is(err) || pushes != 1 {
			t.Errorf("%v after %d tries", err, pushes)
		}
	})
}
