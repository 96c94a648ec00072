package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/kill/raftctl"
	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

const (
	combiners  = 3
	roundsEach = 6 // updates of each combiner
)

// Three processes whose leader is killed in the middle, and comes back from its
// disk: nothing that was acknowledged is lost or counted twice, and all agree.
func TestLeaderKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cluster := start(ctx, t)
	l, err := load.New(ctx, load.Options{Params: 1000, Updates: combiners * roundsEach, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(cluster.URLs(), api.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	cfg := api.DefaultSessionConfig()
	cfg.TargetCombiners = combiners
	info, _, err := client.CreateSession(ctx, "test", cfg, api.Bytes(l.Seed))
	if err != nil {
		t.Fatal(err)
	}

	var receipts []api.Receipt
	for step := range roundsEach {
		var killed string
		if step == 2 {
			killed = leader(ctx, t, cluster)
			if err := cluster.Kill(killed); err != nil {
				t.Fatal(err)
			}
		}
		base, err := client.Session(ctx, info.Key)
		if err != nil {
			t.Fatal(err)
		}
		receipts = append(receipts, pushAll(ctx, t, cluster, l, info.Key, base.Model, step)...)
		if err := await(ctx, client, info.Key, base.ModelRound); err != nil {
			t.Fatal(err)
		}
		if killed != "" {
			if now := leader(ctx, t, cluster); now == killed {
				t.Errorf("%s is dead and leads", now)
			}
			if err := cluster.Restart(ctx, killed); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := client.CloseSession(ctx, info.Key); err != nil {
		t.Fatal(err)
	}
	v, err := process.Check(ctx, process.CheckOptions{Session: info.Key, Peers: cluster.Peers(), Receipts: receipts, Timeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Err(); err != nil || v.Counted != combiners*roundsEach || v.Rounds != roundsEach {
		t.Errorf("%v, %d counted in %d rounds", err, v.Counted, v.Rounds)
	}
	for _, r := range receipts {
		if len(r.Copies) < 2 {
			t.Errorf("%s/%s is held by %v, not a majority", r.Combiner, r.ID, r.Copies)
		}
	}
}

// start builds the program and makes three processes one cluster.
func start(ctx context.Context, t *testing.T) *process.Cluster {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "raftreducer")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cluster, err := process.NewCluster(process.Options{Binary: binary, N: 3, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range cluster.Names() {
				t.Logf("the end of %s's log:\n%s", n, cluster.Tail(n, 15))
			}
		}
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := cluster.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := raftctl.Form(ctx, http.DefaultClient, cluster.URLs()); err != nil {
		t.Fatal(err)
	}
	return cluster
}

// leader waits for a process to say that it leads.
func leader(ctx context.Context, t *testing.T, cluster *process.Cluster) string {
	t.Helper()
	for ; ctx.Err() == nil; pause(ctx) {
		for _, p := range cluster.Peers() {
			if s, err := raftctl.Ask(ctx, http.DefaultClient, p.URL); err == nil && s.Leads() {
				return p.Name
			}
		}
	}
	t.Fatal("nobody leads")
	return ""
}

// pushAll pushes an update of every combiner at once, each to another process
// first.
func pushAll(ctx context.Context, t *testing.T, cluster *process.Cluster, l *load.Load, session, base string, step int) []api.Receipt {
	t.Helper()
	receipts, errs := make([]api.Receipt, combiners), make([]error, combiners)
	var wg sync.WaitGroup
	for i := range combiners {
		wg.Go(func() {
			urls := cluster.URLs()
			client, err := api.NewClient(append(urls[i:], urls[:i]...), api.ClientOptions{MaxBackoff: 200 * time.Millisecond})
			if err != nil {
				errs[i] = err
				return
			}
			defer client.Close()
			receipts[i], errs[i] = client.Push(ctx, session, api.PushOptions{
				Combiner: fmt.Sprintf("c%d", i), ID: strconv.Itoa(step), Weight: int64(i + 1), Base: base,
			}, api.Bytes(l.Updates[step*combiners+i]))
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	return receipts
}

// await waits for a later round's model.
func await(ctx context.Context, client *api.Client, session string, after uint64) error {
	var b bytes.Buffer
	_, err := client.Pull(ctx, session, api.PullOptions{After: strconv.FormatUint(after, 10), Wait: time.Minute}, &b)
	return err
}
