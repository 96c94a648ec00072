package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/benchmarks/figures"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// Alone is what the last peer did while all others were dead. Times are seconds.
type Alone struct {
	Peer   string  `json:"peer"`
	At     float64 `json:"at"`     // when the others were killed, since the start
	Lasted float64 `json:"lasted"` // until they were started again

	Model  string  `json:"model"`  // digest of the model it served first then
	Round  uint64  `json:"round"`  // of that model; the last one before was Before
	Before uint64  `json:"before"` // the newest round that anybody had served
	Served float64 `json:"served"` // from the kill until it had served that model whole

	Acked  float64 `json:"acknowledged_after"` // from the kill until it acknowledged the first update that only it holds
	Pushes int     `json:"pushes"`             // acknowledged by it with copies 1
	Rounds uint64  `json:"rounds"`             // finished by it alone

	Returned float64 `json:"returned"` // from their start until all were ready
	Agreed   float64 `json:"agreed"`   // from their start until all served one and the same model, of round AgreedOn
	AgreedOn uint64  `json:"agreed_on"`
}

// leaveOne kills all peers but one after a third of the rounds, sees what the
// last one does, and starts the others again.
func (t *trial) leaveOne(ctx context.Context) error {
	for {
		round, _ := t.watch.newest()
		if round >= t.config.calm+(t.config.rounds+2)/3 {
			break
		}
		if command.Pause(ctx, 5*time.Millisecond); ctx.Err() != nil {
			return ctx.Err()
		}
	}
	names := t.cluster.Names()
	k := rand.New(rand.NewPCG(t.config.seed, 7)).IntN(len(names))
	a := &Alone{Peer: names[k]}
	var victims []string
	for i, n := range names {
		if i != k {
			victims = append(victims, n)
		}
	}
	numbers, err := t.shoot(t.watch.kill, victims...)
	if err != nil {
		return err
	}
	first := t.watch.number(numbers[0])
	a.At, a.Before = first.At, first.After
	if err := t.pullAlone(ctx, a, t.cluster.Peers()[k].URL); err != nil {
		return err
	}
	if err := t.watchAlone(ctx, a); err != nil {
		return err
	}
	started := t.now()
	a.Lasted = started - a.At
	// At once: each waits for the others that it knew for a while when it starts.
	var g errgroup.Group
	for i, v := range victims {
		g.Go(func() error {
			err := t.revive(ctx, numbers[i], v)
			if err == nil {
				t.watch.back(numbers[i])
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	a.Returned = t.now() - started
	for ctx.Err() == nil {
		if round, ok := t.watch.agreed(); ok {
			a.Agreed, a.AgreedOn = t.now()-started, round
			t.alone = a
			return nil
		}
		command.Pause(ctx, 5*time.Millisecond)
	}
	return fmt.Errorf("kill: the peers came back and did not agree: %w", ctx.Err())
}

// pullAlone takes the last peer's model.
func (t *trial) pullAlone(ctx context.Context, a *Alone, url string) error {
	client, err := api.NewClient([]string{url}, api.ClientOptions{})
	if err != nil {
		return err
	}
	defer client.Close()
	info, err := client.Pull(ctx, t.session, api.PullOptions{}, io.Discard)
	if err != nil {
		return fmt.Errorf("kill: the last peer serves nothing: %w", err)
	}
	a.Model, a.Round, a.Served = info.Digest.String(), info.Round, t.now()-a.At
	return nil
}

// watchAlone waits until the last peer has been alone for as long as the others
// are to be away, and has acknowledged updates and finished rounds.
func (t *trial) watchAlone(ctx context.Context, a *Alone) error {
	const enough = 2 // rounds
	// What only the dead have is given up after half a minute.
	ctx, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	for {
		a.Pushes = 0
		t.work.mu.Lock()
		for i, r := range t.work.receipts {
			if p := t.work.pushes[i]; p.Acked > a.At && len(r.Copies) == 1 && r.Copies[0] == a.Peer {
				if a.Pushes++; a.Pushes == 1 {
					a.Acked = p.Acked - a.At
				}
			}
		}
		t.work.mu.Unlock()
		round, _ := t.watch.newest()
		a.Rounds = uint64(round) - a.Before
		if a.Pushes > 0 && a.Rounds >= enough && t.now()-a.At >= t.config.restartAfter.Seconds() {
			return nil
		}
		if command.Pause(ctx, 5*time.Millisecond); ctx.Err() != nil {
			return errors.Join(fmt.Errorf("kill: %s alone acknowledged %d updates with one copy and finished %d rounds: %w",
				a.Peer, a.Pushes, a.Rounds, ctx.Err()), errNoProgress)
		}
	}
}

var errNoProgress = errors.New("kill: the last peer does not go on")

// write prints it for people.
func (a *Alone) write(w *bytes.Buffer, peers int) {
	fmt.Fprintf(w, "\n%d of %d peers were killed at once after round %d; %s alone was left.\n", peers-1, peers, a.Before, a.Peer)
	fmt.Fprintf(w, "  It served the model of round %d, whole, %s after the kill: %.16s.\n", a.Round, figures.Seconds(a.Served), a.Model)
	fmt.Fprintf(w, "  It acknowledged its first update alone (the receipt says copies 1) after %s, and %d in %s.\n", figures.Seconds(a.Acked), a.Pushes, figures.Seconds(a.Lasted))
	fmt.Fprintf(w, "  It finished %d rounds alone.\n", a.Rounds)
	fmt.Fprintf(w, "  The others were started together and ready after %s; all %d served the same model, of round %d, after %s.\n",
		figures.Seconds(a.Returned), peers, a.AgreedOn, figures.Seconds(a.Agreed))
}
