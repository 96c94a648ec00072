package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
	"github.com/fedmesh/fedmesh/model"
)

const (
	session  = "peers"
	patience = 15 * time.Minute // for a round, however slow the machine
)

// job is one round for a fedmesh peer.
type job struct {
	fsync   string
	seed    api.Source
	updates []api.Source
	weights []int64
	want    model.Digest // of the mean; zero: only that the bytes are those announced
}

// outcome is what a round took.
type outcome struct {
	seconds float64 // from the first push until the model is served
	acked   float64 // until the last combiner has its receipt
	peak    int64   // resident memory at most, bytes; 0 where it cannot be known
}

// fedmesh runs one round with a new peer, an empty folder and one copy of each
// update, and removes it all again.
func fedmesh(ctx context.Context, c config, j job) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	dir := filepath.Join(c.dir, "mesh")
	defer func() {
		if err == nil || ctx.Err() != nil {
			err = errors.Join(err, os.RemoveAll(dir)) // else somebody will want to look
		}
	}()
	cluster, err := process.NewCluster(process.Options{
		Binary: c.fedmesh, N: 1, Dir: dir, Mesh: "peers", ExtraArgs: []string{"--fsync", j.fsync},
	})
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	if err := cluster.Start(ctx); err != nil {
		return o, err
	}
	name := cluster.Names()[0]
	r := &round{job: j, url: cluster.URLs()[0]}
	if o, err = r.run(ctx); err != nil {
		return o, fmt.Errorf("%w\nlog of the peer:\n%s", err, cluster.Tail(name, 10))
	}
	o.peak, err = peakOf(cluster.DataDir(name))
	return o, err
}

// round is one round under the clock.
type round struct {
	job
	url    string
	base   string // digest of the seed
	number uint64
}

func (r *round) run(ctx context.Context) (o outcome, err error) {
	client, err := r.client()
	if err != nil {
		return o, err
	}
	defer client.Close()
	n := len(r.updates)
	cfg := api.DefaultSessionConfig()
	cfg.TargetCombiners, cfg.MinCombiners, cfg.Copies = n, n, 1
	cfg.RoundTimeout = api.Duration(time.Hour)
	info, _, err := client.CreateSession(ctx, session, cfg, r.seed)
	if err != nil {
		return o, err
	}
	r.base, r.number = info.Seed, info.Round

	g, ctx := errgroup.WithContext(ctx)
	ready := make(chan struct{})
	var began, served, acked time.Time
	g.Go(func() (err error) {
		served, err = r.pull(ctx, ready)
		return err
	})
	g.Go(func() error {
		select {
		case <-ready:
		case <-ctx.Done():
			return ctx.Err()
		}
		began = time.Now()
		err := r.push(ctx)
		acked = time.Now()
		return err
	})
	if err := g.Wait(); err != nil {
		return o, err
	}
	o.seconds, o.acked = served.Sub(began).Seconds(), acked.Sub(began).Seconds()
	return o, nil
}

func (r *round) client() (*api.Client, error) {
	return api.NewClient([]string{r.url}, api.ClientOptions{Passes: 1, ResponseTimeout: patience, IdleTimeout: patience})
}

// push has all combiners push at once, over connections of their own.
func (r *round) push(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for i, update := range r.updates {
		client, err := r.client()
		if err != nil {
			return err
		}
		g.Go(func() error {
			defer client.Close()
			_, err := client.Push(ctx, session, api.PushOptions{
				Combiner: fmt.Sprintf("c%03d", i), Weight: r.weights[i], Base: r.base,
			}, update)
			return err
		})
	}
	return g.Wait()
}

// pull asks for a newer model than the seed until there is one, and returns when
// the answer began. Then, off the clock, it takes the model and checks it.
func (r *round) pull(ctx context.Context, ready chan<- struct{}) (served time.Time, err error) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/v1/sessions/"+session+"/model?wait=1m&after="+r.base, nil)
		if err != nil {
			return served, err
		}
		if ready != nil {
			close(ready)
			ready = nil
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return served, fmt.Errorf("peers: %w", err)
		}
		served = time.Now()
		switch resp.StatusCode {
		case http.StatusOK:
			return served, errors.Join(r.verify(resp), resp.Body.Close())
		case http.StatusNoContent: // not yet; ctx bounds how often
			_ = resp.Body.Close()
		default:
			_ = resp.Body.Close()
			return served, fmt.Errorf("peers: the peer answers %s", resp.Status)
		}
	}
}

// verify reads a served model to its end and compares it with what it must be.
func (r *round) verify(resp *http.Response) error {
	if n := resp.Header.Get("Fedmesh-Round"); n != strconv.FormatUint(r.number, 10) {
		return fmt.Errorf("peers: the peer serves the model of round %s, want %d", n, r.number)
	}
	h := model.NewHash()
	if _, err := io.Copy(h, resp.Body); err != nil {
		return fmt.Errorf("peers: take the model: %w", err)
	}
	want := r.want
	if want.IsZero() {
		var err error
		if want, err = model.ParseDigest(resp.Header.Get("Fedmesh-Digest")); err != nil {
			return fmt.Errorf("peers: the digest that is announced: %w", err)
		}
	}
	var got model.Digest
	if h.Sum(got[:0]); got != want {
		return fmt.Errorf("peers: the peer serves %s, want %s", got.Short(), want.Short())
	}
	return nil
}
