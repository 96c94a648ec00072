//go:build unix

package main_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
	"github.com/fedmesh/fedmesh/model"
)

// The seed of the kills and the routes: a new one in each run, unless given as
// -mesh.seed or FEDMESH_TEST_SEED. It cannot fix what the processes make of it.
var (
	meshSeed = flag.Uint64("mesh.seed", 0, "seed of TestMeshUnderKills; 0: FEDMESH_TEST_SEED, else a new one")
	meshTime = flag.Duration("mesh.time", 30*time.Second, "how long TestMeshUnderKills kills")
)

const (
	meshPeers     = 5
	meshCombiners = 8
	killEvery     = 2 * time.Second
	atMostDead    = 2
)

// TestMeshUnderKills lets combiners train in a closed loop over real processes
// while these are killed and started again at random. In the end every
// acknowledged update must be in exactly one round, all peers must say the same,
// and every model must be the exact mean of what its round contains.
func TestMeshUnderKills(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	seed := *meshSeed
	if s := os.Getenv("FEDMESH_TEST_SEED"); seed == 0 && s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), *meshTime+4*time.Minute)
	defer cancel()

	cluster, _ := startCluster(ctx, t, meshPeers)
	load := newLoad(ctx, t, seed, cluster)
	var combiners sync.WaitGroup
	defer func() { // for a test that ends early
		cancel()
		combiners.Wait()
	}()
	for i := range meshCombiners {
		combiners.Go(func() { load.combine(ctx, i) })
	}
	kills := killAtRandom(ctx, t, seed, cluster, load.enough)
	load.stop.Store(true)
	combiners.Wait()
	if err := errors.Join(load.errs...); err != nil {
		t.Fatal(err)
	}
	if _, err := load.client.CloseSession(ctx, load.session); err != nil {
		t.Fatal(err)
	}
	verdict, err := process.Check(ctx, process.CheckOptions{
		Session: load.session, Peers: cluster.Peers(), Receipts: load.receipts, Timeout: 90 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	if err := errors.Join(verdict.WriteRounds(&table), verdict.WriteTable(&table)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d kills\n%s", kills, table.String())
	if err := verdict.Err(); err != nil {
		t.Fatal(err)
	}
	load.checkMeans(ctx, t, verdict.Views[0].Rounds)
}

// killAtRandom kills a node at every tick, and starts dead ones again, until the
// time is over and that was enough to mean anything, which takes longer on a slow machine;
// then it starts what is dead. It returns the number of kills.
func killAtRandom(ctx context.Context, t *testing.T, seed uint64, cluster *process.Cluster, enough func(kills int) bool) int {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	tick := time.NewTicker(killEvery)
	defer tick.Stop()
	begin, kills := time.Now(), 0
	restart := func(chance float64) {
		running := cluster.Running()
		for _, name := range cluster.Names() {
			if !slices.Contains(running, name) && r.Float64() < chance {
				if err := cluster.Restart(ctx, name); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for {
		select {
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		case <-tick.C:
		}
		if time.Since(begin) >= *meshTime && enough(kills) {
			restart(1)
			return kills
		}
		restart(0.75)
		if running := cluster.Running(); meshPeers-len(running) < atMostDead {
			if err := cluster.Kill(running[r.IntN(len(running))]); err != nil {
				t.Fatal(err)
			}
			kills++
		}
	}
}

// checkLogs looks for what a node must never write, and shows the end of the
// logs when the test has failed.
func checkLogs(t *testing.T, cluster *process.Cluster) {
	t.Helper()
	for _, name := range cluster.Names() {
		text, err := os.ReadFile(cluster.LogFile(name))
		if err != nil {
			t.Error(err)
		}
		for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if i := bytes.Index(text, []byte(bad)); i >= 0 {
				t.Errorf("%s wrote:\n%s", name, text[i:min(len(text), i+4000)])
			}
		}
	}
	if t.Failed() {
		for _, name := range cluster.Names() {
			t.Logf("the end of %s's log:\n%s", name, cluster.Tail(name, 25))
		}
	}
}

// load is the work of the combiners, and what they were told.
type load struct {
	seed    uint64
	session string // key
	layout  *model.Layout
	urls    []string
	client  *api.Client
	stop    atomic.Bool

	mu       sync.Mutex
	receipts []api.Receipt
	models   map[string][]byte // every model that anyone has pulled, by digest
	errs     []error
}

func newLoad(ctx context.Context, t *testing.T, seed uint64, cluster *process.Cluster) *load {
	t.Helper()
	layout, err := smallLayout()
	if err != nil {
		t.Fatal(err)
	}
	client, err := api.NewClient(cluster.URLs(), api.ClientOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	config := api.DefaultSessionConfig()
	config.TargetCombiners = meshCombiners
	config.RoundTimeout = api.Duration(2 * time.Second)
	first, _ := drawUpdate(seed, "nobody", "seed")
	info, _, err := client.CreateSession(ctx, "kills", config, api.Bytes(first.encode(layout)))
	if err != nil {
		t.Fatal(err)
	}
	return &load{
		seed: seed, session: info.Key, layout: layout, urls: cluster.URLs(), client: client,
		models: map[string][]byte{},
	}
}

// combine pulls a model, pushes an update, waits for the next model, and so on
// until it is told to stop. It never gives an update up.
func (l *load) combine(ctx context.Context, index int) {
	name := "combiner-" + strconv.Itoa(index)
	r := rand.New(rand.NewPCG(l.seed, uint64(index)+1))
	client, err := api.NewClient(l.urls, api.ClientOptions{
		Shuffle: true, Rand: rand.NewPCG(l.seed, uint64(index)+1000),
		ResumeFrom:      1 + int64(index%2)<<30, // every other one by resumable upload
		ResponseTimeout: 10 * time.Second, BadFor: 500 * time.Millisecond, MaxBackoff: 500 * time.Millisecond,
	})
	if err != nil {
		l.fail(err)
		return
	}
	defer client.Close()
	after := ""
	for n := 1; !l.stop.Load(); n++ {
		base, err := l.pull(ctx, client, after)
		if errors.Is(err, api.ErrNotModified) {
			continue
		}
		if err != nil {
			l.fail(fmt.Errorf("%s: %w", name, err))
			return
		}
		id := strconv.Itoa(n)
		update, weight := drawUpdate(l.seed, name, id)
		receipt, err := client.Push(ctx, l.session, api.PushOptions{
			Combiner: name, ID: id, Weight: weight, Base: base.Digest.String(),
		}, api.Bytes(update.encode(l.layout)))
		if err != nil {
			l.fail(fmt.Errorf("%s: update %s: %w", name, id, err))
			return
		}
		l.mu.Lock()
		l.receipts = append(l.receipts, receipt)
		l.mu.Unlock()
		// Now and then a combiner does not wait for the next model.
		after = strconv.FormatUint(base.Round, 10)
		if r.IntN(10) == 0 {
			after = ""
		}
	}
}

func (l *load) pull(ctx context.Context, client *api.Client, after string) (api.ModelInfo, error) {
	o := api.PullOptions{After: after}
	if after != "" {
		o.Wait = 3 * time.Second
	}
	var b bytes.Buffer
	info, err := client.Pull(ctx, l.session, o, &b)
	if err == nil {
		l.mu.Lock()
		l.models[info.Digest.String()] = b.Bytes()
		l.mu.Unlock()
	}
	return info, err
}

// enough says whether kills and acknowledged updates are enough to mean anything, or nothing more will come.
func (l *load) enough(kills int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.errs) > 0 || len(l.receipts) >= meshCombiners*5 && kills >= int(*meshTime/killEvery)/2
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

// checkMeans computes every round's model anew from the updates that it is said
// to contain, in rationals, and compares it with the one the mesh serves.
func (l *load) checkMeans(ctx context.Context, t *testing.T, rounds []api.RoundInfo) {
	t.Helper()
	models := func(digest string) (small, error) {
		b, ok := l.models[digest]
		if !ok {
			var pulled bytes.Buffer
			if _, err := l.client.Pull(ctx, l.session, api.PullOptions{Digest: digest}, &pulled); err != nil {
				return small{}, err
			}
			b = pulled.Bytes()
		}
		return decodeSmall(l.layout, b)
	}
	info, err := l.client.Session(ctx, l.session)
	if err != nil {
		t.Fatal(err)
	}
	previous, plain, moved := info.Seed, 0, 0
	for _, round := range rounds {
		for _, u := range round.Updates {
			if u.BaseRound >= round.Round {
				t.Errorf("round %d contains %s/%s, trained from the model of round %d", round.Round, u.Combiner, u.ID, u.BaseRound)
			}
		}
		if len(round.Updates) == 0 {
			if round.Model != previous {
				t.Errorf("round %d is empty and has another model", round.Round)
			}
			continue
		}
		got, err := models(round.Model)
		if err != nil {
			t.Errorf("the model of round %d is not to be had: %v", round.Round, err)
			continue
		}
		want, isPlain, err := expect(l.seed, round, previous, models)
		if err != nil {
			t.Errorf("round %d: %v", round.Round, err)
		} else if d := got.diff(want); d != "" {
			t.Errorf("the model of round %d is not the mean of its %d updates (all from the previous model: %v): %s", round.Round, len(round.Updates), isPlain, d)
		}
		if isPlain {
			plain++
		} else {
			moved++
		}
		previous = round.Model
	}
	t.Logf("models checked: %d plain means, %d with updates from older models", plain, moved)
	if plain == 0 {
		t.Error("no round was a plain mean")
	}
}

// startCluster builds the command and runs n peers of it until the test ends. With -artifacts their logs and data stay.
func startCluster(ctx context.Context, t *testing.T, n int, args ...string) (cluster *process.Cluster, binary string) {
	t.Helper()
	dir := t.ArtifactDir()
	binary, err := process.Build(ctx, "../..", dir, buildArgs()...)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err = process.NewCluster(process.Options{Binary: binary, N: n, Dir: dir, ExtraArgs: args, ReadyTimeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
		checkLogs(t, cluster)
	})
	if err := errors.Join(cluster.Start(ctx), cluster.Together(ctx, "")); err != nil {
		t.Fatal(err)
	}
	return cluster, binary
}
