package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/benchmarks/verify"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Push is one update on its way to an acknowledgement. Times are seconds since
// the run's start.
type Push struct {
	Combiner string   `json:"combiner"`
	ID       string   `json:"id"`
	Start    float64  `json:"start"`    // of the first attempt
	Acked    float64  `json:"acked"`    // when the receipt was in
	Attempts int      `json:"attempts"` // more than one: the first failed
	Copies   []string `json:"copies"`   // who holds it, on the receipt
}

// Took is the time from the start of the first attempt to the acknowledgement.
// With more than one attempt the first has failed, and this is how long its
// combiner went without.
func (p Push) Took() float64 { return p.Acked - p.Start }

// work is what the combiners did and were told.
type work struct {
	mu       sync.Mutex
	pushes   []Push
	receipts []api.Receipt
	acked    map[process.Key]float64 // when, by update
	gaveUp   int
}

// giveUp notes a combiner that got nothing more done before the end of all
// patience; nil then, else the error.
func (w *work) giveUp(ctx context.Context, err error) error {
	if !errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gaveUp++
	return nil
}

func (w *work) note(p Push, r api.Receipt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pushes, w.receipts = append(w.pushes, p), append(w.receipts, r)
	if w.acked == nil {
		w.acked = map[process.Key]float64{}
	}
	w.acked[process.Key{Combiner: p.Combiner, ID: p.ID}] = p.Acked
}

// ackedAt tells when an update was acknowledged, if it was.
func (w *work) ackedAt(key process.Key) (at float64, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, ok = w.acked[key]
	return at, ok
}

func (w *work) acknowledged() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.receipts)
}

// newClient makes the client that combiners use, the same for all systems. It
// never gives up: an update that was trained is pushed until it is acknowledged.
func (t *trial) newClient(combiner int) (*api.Client, error) {
	o := api.ClientOptions{
		Shuffle: true, Rand: rand.NewPCG(t.config.seed, uint64(combiner)+1000),
		ResponseTimeout: 10 * time.Second, BadFor: 500 * time.Millisecond, MaxBackoff: 500 * time.Millisecond,
	}
	urls, dial := t.cluster.URLs(), dialer(nil)
	if t.lan != nil {
		// The processes of its own side come first, and those that do not answer at all
		// are not waited for long.
		urls, dial = t.nearFirst(combiner), t.lan.dial(sideName(sideOf(combiner)))
		o.Shuffle, o.ConnectTimeout, o.ResponseTimeout = false, 500*time.Millisecond, 5*time.Second
	}
	o.DialContext = t.uploads[combiner].dial(dial)
	return api.NewClient(urls, o)
}

// combine is a combiner: it pulls a model, trains, pushes, waits for the next
// model, and so on until stop is closed.
func (t *trial) combine(ctx context.Context, index int, stop <-chan struct{}) error {
	client, err := t.newClient(index)
	if err != nil {
		return err
	}
	defer client.Close()
	r := rand.New(rand.NewPCG(t.config.seed, uint64(index)+2000))
	name, after := verify.Name(index), ""
	var update []byte
	for step := 1; ; step++ {
		base, model, err := t.pull(ctx, client, after, stop)
		if err != nil {
			return t.work.giveUp(ctx, fmt.Errorf("kill: %s: %w", name, err))
		}
		if model == nil {
			return nil // stopped
		}
		trained, err := verify.Train(t.load, model, index, step)
		if err != nil {
			return err
		}
		update = trained.Append(update[:0])
		command.Pause(ctx, time.Duration(float64(t.config.train)*(0.75+0.5*r.Float64())))
		p := Push{Combiner: name, ID: strconv.Itoa(step)}
		watched := t.uploads[index]
		watched.begin(process.Key{Combiner: name, ID: p.ID})
		receipt, err := client.Push(ctx, t.session, api.PushOptions{
			Combiner: name, ID: p.ID, Weight: t.load.Weights[index], Base: base.Digest.String(),
		}, func() (io.ReadCloser, int64, error) {
			// The client asks for the body once for each attempt.
			if p.Attempts++; p.Attempts == 1 {
				p.Start = t.now()
			}
			return watched.body(bytes.NewReader(update), len(update)), int64(len(update)), nil
		})
		watched.set(stageNone)
		if err != nil {
			return t.work.giveUp(ctx, fmt.Errorf("kill: %s: update %s: %w", name, p.ID, err))
		}
		p.Acked, p.Copies = t.now(), receipt.Copies
		t.work.note(p, receipt)
		after = strconv.FormatUint(base.Round, 10)
	}
}

// pull takes the next model; none once stop is closed.
func (t *trial) pull(ctx context.Context, client *api.Client, after string, stop <-chan struct{}) (api.ModelInfo, []byte, error) {
	o := api.PullOptions{After: after}
	if after != "" {
		o.Wait = 2 * time.Second
	}
	for {
		select {
		case <-stop:
			return api.ModelInfo{}, nil, nil
		default:
		}
		var b bytes.Buffer
		b.Grow(len(t.load.Seed))
		info, err := client.Pull(ctx, t.session, o, &b)
		if errors.Is(err, api.ErrNotModified) {
			continue
		}
		return info, b.Bytes(), err
	}
}
