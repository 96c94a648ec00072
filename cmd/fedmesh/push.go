package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/model"
)

func newPush(a *app) *cobra.Command {
	var (
		client  clientFlags
		opts    api.PushOptions
		metrics []string
		asJSON  bool
	)
	cmd := &cobra.Command{
		Use:   "push SESSION FILE",
		Short: "Push a combiner's partial aggregate",
		Long: `Push a combiner's partial aggregate, a model in safetensors or npz format, with
the number of examples it stands for. FILE "-" is standard input.

The base and the id are settled before the first attempt and sent with each, so
an update counts once however many peers were tried. Pushed again with the same
base and id it is found to be there. When the peer that acknowledged dies,
nothing is to be done: others hold the update.

Metrics are averaged over a round's updates, weighted by their examples; fedmesh
rounds shows them.

An update of 16 MiB or more that is interrupted goes on where it was, at the
same peer or, when that has died, at the one that it was streaming to. At most
4 MiB are sent twice.`,
		Example: `  fedmesh push digits update.npz --combiner c1 --weight 600
  fedmesh push digits update.npz --combiner c1 --weight 600 --metric loss=0.3 --metric accuracy=0.9
  python train.py | fedmesh push digits - --combiner c1 --weight 600 --base $DIGEST`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if opts.Weight < 1 || opts.Weight > api.MaxWeight {
				return hint(usagef("--weight is %d; it must be 1 to %d", opts.Weight, int64(api.MaxWeight)),
					"give the number of examples that the combiner's clients trained on; see fedmesh push --help")
			}
			var err error
			if opts.Metrics, err = parseMetrics(metrics); err != nil {
				return err
			}
			client.notes = a.notes()
			b, err := openBody(args[1], a.in)
			if err != nil {
				return err
			}
			defer b.close()
			var r api.Receipt
			err = client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
				if opts, err = c.Settle(ctx, args[0], opts); err != nil {
					return err
				}
				r, err = c.Push(ctx, args[0], opts, a.watched("push", b.open))
				return err
			})
			if err != nil {
				return repeatable(traceable(err, opts), opts)
			}
			verb := "pushed"
			if r.Duplicate {
				verb = "already there:"
			}
			return a.result(asJSON, r, fmt.Sprintf("%s %s/%s %s, base %s of round %d, held by %s\n",
				verb, r.Session, r.Combiner, short(r.Digest), short(r.Base), r.BaseRound, strings.Join(r.Copies, ", ")))
		},
	}
	client.register(cmd, 5)
	fs := cmd.Flags()
	fs.StringVar(&opts.Combiner, "combiner", "", "the combiner's `name` (required)")
	fs.Int64Var(&opts.Weight, "weight", 0, "number of examples behind the update (required)")
	fs.StringVar(&opts.Base, "base", "latest", "`digest` of the model it was trained from, or latest")
	fs.StringVar(&opts.ID, "id", "", "the update's `id` within session and combiner (default made of the base)")
	fs.StringSliceVar(&metrics, "metric", nil, "a number reported with the update, `name=value`, as loss=0.3; repeatable")
	jsonFlag(cmd, &asJSON)
	a.quietFlag(cmd)
	required(cmd, "combiner", "weight")
	return cmd
}

// repeatable says how to push again after nobody answered. An attempt may have got through all
// the same, so base and id must be those of the first time: by the second, "latest" may be another.
func repeatable(err error, o api.PushOptions) error {
	if code := exitCode(&ranError{err}); code != exitUnavailable && code != exitTimeout || len(o.Base) != 2*len(model.Digest{}) {
		return err
	}
	flags := "--base " + o.Base
	if o.ID != "" {
		flags += " --id " + o.ID
	}
	return hint(err, "check that a peer is up and that --peers (or FEDMESH_PEERS) names it, then push again with %s: it counts once, even if this attempt got through", flags)
}

// traceable adds to an error what the peers' logs call the push.
func traceable(err error, o api.PushOptions) error {
	if o.Request == "" {
		return err
	}
	return fmt.Errorf("%w (request %s in the peers' logs)", err, o.Request)
}

// maxMetrics is how many metrics an update may have.
const maxMetrics = 64

// parseMetrics reads the values of --metric, and finds what a peer would refuse.
func parseMetrics(pairs []string) (map[string]float64, error) {
	if len(pairs) > maxMetrics {
		return nil, usagef("--metric is given %d times; an update has at most %d metrics", len(pairs), maxMetrics)
	}
	var out map[string]float64
	for _, pair := range pairs {
		name, text, ok := strings.Cut(pair, "=")
		name, text = strings.TrimSpace(name), strings.TrimSpace(text)
		if !ok {
			return nil, usagef("--metric %s has no value; write it as name=value", pair)
		}
		if err := api.CheckName("metric", name); err != nil {
			return nil, usagef("--metric %s: %w", pair, err)
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, usagef("--metric %s=%s is not a finite number", name, text)
		}
		if _, twice := out[name]; twice {
			return nil, usagef("--metric %s is given twice", name)
		}
		if out == nil {
			out = make(map[string]float64, len(pairs))
		}
		out[name] = v
	}
	return out, nil
}

// required marks flags that must be given, on the command line or in the environment.
func required(cmd *cobra.Command, names ...string) {
	for _, n := range names {
		if err := cmd.MarkFlagRequired(n); err != nil {
			panic(err) // a flag that is not there: a fault of this program
		}
	}
}
