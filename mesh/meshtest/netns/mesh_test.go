//go:build linux && netns

package netns_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math"
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
	"github.com/fedmesh/fedmesh/mesh/meshtest/netns"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
	"github.com/fedmesh/fedmesh/model"
)

var (
	netSeed  = flag.Uint64("net.seed", 0, "seed of lost packets, flapping and updates; 0: FEDMESH_TEST_SEED, else a new one")
	netLog   = flag.String("net.log", "info", "the peers' --log-level; with -artifacts their logs stay")
	netTrain = flag.Duration("net.train", 2*time.Second, "how long a combiner of TestPartition trains")
)

// seeded returns the test's seed, and says which it is.
func seeded(t *testing.T) uint64 {
	t.Helper()
	seed := *netSeed
	if s := os.Getenv("FEDMESH_TEST_SEED"); seed == 0 && s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d (-net.seed=%d)", seed, seed)
	return seed
}

// client is the host that combiners and the test itself dial from.
const client = "client"

// scene is a mesh of peers on hosts of their own, a session and the work done in it.
type scene struct {
	t       *testing.T
	seed    uint64
	net     *netns.Network
	cluster *process.Cluster
	peers   []string
	client  *api.Client            // of all peers
	one     map[string]*api.Client // of one peer each, by its name; these do not try twice
	session string                 // key
	layout  *model.Layout
	watched chan struct{} // closed when the watch over final rounds has ended

	mu       sync.Mutex
	receipts []api.Receipt
	slowest  time.Duration      // push
	finals   map[string]finally // by peer and round
	errs     []error
}

// finally is what a peer said of a round that it called final.
type finally struct{ inputs, model string }

// built is where the binary is, for all tests.
var built struct {
	sync.Once
	dir, path string
	err       error
}

func binaryPath(t *testing.T) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "fedmesh-netns-"); built.err == nil {
			built.path, built.err = process.Build(context.Background(), "../../..", built.dir)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// newScene starts n peers and opens a session of models of so many bytes. Further
// hosts are for clients.
func newScene(ctx context.Context, t *testing.T, n int, bytes int64, config api.SessionConfig, further ...string) *scene {
	t.Helper()
	s := &scene{t: t, seed: seeded(t), finals: map[string]finally{}, one: map[string]*api.Client{}, watched: make(chan struct{})}
	for i := range n {
		s.peers = append(s.peers, string(rune('a'+i)))
	}
	var err error
	if s.net, err = netns.New(netns.Options{Hosts: slices.Concat(s.peers, []string{client}, further), Seed: s.seed}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.net.Close(); err != nil {
			t.Error(err)
		}
	})
	o := process.Options{Binary: binaryPath(t), N: n, Dir: t.ArtifactDir(), Dial: s.net.Host(client).DialContext, ExtraArgs: []string{"--log-level", *netLog}}
	for _, p := range s.peers {
		h := s.net.Host(p)
		o.Hosts = append(o.Hosts, process.Host{IP: h.IP(), Start: h.Start})
	}
	if s.cluster, err = process.NewCluster(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.cluster.Close(); err != nil {
			t.Error(err)
		}
		s.checkLogs()
	})
	if err := s.cluster.Start(ctx); err != nil {
		t.Fatal(err)
	}
	s.client = s.dial(client, s.peers, 0)
	for _, p := range s.cluster.Peers() {
		c, err := api.NewClient([]string{p.URL}, api.ClientOptions{
			Passes: 1, ResponseTimeout: 10 * time.Second, DialContext: s.net.Host(client).DialContext,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		s.one[p.Name] = c
	}
	if s.layout, err = model.NewLayout([]model.Tensor{{Name: "weights", DType: model.F32, Shape: []int64{bytes / 4}}}); err != nil {
		t.Fatal(err)
	}
	s.waitAlive(ctx)
	info, _, err := s.client.CreateSession(ctx, "net", config, api.Bytes(s.update("nobody", "seed")))
	if err != nil {
		t.Fatal(err)
	}
	s.session = info.Key
	watch, end := context.WithCancel(ctx)
	go s.watchFinals(watch)
	t.Cleanup(func() {
		end()
		<-s.watched
	})
	return s
}

// dial makes a client of some peers on a host.
func (s *scene) dial(host string, peers []string, stream uint64) *api.Client {
	s.t.Helper()
	var urls []string
	for _, p := range s.cluster.Peers() {
		if slices.Contains(peers, p.Name) {
			urls = append(urls, p.URL)
		}
	}
	c, err := api.NewClient(urls, api.ClientOptions{
		Shuffle: true, Rand: rand.NewPCG(s.seed, stream), DialContext: s.net.Host(host).DialContext,
		BadFor: time.Second, MaxBackoff: time.Second, ResponseTimeout: 5 * time.Second, IdleTimeout: 5 * time.Second,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// waitAlive waits until every peer sees every other.
func (s *scene) waitAlive(ctx context.Context) {
	s.t.Helper()
	s.until(ctx, "all peers see each other", patience, func() error {
		for _, p := range s.peers {
			info, err := s.one[p].Mesh(ctx)
			if err != nil {
				return err
			}
			alive := 0
			for _, q := range info.Peers {
				if q.State == api.PeerAlive {
					alive++
				}
			}
			if alive != len(s.peers) {
				return fmt.Errorf("%s sees %d of %d", p, alive, len(s.peers))
			}
		}
		return nil
	})
}

// patience is how long a wait for what must happen may last on a machine that has other work.
const patience = 2 * time.Minute

// until asks until there is no error, and fails the test when there still is one in the end.
func (s *scene) until(ctx context.Context, what string, within time.Duration, ask func() error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("not in %v: %s: %v", within, what, err)
		case <-tick.C:
		}
	}
}

// pause lets the processes go on for a while.
func (s *scene) pause(ctx context.Context, d time.Duration) {
	s.t.Helper()
	select {
	case <-time.After(d):
	case <-ctx.Done():
		s.t.Fatal(ctx.Err())
	}
}

// update makes a model of random numbers in [-1, 1) from nothing but its key.
func (s *scene) update(combiner, id string) []byte {
	h := fnv.New64a()
	h.Write([]byte(combiner + "/" + id))
	r := rand.New(rand.NewPCG(s.seed, h.Sum64()))
	b := bytes.Clone(s.layout.Header())
	for range s.layout.Elements() {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(r.Float32()*2-1))
	}
	return b
}

// combiners is the work of some combiners until it is stopped.
type combiners struct {
	stopped atomic.Bool
	done    sync.WaitGroup
	cancel  context.CancelFunc
}

// training is how long a combiner trains where it does not matter.
const training = 300 * time.Millisecond

// work starts combiners on a host, which know only some of the peers. Their names
// begin with the given one.
func (s *scene) work(ctx context.Context, name, host string, n int, train time.Duration, peers ...string) *combiners {
	s.t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	w := &combiners{cancel: cancel}
	for i := range n {
		c := s.dial(host, peers, uint64(i)+1)
		w.done.Go(func() { s.combine(ctx, w, name+strconv.Itoa(i), train, c) })
	}
	s.t.Cleanup(func() {
		w.cancel()
		w.done.Wait()
	})
	return w
}

// stop lets the combiners finish what they are at.
func (w *combiners) stop() {
	w.stopped.Store(true)
	w.done.Wait()
}

// combine takes the newest model, trains, pushes an update made from it, waits for the
// next model for a second at most, and so on. It never gives an update up.
func (s *scene) combine(ctx context.Context, w *combiners, name string, train time.Duration, c *api.Client) {
	after := ""
	for n := 1; !w.stopped.Load(); {
		info, err := c.Pull(ctx, s.session, api.PullOptions{After: after, Wait: time.Second}, io.Discard)
		if errors.Is(err, api.ErrNotModified) {
			// Not each model has an update of each combiner, nor each combiner only one.
			after = ""
			continue
		}
		if err != nil {
			s.fail(fmt.Errorf("%s: %w", name, err))
			return
		}
		id := strconv.Itoa(n)
		update := s.update(name, id)
		select {
		case <-time.After(train):
		case <-ctx.Done():
			return
		}
		start := time.Now()
		receipt, err := c.Push(ctx, s.session, api.PushOptions{
			Combiner: name, ID: id, Weight: int64(1 + n%7), Base: info.Digest.String(),
		}, api.Bytes(update))
		if err != nil {
			s.fail(fmt.Errorf("%s: update %s: %w", name, id, err))
			return
		}
		s.mu.Lock()
		s.receipts = append(s.receipts, receipt)
		s.slowest = max(s.slowest, time.Since(start))
		s.mu.Unlock()
		after = info.Digest.String()
		n++
	}
}

func (s *scene) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errs = append(s.errs, err)
}

// acknowledged counts the updates with a receipt so far, of combiners whose names begin so.
func (s *scene) acknowledged(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, r := range s.receipts {
		if strings.HasPrefix(r.Combiner, prefix) {
			n++
		}
	}
	return n
}

// watchFinals asks all peers for their rounds and keeps what they call final. What
// was final once must stay as it was.
func (s *scene) watchFinals(ctx context.Context) {
	defer close(s.watched)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for _, p := range s.peers {
			if rounds, err := process.AllRounds(ctx, s.one[p], s.session); err == nil {
				s.noteFinals(p, rounds)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *scene) noteFinals(peer string, rounds []api.RoundInfo) {
	for _, r := range rounds {
		key := peer + "/" + strconv.FormatUint(r.Round, 10)
		now := finally{r.Inputs, r.Model}
		s.mu.Lock()
		was, known := s.finals[key]
		switch {
		case known && (was != now || r.State != api.RoundFinal):
			s.errs = append(s.errs, fmt.Errorf("round %s was final with %v and is now %s with %v", key, was, r.State, now))
		case r.State == api.RoundFinal:
			s.finals[key] = now
		}
		s.mu.Unlock()
	}
}

// judge closes the session and checks everything: that each acknowledged update is in
// exactly one round, that the peers agree to the bit, that no final round changed.
func (s *scene) judge(ctx context.Context) {
	s.t.Helper()
	s.mu.Lock()
	errs, receipts := errors.Join(s.errs...), slices.Clone(s.receipts)
	s.mu.Unlock()
	if errs != nil {
		s.t.Fatal(errs)
	}
	if _, err := s.client.CloseSession(ctx, s.session); err != nil {
		s.t.Fatal(err)
	}
	verdict, err := process.Check(ctx, process.CheckOptions{
		Session: s.session, Peers: s.cluster.Peers(), Receipts: receipts, Timeout: patience, Dial: s.net.Host(client).DialContext,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	var table strings.Builder
	if err := errors.Join(verdict.WriteRounds(&table), verdict.WriteTable(&table)); err != nil {
		s.t.Fatal(err)
	}
	s.mu.Lock()
	s.t.Logf("%d final rounds seen on the way, slowest push %v\n%s", len(s.finals), s.slowest.Round(time.Millisecond), table.String())
	s.mu.Unlock()
	if err := verdict.Err(); err != nil {
		s.t.Error(err)
	}
	for _, v := range verdict.Views {
		s.noteFinals(v.Peer, v.Rounds)
	}
	s.mu.Lock()
	errs = errors.Join(s.errs...)
	s.mu.Unlock()
	if errs != nil {
		s.t.Error(errs)
	}
	s.sameBytes(ctx, verdict)
}

// sameBytes pulls the last model from every peer: the client compares the bytes with their digest.
func (s *scene) sameBytes(ctx context.Context, v process.Verdict) {
	s.t.Helper()
	for _, p := range v.Peers {
		s.until(ctx, "the model of "+p.Peer, patience, func() error {
			var b bytes.Buffer
			info, err := s.one[p.Peer].Pull(ctx, s.session, api.PullOptions{}, &b)
			if err == nil && info.Digest.String() != v.Peers[0].Model {
				s.t.Fatalf("%s serves %s, want %s", p.Peer, info.Digest.Short(), v.Peers[0].Model)
			}
			return err
		})
	}
}

// checkLogs looks for what a node must never write, and shows the end of the
// logs when the test has failed.
func (s *scene) checkLogs() {
	for _, name := range s.cluster.Names() {
		text, err := os.ReadFile(s.cluster.LogFile(name))
		if err != nil {
			s.t.Error(err)
		}
		for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
			if i := bytes.Index(text, []byte(bad)); i >= 0 {
				s.t.Errorf("%s wrote:\n%s", name, text[i:min(len(text), i+4000)])
			}
		}
		if s.t.Failed() {
			s.t.Logf("the end of %s's log:\n%s", name, s.cluster.Tail(name, 25))
		}
	}
}
