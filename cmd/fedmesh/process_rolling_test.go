//go:build unix

package main_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

var (
	rollTimes = flag.Int("rolling.times", 1, "how often TestRollingRestart restarts every peer")
	rollCalm  = flag.Duration("rolling.calm", 4*time.Second, "how long TestRollingRestart measures without restarts, half before and half after")
)

const (
	rollPeers     = 5
	rollTries     = 5
	rollFew       = 50 // pushes that mean something
	rollCombiners = 6
	rollPushEvery = 40 * time.Millisecond        // of each combiner
	rollDelay     = 250 * time.Millisecond       // by which restarts may raise the 99th percentile of a push, over twice that of calm
	rollStop      = 25*time.Second + time.Second // what fedmesh node promises, and the test's own look at it
)

// TestRollingRestart restarts five peers one after the other, as an upgrade does, while combiners push all the time: a push takes hardly longer than without,
// none fails, and none is lost.
func TestRollingRestart(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a quarter of a minute")
	}
	ctx, cancel := context.WithTimeout(t.Context(), rollTries**rollCalm+time.Duration(rollTries**rollTimes)*time.Minute+2*time.Minute)
	defer cancel()
	cluster, _ := startCluster(ctx, t, rollPeers)
	load := newRollingLoad(ctx, t, cluster)
	stop := load.run(ctx)
	defer stop() // for a test that ends early

	// Other work on the machine spoils the times of a try, mostly not for the better.
	delay := rollDelay + 1
	for try := 0; try < rollTries && delay > rollDelay; try++ {
		delay = load.roll(ctx, t, cluster)
	}
	stop()
	if err := errors.Join(load.errs...); err != nil {
		t.Fatal(err)
	}
	if delay > rollDelay {
		t.Errorf("in each of %d tries, restarts delayed pushes by more than %v at the 99th percentile, and more than doubled it", rollTries, rollDelay)
	}
	if _, err := load.client.CloseSession(ctx, load.session); err != nil {
		t.Fatal(err)
	}
	verdict, err := process.Check(ctx, process.CheckOptions{Session: load.session, Peers: cluster.Peers(), Receipts: load.receipts, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if err := verdict.Err(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d updates acknowledged, each of them in one round, the same at all peers", verdict.Acknowledged)
}

// roll restarts all nodes, with some time before and after, and returns by how much longer than twice as long the 99th percentile of the pushes was meanwhile:
// a machine that is slow, or has other work, is so all the time.
func (l *rollingLoad) roll(ctx context.Context, t *testing.T, cluster *process.Cluster) time.Duration {
	t.Helper()
	l.mu.Lock()
	clear(l.times)
	l.mu.Unlock()
	calm := func() { // for its time, and as much longer as the machine needs for enough pushes
		end, tick := time.After(*rollCalm/2), time.NewTicker(10*time.Millisecond)
		defer tick.Stop()
		few := len(l.took(false)) + rollFew/2
		for over := false; !over || len(l.took(false)) < few; {
			select {
			case <-end:
				over = true
			case <-tick.C:
			case <-ctx.Done():
				t.Fatal(ctx.Err())
			}
		}
	}
	calm()
	l.rolling.Store(true)
	begin := time.Now()
	var stops, starts []time.Duration
	for n := 0; n < *rollTimes || len(l.took(true)) < rollFew && ctx.Err() == nil; n++ {
		for _, name := range cluster.Names() {
			stopped, started := restart(ctx, t, cluster, name)
			stops, starts = append(stops, stopped), append(starts, started)
		}
	}
	took := time.Since(begin).Round(time.Millisecond)
	l.rolling.Store(false)
	calm()
	still, moving := l.took(false), l.took(true)
	t.Logf("%d restarts in %v; a stop took %v at most, a start until ready %v", len(stops), took, slices.Max(stops), slices.Max(starts))
	t.Logf("in calm   %v", still)
	t.Logf("restarts  %v", moving)
	if worst := slices.Max(stops); worst > rollStop {
		t.Errorf("a peer took %v to stop", worst)
	}
	t.Logf("delayed by %v at the 99th percentile", (moving.at(0.99) - still.at(0.99)).Round(100*time.Microsecond))
	return moving.at(0.99) - 2*still.at(0.99)
}

// restart restarts a node in order, and returns how long it took to end and then to be ready.
func restart(ctx context.Context, t *testing.T, cluster *process.Cluster, name string) (stopped, started time.Duration) {
	t.Helper()
	begin := time.Now()
	if err := cluster.Stop(ctx, name); err != nil {
		t.Fatal(err)
	}
	stopped = time.Since(begin)
	if exit := cluster.Exit(name); exit != "exit status 0" {
		t.Fatalf("%s ended with %s\n%s", name, exit, cluster.Tail(name, 20))
	}
	begin = time.Now()
	if err := cluster.Restart(ctx, name); err != nil {
		t.Fatal(err)
	}
	return stopped.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond)
}

// rollingLoad is combiners that push at a steady pace, each from the model that is current.
type rollingLoad struct {
	session string
	urls    []string
	client  *api.Client
	rolling atomic.Bool

	mu       sync.Mutex
	times    map[bool]durations // of pushes that began, or ended, during restarts, and of the others
	receipts []api.Receipt
	errs     []error
}

func newRollingLoad(ctx context.Context, t *testing.T, cluster *process.Cluster) *rollingLoad {
	t.Helper()
	l := &rollingLoad{urls: cluster.URLs(), times: map[bool]durations{}}
	layout, err := smallLayout()
	if err != nil {
		t.Fatal(err)
	}
	if l.client, err = api.NewClient(l.urls, api.ClientOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.client.Close)
	config := api.DefaultSessionConfig()
	config.RoundTimeout = api.Duration(time.Second)
	first, _ := drawUpdate(1, "nobody", "seed")
	info, _, err := l.client.CreateSession(ctx, "rolling", config, api.Bytes(first.encode(layout)))
	if err != nil {
		t.Fatal(err)
	}
	l.session = info.Key
	return l
}

// run starts the combiners; the function it returns stops them and waits.
func (l *rollingLoad) run(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var combiners sync.WaitGroup
	for i := range rollCombiners {
		combiners.Go(func() {
			if err := l.combine(ctx, "combiner-"+strconv.Itoa(i)); err != nil {
				l.mu.Lock()
				l.errs = append(l.errs, err)
				l.mu.Unlock()
			}
		})
	}
	return func() {
		cancel()
		combiners.Wait()
	}
}

// combine pushes until ctx ends; the last push is finished.
func (l *rollingLoad) combine(ctx context.Context, name string) error {
	layout, err := smallLayout()
	if err != nil {
		return err
	}
	client, err := api.NewClient(l.urls, api.ClientOptions{Shuffle: true})
	if err != nil {
		return err
	}
	defer client.Close()
	tick := time.NewTicker(rollPushEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		id := strconv.Itoa(n)
		update, weight := drawUpdate(1, name, id)
		body := api.Bytes(update.encode(layout))
		push, done := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		rolling, begin := l.rolling.Load(), time.Now()
		receipt, err := client.Push(push, l.session, api.PushOptions{Combiner: name, ID: id, Weight: weight, Base: "latest"}, body)
		took := time.Since(begin)
		done()
		if err != nil {
			return fmt.Errorf("%s: push %s: %w", name, id, err)
		}
		l.mu.Lock()
		rolling = rolling || l.rolling.Load()
		l.times[rolling] = append(l.times[rolling], took)
		l.receipts = append(l.receipts, receipt)
		l.mu.Unlock()
	}
}

// took is how long the pushes took that had to do with restarts, or that had not, sorted.
func (l *rollingLoad) took(rolling bool) durations {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(slices.Values(l.times[rolling]))
}

// durations are sorted.
type durations []time.Duration

func (d durations) at(q float64) time.Duration { return d[min(int(q*float64(len(d))), len(d)-1)] }

func (d durations) String() string {
	if len(d) == 0 {
		return "no pushes"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d pushes", len(d))
	for _, q := range []struct {
		name string
		at   float64
	}{{"median", 0.5}, {"p99", 0.99}, {"longest", 1}} {
		fmt.Fprintf(&b, ", %s %v", q.name, d.at(q.at).Round(100*time.Microsecond))
	}
	return b.String()
}
