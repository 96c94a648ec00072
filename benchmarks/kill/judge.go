package main

import (
	"context"
	"maps"
	"slices"

	"github.com/fedmesh/fedmesh/benchmarks/verify"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// judge closes the session, takes every process's listing of its rounds, and
// compares them with what the combiners were told.
func (t *trial) judge(ctx context.Context, c *verify.Checker) (*Result, error) {
	r := &Result{
		System: t.system.name, Peers: t.system.peers, Finished: t.watch.finished, Kills: t.watch.kills, Skipped: t.skipped,
		CalmUntil: t.calmUntil, Calm: t.watch.calm, Cuts: t.cuts, KeptModels: t.system.keeps,
		Pushes: t.work.pushes, Usage: t.used, InTime: t.inTime, Alone: t.alone, GaveUp: t.work.gaveUp,
	}
	for i := range r.SideGaps {
		if t.lan != nil {
			r.SideGaps[i] = gap(t.watch.sides[i].finished, t.calmUntil, lastOf(r.Finished))
		}
	}
	if err := countCuts(r.Cuts, r.Pushes, t.config.combiners); err != nil {
		return nil, err
	}
	for _, p := range r.Pushes {
		r.Seconds = max(r.Seconds, p.Acked)
	}
	if !r.InTime {
		r.Seconds = max(r.Seconds, t.config.timeLimit.Seconds())
	}
	client, err := api.NewClient(t.cluster.URLs(), api.ClientOptions{DialContext: t.judgeDial()})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	closing, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	if _, err := client.CloseSession(closing, t.session); err != nil {
		return nil, err
	}
	verdict, err := process.Check(ctx, process.CheckOptions{
		Session: t.session, Peers: t.cluster.Peers(), Receipts: t.work.receipts, Timeout: checkPatience, Dial: t.judgeDial(),
	})
	if err != nil {
		return nil, err
	}
	t.conclude(r, verdict)
	for _, v := range verdict.Views {
		if v.Err == nil && uint64(len(v.Rounds)) >= c.Next()-1 {
			err = c.Take(ctx, v.Rounds[c.Next()-1:])
			break
		}
	}
	r.Means = c.Means()
	return r, err
}

// conclude fills in what was found.
func (t *trial) conclude(r *Result, verdict process.Verdict) {
	r.take(verdict)
	r.Bytes = int64(r.Acknowledged) * t.load.Layout.Size()
	for _, v := range verdict.Views {
		t.watch.final(v.Rounds)
	}
	r.Changed = slices.AppendSeq([]uint64{}, maps.Keys(t.watch.changed))
	slices.Sort(r.Changed)
}
