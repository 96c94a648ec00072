package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

func newSession(a *app) *cobra.Command {
	return group("session", "Open, list, show and close training sessions",
		newSessionCreate(a), newSessionStrategies(a), newSessionList(a), newSessionShow(a), newSessionClose(a))
}

func newSessionCreate(a *app) *cobra.Command {
	var (
		client clientFlags
		open   sessionFlags
		seed   string
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "create NAME --seed FILE",
		Short: "Open a session with a seed model",
		Long: `Open a session. Its config and seed model are fixed from then on: the seed's
tensors are what every update must have. Opening the same session again is
answered like the first time; another config or seed under the same name is
refused. FILE "-" is standard input.

The strategy says how a round's updates become the next model; "fedmesh session
strategies" lists them. One that withstands malicious combiners needs a number of
honest ones: the minimum of combiners is raised to what it needs, and a target
below that is refused.`,
		Example: `  fedmesh session create digits --seed seed.safetensors --target-combiners 2
  fedmesh session create digits --seed seed.npz --strategy krum --set num_malicious_clients=1`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := open.config()
			if err != nil {
				return err
			}
			client.notes = a.notes()
			b, err := openBody(seed, a.in)
			if err != nil {
				return err
			}
			defer b.close()
			var (
				info    api.SessionInfo
				created bool
			)
			err = client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
				info, created, err = c.CreateSession(ctx, args[0], cfg, a.watched("seed", b.open))
				return err
			})
			if err != nil {
				return err
			}
			verb := "opened"
			if !created {
				verb = "already open:"
			}
			return a.result(asJSON, info, fmt.Sprintf("%s %s, key %s, seed %s\n", verb, info.Name, short(info.Key), short(info.Seed)))
		},
	}
	client.register(cmd, 5)
	fs := cmd.Flags()
	fs.StringVar(&seed, "seed", "", "the model to start from, a safetensors or npz `file` (required)")
	open.register(fs)
	jsonFlag(cmd, &asJSON)
	a.quietFlag(cmd)
	required(cmd, "seed")
	return cmd
}

func newSessionList(a *app) *cobra.Command {
	var (
		client clientFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the sessions",
		Example: `  fedmesh session list
  fedmesh session list --json | jq -r '.[] | select(.state == "open") | .name'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var infos []api.SessionInfo
			err := client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
				infos, err = c.Sessions(ctx)
				return err
			})
			if err != nil {
				return err
			}
			return a.result(asJSON, infos, showSessions(infos, a.width()))
		},
	}
	client.register(cmd, 2)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func showSessions(infos []api.SessionInfo, limit int) string {
	if len(infos) == 0 {
		return "no sessions\n"
	}
	var t table
	t.row("SESSION", "KEY", "STATE", "ROUND", "MODEL", "OF ROUND", "STRATEGY")
	for _, s := range infos {
		t.row(s.Name, short(s.Key), s.State, number(s.Round), short(s.Model), number(s.ModelRound), s.Config.Strategy)
	}
	return t.render(limit)
}

// shown is what `fedmesh session show --json` prints.
type shown struct {
	Session api.SessionInfo `json:"session"`
	Rounds  []api.RoundInfo `json:"rounds"`
}

func newSessionShow(a *app) *cobra.Command {
	var (
		client clientFlags
		rounds int
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "show SESSION",
		Short: "Show a session and its last rounds",
		Long: `Show what a session was opened with, its members, how far it is, and its last
rounds. SESSION is a name or a key. For more of the rounds see fedmesh rounds.`,
		Example: `  fedmesh session show digits
  fedmesh session show digits --rounds 0`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if rounds < 0 || rounds > 1000 {
				return usagef("--rounds is %d; it must be 0 to 1000", rounds)
			}
			var s *shown
			err := client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
				s, err = fetchSession(ctx, c, args[0], rounds)
				return err
			})
			if err != nil {
				return err
			}
			return a.result(asJSON, s, showSession(*s, a.width()))
		},
	}
	client.register(cmd, 2)
	cmd.Flags().IntVar(&rounds, "rounds", 10, "how many of the last rounds to show")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// fetchSession asks for a session and its last rounds.
func fetchSession(ctx context.Context, c *api.Client, session string, rounds int) (*shown, error) {
	s := shown{Rounds: []api.RoundInfo{}}
	var err error
	if s.Session, err = c.Session(ctx, session); err != nil || rounds == 0 {
		return &s, err
	}
	// By its key: the name may come to mean another.
	s.Rounds, err = c.Rounds(ctx, s.Session.Key, 0, rounds)
	return &s, err
}

func showSession(s shown, limit int) string {
	info := s.Session
	var params strings.Builder
	for _, k := range sortedKeys(info.Config.Params) {
		fmt.Fprintf(&params, " %s=%s", k, info.Config.Params[k])
	}
	target := "by time only"
	if info.Config.TargetCombiners > 0 {
		target = fmt.Sprintf("at %d combiners", info.Config.TargetCombiners)
	}
	var head table
	head.row("session", info.Name)
	head.row("key", info.Key)
	head.row("state", fmt.Sprintf("%s, round %d", info.State, info.Round))
	head.row("model", fmt.Sprintf("%s of round %d", info.Model, info.ModelRound))
	head.row("seed", info.Seed)
	head.row("strategy", info.Config.Strategy+params.String())
	head.row("rounds", fmt.Sprintf("close %s or after %v with at least %d", target, info.Config.RoundTimeout, info.Config.MinCombiners))
	head.row("copies", fmt.Sprintf("%d, settle within %v, lost after %v", info.Config.Copies, info.Config.SettleTimeout, info.Config.LostAfter))
	head.row("members", strings.Join(info.Members, " "))
	if p := info.Privacy; p != nil {
		head.row("privacy", fmt.Sprintf("epsilon %.3g at delta %g, after %d models with noise %g", p.Epsilon, p.Delta, p.Published, p.NoiseMultiplier))
	}
	if len(info.Clash) > 0 {
		head.row("clash", fmt.Sprintf("%d other sessions have this name; use the key: %s", len(info.Clash), strings.Join(info.Clash, " ")))
	}
	out := head.render(0)
	if len(s.Rounds) == 0 {
		return out
	}
	return out + "\n" + showRounds(s.Rounds, limit)
}

func newSessionClose(a *app) *cobra.Command {
	var (
		client clientFlags
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "close SESSION",
		Short: "Close a session",
		Long: `Close a session. What is acknowledged still goes into its last round; nothing is
accepted after. Its models stay available.`,
		Example: `  fedmesh session close digits`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var info api.SessionInfo
			err := client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
				info, err = c.CloseSession(ctx, args[0])
				return err
			})
			if err != nil {
				return err
			}
			return a.result(asJSON, info, fmt.Sprintf("%s is %s, round %d\n", info.Name, info.State, info.Round))
		},
	}
	client.register(cmd, 5)
	jsonFlag(cmd, &asJSON)
	return cmd
}
