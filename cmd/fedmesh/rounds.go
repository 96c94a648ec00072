package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func newRounds(a *app) *cobra.Command {
	var (
		client clientFlags
		round  uint64
		last   int
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "rounds SESSION",
		Short: "List a session's rounds, or show one",
		Long: `List the last rounds of a session: how far each is, what is in it, the means of
the metrics that were reported, weighted by examples, and BY whom its model was computed.
A peer that computed another model than the rest is marked (!). With --round, show
one round with all its updates and who holds them.`,
		Example: `  fedmesh rounds digits
  fedmesh rounds digits --round 12
  fedmesh rounds digits --last 100 --json | jq '.[] | [.round, .metrics.loss]'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if last < 1 || last > 1000 {
				return usagef("--last is %d; it must be 1 to 1000", last)
			}
			if cmd.Flags().Changed("round") {
				return a.oneRound(cmd, &client, args[0], round, asJSON)
			}
			rounds := []api.RoundInfo{}
			err := client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
				rounds, err = c.Rounds(ctx, args[0], 0, last)
				return err
			})
			if err != nil {
				return err
			}
			return a.result(asJSON, rounds, showRounds(rounds, a.width()))
		},
	}
	client.register(cmd, 2)
	cmd.Flags().Uint64Var(&round, "round", 0, "show this `round` alone, in full")
	cmd.Flags().IntVar(&last, "last", 20, "how many of the last rounds to list")
	jsonFlag(cmd, &asJSON)
	cmd.MarkFlagsMutuallyExclusive("round", "last")
	return cmd
}

func (a *app) oneRound(cmd *cobra.Command, client *clientFlags, session string, n uint64, asJSON bool) error {
	if n == 0 {
		return usagef("--round is 0; the first round is 1, and the seed stands before it: fedmesh pull %s --round 0", session)
	}
	var r api.RoundInfo
	err := client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
		r, err = c.Round(ctx, session, n)
		return err
	})
	if err != nil {
		return err
	}
	return a.result(asJSON, r, showRound(r, a.width()))
}

// showRounds is a table of rounds.
func showRounds(rounds []api.RoundInfo, limit int) string {
	var t table
	t.row("ROUND", "STATE", "UPDATES", "WEIGHT", "MODEL", "METRICS", "BY", "WAITS FOR")
	for _, r := range rounds {
		t.row(number(r.Round), r.State, strconv.Itoa(len(r.Updates)), strconv.FormatInt(r.Weight, 10), short(r.Model),
			dash(showMetrics(r.Metrics)), dash(computedBy(r)), dash(strings.Join(r.WaitingFor, " ")))
	}
	return t.render(limit)
}

// computedBy names the peers that computed a round, those with another model than the answering peer's marked.
func computedBy(r api.RoundInfo) string {
	by := make([]string, 0, len(r.Computed))
	for _, p := range sortedKeys(r.Computed) {
		if r.Computed[p] != r.Model {
			p += "(!)"
		}
		by = append(by, p)
	}
	return strings.Join(by, " ")
}

// showMetrics writes metrics on one line, by name.
func showMetrics(m map[string]float64) string {
	parts := make([]string, 0, len(m))
	for _, k := range sortedKeys(m) {
		parts = append(parts, k+"="+strconv.FormatFloat(m[k], 'g', 4, 64))
	}
	return strings.Join(parts, " ")
}

// showRound is one round in full.
func showRound(r api.RoundInfo, limit int) string {
	var head table
	head.row("round", fmt.Sprintf("%d, %s", r.Round, r.State))
	head.row("model", dash(r.Model))
	head.row("inputs", dash(r.Inputs))
	head.row("updates", fmt.Sprintf("%d, of %d examples", len(r.Updates), r.Weight))
	head.row("metrics", dash(showMetrics(r.Metrics)))
	head.row("computed by", dash(computedBy(r)))
	if d := divergence(r); d != "" {
		head.row("DIVERGENCE", d)
	}
	head.row("waiting for", dash(strings.Join(r.WaitingFor, " ")))
	for _, l := range r.Lost {
		head.row("lost", l.Combiner+"/"+l.ID)
	}
	if r.Compacted {
		head.row("compacted", "who held and computed what is not kept any more")
	}
	out := head.render(0)
	if len(r.Updates) == 0 {
		return out
	}
	var t table
	t.row("COMBINER", "ID", "WEIGHT", "DIGEST", "BASE", "OF ROUND", "HELD BY")
	for _, u := range r.Updates {
		t.row(u.Combiner, u.ID, strconv.FormatInt(u.Weight, 10), short(u.Digest), short(u.Base), number(u.BaseRound), dash(strings.Join(u.Copies, " ")))
	}
	return out + "\n" + t.render(limit)
}

// divergence tells which peers computed which models where these are not all the same; the same inputs must give the same model.
func divergence(r api.RoundInfo) string {
	by := map[string][]string{}
	for _, p := range sortedKeys(r.Computed) {
		by[r.Computed[p]] = append(by[r.Computed[p]], p)
	}
	switch {
	case len(by) < 2 && r.Divergent:
		return "two peers disagreed"
	case len(by) < 2:
		return ""
	}
	var parts []string
	for _, m := range sortedKeys(by) {
		parts = append(parts, strings.Join(by[m], " ")+" have "+short(m))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
