package main

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/benchmarks/report"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
	"github.com/fedmesh/fedmesh/model"
)

const (
	session  = "throughput"
	patience = 10 * time.Minute // for a run, however slow the machine
)

// measure runs one round of a new mesh, after the things it is compared with.
func measure(ctx context.Context, c config, l *load.Load, peers int) (x report.Run, want model.Digest, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	runtime.GC() // not while the clock runs
	x.Peers, x.Copy = peers, l.Copy().Seconds()
	summed, want, err := l.Sum(ctx, workers)
	if err != nil {
		return x, want, err
	}
	x.Sum = summed.Seconds()

	dir := filepath.Join(c.dir, "mesh")
	defer func() {
		if err == nil || ctx.Err() != nil {
			err = errors.Join(err, os.RemoveAll(dir)) // else somebody will want to look
		}
	}()
	cluster, err := process.NewCluster(process.Options{
		Binary: c.fedmesh, N: peers, Dir: dir, Mesh: "throughput", ExtraArgs: []string{"--fsync", c.fsync},
	})
	if err != nil {
		return x, want, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	if err := errors.Join(cluster.Start(ctx), cluster.Together(ctx, "")); err != nil {
		return x, want, err
	}
	r := &round{load: l, cluster: cluster, run: &x}
	if err := r.measure(ctx); err != nil {
		return x, want, fmt.Errorf("%w\nlog of %s:\n%s", err, cluster.Names()[0], cluster.Tail(cluster.Names()[0], 10))
	}
	return x, want, r.verify(ctx, want)
}

// round is one round under the clock.
type round struct {
	load    *load.Load
	cluster *process.Cluster
	run     *report.Run
	base    string // digest of the seed
	number  uint64 // of the round
}

func (r *round) measure(ctx context.Context) error {
	if err := r.open(ctx); err != nil {
		return err
	}
	before, err := r.usage()
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var sealed, acked time.Time
	g.Go(func() (err error) {
		sealed, err = r.watchSeal(watching)
		return err
	})
	served := make([]time.Time, len(r.cluster.Peers()))
	ready := make(chan struct{}, len(served))
	var polls errgroup.Group
	for i, peer := range r.cluster.Peers() {
		polls.Go(func() (err error) {
			served[i], err = r.waitModel(ctx, peer.URL, ready)
			return err
		})
	}
	for range served {
		<-ready
	}
	began := time.Now()
	g.Go(func() error {
		err := r.push(ctx)
		acked = time.Now()
		return err
	})
	g.Go(func() error {
		err := polls.Wait()
		stop()
		return err
	})
	if err := g.Wait(); err != nil {
		return err
	}
	slices.SortFunc(served, time.Time.Compare)
	since := func(t time.Time) float64 { return t.Sub(began).Seconds() }
	r.run.Acked, r.run.First, r.run.Served = since(acked), since(served[0]), since(served[len(served)-1])
	if !sealed.IsZero() { // else the model came before the news of the seal
		r.run.Sealed = since(sealed)
	}
	after, err := r.usage()
	if err != nil {
		return err
	}
	for i := range after {
		r.run.CPU += after[i].cpu - before[i].cpu
		r.run.Peak = append(r.run.Peak, after[i].peak)
	}
	return nil
}

// open opens the session and waits until every peer counts all of them as
// members and has the seed. A peer whose joining the others hear of only later
// makes them close an empty round for it, and that is not what is measured.
func (r *round) open(ctx context.Context) error {
	client, err := api.NewClient(r.cluster.URLs(), api.ClientOptions{})
	if err != nil {
		return err
	}
	defer client.Close()
	n := len(r.load.Updates)
	cfg := api.DefaultSessionConfig()
	cfg.TargetCombiners, cfg.MinCombiners = n, n
	cfg.Copies = min(cfg.Copies, len(r.cluster.URLs()))
	cfg.RoundTimeout = api.Duration(time.Hour)
	info, _, err := client.CreateSession(ctx, session, cfg, api.Bytes(r.load.Seed))
	if err != nil {
		return err
	}
	r.base = info.Seed
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		together, err := r.together(ctx, client)
		if together || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("throughput: the peers did not find together: %w", ctx.Err())
		}
	}
}

// together reports whether all peers are members of the same open round and
// have its base.
func (r *round) together(ctx context.Context, client *api.Client) (bool, error) {
	urls := r.cluster.URLs()
	for i, url := range urls {
		peer, err := client.Peer(url)
		if err != nil {
			return false, err
		}
		info, err := peer.Session(ctx, session)
		if api.TypeUnknownSession.Is(err) {
			return false, nil // it will hear of it
		}
		if err != nil {
			return false, err
		}
		if i == 0 {
			r.number = info.Round
		}
		if len(info.Members) != len(urls) || info.Round != r.number || info.ModelRound+1 != info.Round {
			return false, nil
		}
		if _, err := peer.Head(ctx, session, api.PullOptions{}); err != nil { // has it take the seed
			return false, err
		}
	}
	return true, nil
}

// push has all combiners push at once, each to a peer of its own choice first.
func (r *round) push(ctx context.Context) error {
	urls := r.cluster.URLs()
	g, ctx := errgroup.WithContext(ctx)
	for i, update := range r.load.Updates {
		k := i % len(urls)
		client, err := api.NewClient(append(append([]string{}, urls[k:]...), urls[:k]...), api.ClientOptions{})
		if err != nil {
			return err
		}
		g.Go(func() error {
			defer client.Close()
			_, err := client.Push(ctx, session, api.PushOptions{
				Combiner: fmt.Sprintf("c%03d", i), Weight: r.load.Weights[i], Base: r.base,
			}, api.Bytes(update))
			return err
		})
	}
	return g.Wait()
}

// watchSeal returns when the first peer closes the round, as one peer hears it;
// the zero time when ctx ends before.
func (r *round) watchSeal(ctx context.Context) (sealed time.Time, err error) {
	client, err := api.NewClient(r.cluster.URLs()[:1], api.ClientOptions{})
	if err != nil {
		return sealed, err
	}
	defer client.Close()
	err = client.Events(ctx, func(e api.Event) error {
		if e.Type == api.EventRound && e.State == "sealed" && e.Round == r.number {
			sealed = time.Now()
			return errSeen
		}
		return nil
	})
	if errors.Is(err, errSeen) || ctx.Err() != nil {
		return sealed, nil
	}
	return sealed, err
}

var errSeen = errors.New("seen")

// waitModel asks a peer for a newer model than the seed until it serves one, and
// returns when that was. It does not take the model: on one machine that would
// slow down the peers that are not as far.
func (r *round) waitModel(ctx context.Context, url string, ready chan<- struct{}) (time.Time, error) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	announce := func() {
		if ready != nil {
			ready <- struct{}{}
			ready = nil
		}
	}
	defer announce()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, url+"/v1/sessions/"+session+"/model?wait=1m&after="+r.base, nil)
		if err != nil {
			return time.Time{}, err
		}
		announce()
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return time.Time{}, fmt.Errorf("throughput: %s: %w", url, err)
		}
		_ = resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
			if n := resp.Header.Get("Fedmesh-Round"); n != strconv.FormatUint(r.number, 10) {
				return time.Time{}, fmt.Errorf("throughput: %s serves the model of round %s, want %d", url, n, r.number)
			}
			return time.Now(), nil
		case http.StatusNoContent:
		default:
			return time.Time{}, fmt.Errorf("throughput: %s: %s", url, resp.Status)
		}
	}
}

// usage is what each peer has taken so far.
func (r *round) usage() ([]usage, error) {
	var us []usage
	for _, name := range r.cluster.Names() {
		u, err := usageOf(r.cluster.DataDir(name))
		if errors.Is(err, errors.ErrUnsupported) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		us = append(us, u)
	}
	return us, nil
}

// verify takes the model from every peer and compares it with the pure sum.
func (r *round) verify(ctx context.Context, want model.Digest) error {
	for _, peer := range r.cluster.Peers() {
		client, err := api.NewClient([]string{peer.URL}, api.ClientOptions{})
		if err != nil {
			return err
		}
		h := model.NewHash()
		_, err = client.Pull(ctx, session, api.PullOptions{}, h)
		client.Close()
		if err != nil {
			return err
		}
		if got := digestOf(h); got != want {
			return fmt.Errorf("throughput: %s serves %s, the pure sum is %s", peer.Name, got.Short(), want.Short())
		}
	}
	return nil
}

func digestOf(h hash.Hash) (d model.Digest) {
	h.Sum(d[:0])
	return d
}
