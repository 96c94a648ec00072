package api_test

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// TestOpenRoutesTellNothing: what needs no token holds no names.
func TestOpenRoutesTellNothing(t *testing.T) {
	var file tokens
	f := newFake().with("secret-session", someModel(t, 4, 1))
	f.onMesh = func() api.MeshInfo { return api.MeshInfo{Self: "secret-peer", Mesh: "secret-mesh"} }
	srv, url := start(t, f, api.ServerOptions{Tokens: file.set(t)})
	for _, rt := range srv.RouteList() {
		if routeNeeds[rt[0]+" "+rt[1]] != "" || rt[0] != "GET" {
			continue
		}
		path := strings.TrimSuffix(rt[1], "{$}")
		b, err := io.ReadAll(do(t, "GET", url+path, nil).Body)
		if err != nil || len(b) == 0 || bytes.Contains(b, []byte("secret-")) {
			t.Errorf("GET %s: %.300s, %v", path, b, err)
		}
	}
}
