//go:build unix

package main_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// TestPeerComesBackElsewhere starts a peer again at other addresses, with its name and its data, as Kubernetes does: the others take it back, soon when it was
// stopped in order, and once they have noticed its death when it was not.
func TestPeerComesBackElsewhere(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cluster, _ := startCluster(ctx, t, 3)
	client, err := api.NewClient(cluster.URLs(), api.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	layout, err := smallLayout()
	if err != nil {
		t.Fatal(err)
	}
	config := api.DefaultSessionConfig()
	config.Copies, config.RoundTimeout = 3, api.Duration(time.Second)
	seed, _ := drawUpdate(1, "nobody", "seed")
	if _, _, err := client.CreateSession(ctx, "moves", config, api.Bytes(seed.encode(layout))); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		how    string
		end    func(context.Context, string) error
		within time.Duration
	}{
		{"stopped in order", cluster.Stop, 15 * time.Second},
		{"killed", func(_ context.Context, name string) error { return cluster.Kill(name) }, 2 * time.Minute},
	} {
		if err := c.end(ctx, "c"); err != nil {
			t.Fatal(err)
		}
		old := urlOf(cluster, "c")
		if err := cluster.Move("c"); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := cluster.Restart(ctx, "c"); err != nil {
			t.Fatal(err)
		}
		moved := urlOf(cluster, "c")
		if moved == old {
			t.Fatalf("it is still at %s", old)
		}
		untilAll(ctx, t, cluster, c.within, func(m api.MeshInfo) error {
			for _, p := range m.Peers {
				if p.Name == "c" && (p.State != api.PeerAlive || "http://"+p.API != moved) {
					return fmt.Errorf("%s sees c %s at %s, it is at %s", m.Self, p.State, p.API, moved)
				}
			}
			return nil
		})
		t.Logf("%s: back at another address after %v", c.how, time.Since(begin).Round(time.Millisecond))
		update, weight := drawUpdate(1, "x", fmt.Sprint(i))
		at, err := client.Peer(urlOf(cluster, "a"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := at.Push(ctx, "moves", api.PushOptions{Combiner: "x", ID: fmt.Sprint(i), Weight: weight, Base: "latest"}, api.Bytes(update.encode(layout)))
		if err != nil || !slices.Equal(r.Copies, []string{"a", "b", "c"}) {
			t.Errorf("held by %v, %v", r.Copies, err)
		}
	}
}

func urlOf(cluster *process.Cluster, name string) string {
	peers := cluster.Peers()
	return peers[slices.IndexFunc(peers, func(p process.Peer) bool { return p.Name == name })].URL
}

// untilAll waits until what each peer says of the mesh passes.
func untilAll(ctx context.Context, t *testing.T, cluster *process.Cluster, within time.Duration, check func(api.MeshInfo) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for _, p := range cluster.Peers() {
		client, err := api.NewClient([]string{p.URL}, api.ClientOptions{})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		for {
			info, err := client.Mesh(ctx)
			if err == nil {
				err = check(info)
			}
			if err == nil {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("not within %v: %v", within, strings.TrimSpace(err.Error()))
			}
		}
	}
}
