package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func newForget(a *app) *cobra.Command {
	var (
		client clientFlags
		asJSON bool
		wait   time.Duration
	)
	cmd := &cobra.Command{
		Use:   "forget NAME…",
		Short: "Wait no longer for dead peers that will not return",
		Long: `Go on without peers that are dead for good. A dead peer costs no progress, but
rounds cannot become final without its word, and until they are, everybody keeps
the bytes of their updates. All members that live must agree, which they do by
themselves, and they must be more than half of the members of every round that is
not final. Of two peers, or of four with two dead, none can be forgotten.

Name all that are dead for good at once: while one forgetting has not taken effect
no other can. A name that several logs have, because a peer lost its disk and came
back under it, means the dead one; the first 8 digits of a log's id (see members
--json) name it exactly. Nothing that was acknowledged is lost by forgetting. A
forgotten peer that returns after all joins again by itself.

To take a living peer out of the mesh use leave.`,
		Example: `  fedmesh forget c
  fedmesh forget c d --wait 2m`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			if wait < 0 {
				return usagef("--wait is %v; it must not be negative", wait)
			}
			var f api.Forgetting
			err := client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
				if f, err = c.Forget(ctx, names); err != nil {
					return err
				}
				f, err = a.awaitForgotten(ctx, c, f, wait)
				return err
			})
			if err != nil {
				return forgetHint(err)
			}
			return a.result(asJSON, f, fmt.Sprintf("forgotten: %s\n", strings.Join(f.Peers, ", ")))
		},
	}
	client.register(cmd, 2)
	jsonFlag(cmd, &asJSON)
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait until it has taken effect; the proposal stands in any case")
	return cmd
}

// awaitForgotten waits until a proposal has taken effect, and says who is awaited.
func (a *app) awaitForgotten(ctx context.Context, c *api.Client, f api.Forgetting, wait time.Duration) (api.Forgetting, error) {
	tell := func(f api.Forgetting) {
		if !f.Done && len(f.WaitingFor) > 0 {
			fmt.Fprintf(a.err, "proposed to forget %s; waiting for %s\n", strings.Join(f.Peers, ", "), strings.Join(f.WaitingFor, ", "))
		}
	}
	tell(f)
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	f, err := c.AwaitForgotten(waiting, f, tell)
	if err == nil || waiting.Err() == nil || ctx.Err() != nil {
		return f, err
	}
	who := "nobody has told who is waited for"
	if len(f.WaitingFor) > 0 {
		who = "waiting for " + strings.Join(f.WaitingFor, ", ")
	}
	return f, hint(&timeoutError{fmt.Errorf("not forgotten after %v: %s; %s", wait, strings.Join(f.Peers, ", "), who)},
		"the proposal stands and takes effect by itself once all have agreed: see that they run, and fedmesh members shows how far it is")
}

// forgetHint gives the next step where a refusal says what is wrong, but no problem of ours says what to do.
func forgetHint(err error) error {
	if _, hinted := errors.AsType[*hintError](err); hinted {
		return err
	}
	if p, ok := errors.AsType[*api.Problem](err); ok && p.Status < 500 {
		return hint(err, "fedmesh members shows who is alive, and fedmesh members --json the ids of the logs")
	}
	return err
}
