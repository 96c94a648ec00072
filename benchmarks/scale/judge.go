package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fedmesh/fedmesh/benchmarks/verify"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// checkPatience is how long all peers may take to agree on sessions that are
// closed, all of them together.
const checkPatience = 5 * time.Minute

// Verdict is what became of the updates of sessions, and of their models.
type Verdict struct {
	Sessions     int      `json:"sessions"`
	Acknowledged int      `json:"acknowledged"`
	Counted      int      `json:"counted"`
	Extra        int      `json:"unacknowledged"` // counted though nobody got a receipt
	Lost         int      `json:"lost"`
	Doubled      int      `json:"doubled"`
	Altered      int      `json:"altered"`
	Divergent    int      `json:"divergent_rounds"`
	Disagree     int      `json:"sessions_not_agreed"`
	Rounds       int      `json:"rounds"`  // with updates in them
	Means        int      `json:"means"`   // models that are bit for bit the mean
	Wrong        int      `json:"wrong"`   // and that are not
	Unknown      int      `json:"unknown"` // and that could not be had again
	Failed       int      `json:"combiners_failed"`
	Retried      int      `json:"pushes_retried"`
	Faults       []string `json:"faults,omitempty"`
}

// add adds what was found of others.
func (v *Verdict) add(w Verdict) {
	v.Sessions += w.Sessions
	v.Acknowledged += w.Acknowledged
	v.Counted += w.Counted
	v.Extra += w.Extra
	v.Lost += w.Lost
	v.Doubled += w.Doubled
	v.Altered += w.Altered
	v.Divergent += w.Divergent
	v.Disagree += w.Disagree
	v.Rounds += w.Rounds
	v.Means += w.Means
	v.Wrong += w.Wrong
	v.Unknown += w.Unknown
	v.Failed += w.Failed
	v.Retried += w.Retried
	v.Faults = append(v.Faults, w.Faults...)
}

// bad reports whether anything is wrong that must never be.
func (v Verdict) bad() bool {
	return v.Lost+v.Doubled+v.Altered+v.Divergent+v.Disagree+v.Wrong+v.Failed > 0 || v.Counted != v.Acknowledged
}

// fault keeps the first few things that are wrong.
func (v *Verdict) fault(err error) {
	const most = 20
	if err != nil && len(v.Faults) < most {
		v.Faults = append(v.Faults, err.Error())
	}
}

// judge closes sessions, takes every peer's listing of their rounds, compares them
// with the receipts, and computes every model again.
func (s *system) judge(ctx context.Context, sessions []*session, told func(done int)) (Verdict, error) {
	const atOnce = 4
	verdicts := make([]Verdict, len(sessions))
	done := make(chan struct{}, len(sessions))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i, x := range sessions {
		g.Go(func() (err error) {
			verdicts[i], err = x.judge(gctx)
			done <- struct{}{}
			told(len(done))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Verdict{}, err
	}
	var all Verdict
	for _, v := range verdicts {
		all.add(v)
	}
	return all, nil
}

// judge judges one session.
func (s *session) judge(ctx context.Context) (Verdict, error) {
	client, err := s.sys.client(s.first)
	if err != nil {
		return Verdict{}, err
	}
	defer client.Close()
	closing, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	if _, err := client.CloseSession(closing, s.key); err != nil {
		return Verdict{}, fmt.Errorf("%s: %w", s.name, err)
	}
	said, err := process.Check(ctx, process.CheckOptions{
		Session: s.key, Peers: s.sys.cluster.Peers(), Receipts: s.receipts, Timeout: checkPatience,
	})
	if err != nil {
		return Verdict{}, fmt.Errorf("%s: %w", s.name, err)
	}
	c, err := verify.New(s.load, s.combiners, 1, verify.Puller(client, s.key))
	if err != nil {
		return Verdict{}, err
	}
	var rounds []api.RoundInfo
	for _, view := range said.Views {
		if view.Err == nil && len(view.Rounds) > len(rounds) {
			rounds = view.Rounds
		}
	}
	if err := c.Take(ctx, closedOnly(rounds)); err != nil {
		return Verdict{}, fmt.Errorf("%s: %w", s.name, err)
	}
	return s.conclude(said, c.Means()), nil
}

// closedOnly leaves out the round that is open.
func closedOnly(rounds []api.RoundInfo) (out []api.RoundInfo) {
	for _, r := range rounds {
		if r.State != api.RoundOpen {
			out = append(out, r)
		}
	}
	return out
}

// conclude puts together what was found.
func (s *session) conclude(said process.Verdict, means verify.Means) Verdict {
	v := Verdict{
		Sessions: 1, Acknowledged: said.Acknowledged, Counted: said.Counted, Extra: said.Extra,
		Lost: len(said.Lost), Doubled: len(said.Doubled), Altered: len(said.Altered), Divergent: len(said.Divergent),
		Means: means.Checked, Wrong: len(means.Wrong), Unknown: len(means.Unknown), Failed: len(s.errs), Retried: s.retried,
	}
	if !said.Agreed {
		v.Disagree = 1
	}
	for _, view := range said.Views {
		n := 0
		for _, r := range view.Rounds {
			if len(r.Updates) > 0 {
				n++
			}
		}
		v.Rounds = max(v.Rounds, n)
	}
	if err := said.Err(); err != nil {
		v.fault(fmt.Errorf("%s: %w", s.name, err))
	}
	if len(means.Wrong) > 0 {
		v.fault(fmt.Errorf("%s: the models of rounds %v are not the mean", s.name, means.Wrong))
	}
	if len(means.Unknown) > 0 {
		v.fault(fmt.Errorf("%s: the models of rounds %v could not be computed again", s.name, means.Unknown))
	}
	v.fault(errors.Join(s.errs...))
	return v
}
