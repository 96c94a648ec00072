package api_test

import (
	"testing"
	"testing/synctest"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// TestLatestWhereThereIsNoModelYet asks a peer first that knows the session and not yet its model.
func TestLatestWhereThereIsNoModelYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		seed := someModel(t, 4, 1)
		early, good := newFake().with("s", seed), newFake().with("s", seed)
		early.sessions["s"].info.Model = ""
		m.peer("a", early)
		m.peer("b", good)
		c := m.client(api.ClientOptions{Passes: 1}, "a", "b")
		o, err := c.Settle(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 1, Base: "latest"})
		if err != nil || o.Base != seed.digest.String() {
			t.Errorf("base %q, %v", o.Base, err)
		}
		early.sessions["s"].info.Model = ""
		good.sessions["s"].info.Model = ""
		if _, err := c.Settle(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 1, Base: "latest"}); !api.TypeUnavailable.Is(err) {
			t.Errorf("no peer has a model: %v", err)
		}
	})
}
