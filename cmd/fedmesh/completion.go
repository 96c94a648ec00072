package main

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// completeWithin is how long a completion may take to ask the mesh: who has pressed tab waits.
const completeWithin = time.Second

// A completer gives what may stand where the cursor is.
type completer = func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective)

// completions sets what the shells offer for each command's arguments and flags. Where nothing is said shells offer files.
func (a *app) completions(root *cobra.Command) {
	session := a.asked(sessionNames)
	peer := a.asked(peerNames)
	model := only(nil, cobra.ShellCompDirectiveFilterFileExt, "npz", "safetensors")
	word := func(words ...string) completer { return only(words, cobra.ShellCompDirectiveNoFileComp) }
	nothing := word()

	arguments := map[string][]completer{
		"push": {session, model}, "pull": {session}, "rounds": {session}, "watch": {session}, "session show": {session}, "session close": {session},
		"model inspect": {model, nil}, "model diff": {model, model}, "model convert": {model, model},
		"forget": {peer, nil}, "session strategies": {word(strategyNames()...), nil},
	}
	flags := map[string]completer{
		"strategy": word(strategyNames()...), "set": completeParam, "format": word("npz", "safetensors"), "seed": model, "output": model,
		"peers": a.asked(peerURLs), "join": nothing, "fsync": word("auto", "always", "never"), "log-format": word("console", "json"),
		"log-level": word("debug", "info", "warn", "error"), "tls-client-auth": word("none", "request", "require"),
		"config": only(nil, cobra.ShellCompDirectiveFilterFileExt, "yaml", "yml"), "data-dir": only(nil, cobra.ShellCompDirectiveFilterDirs),
		"digest": a.asked(modelDigests), "base": a.asked(modelDigests), "after": a.asked(modelDigests), "round": a.asked(roundNumbers),
	}
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			visit(c)
		}
		path := strings.TrimPrefix(cmd.CommandPath(), root.Name()+" ")
		if at, ok := arguments[path]; ok {
			cmd.ValidArgsFunction = positional(at)
		} else if cmd.ValidArgsFunction == nil && cmd.Runnable() && cmd.Args != nil && cmd.Args(cmd, []string{"a"}) != nil {
			cmd.ValidArgsFunction = nothing // it takes none
		}
		for _, name := range sortedKeys(flags) {
			if _, has := cmd.GetFlagCompletionFunc(name); has || cmd.Flags().Lookup(name) == nil {
				continue
			}
			if err := cmd.RegisterFlagCompletionFunc(name, flags[name]); err != nil {
				panic(err) // a flag that is not there: a fault of this program
			}
		}
	}
	visit(root)
}

// positional completes each argument in its own way; a nil stands for any number more of the first.
func positional(at []completer) completer {
	repeated := len(at) == 2 && at[1] == nil
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		i := len(args)
		switch {
		case repeated:
			found, directive := at[0](cmd, args, begun)
			if directive != cobra.ShellCompDirectiveFilterFileExt {
				found = slices.DeleteFunc(found, func(c string) bool { return slices.Contains(args, name(c)) })
			}
			return found, directive
		case i < len(at):
			return at[i](cmd, args, begun)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// name is a completion without its description.
func name(c cobra.Completion) string {
	s, _, _ := strings.Cut(c, "\t")
	return s
}

// only offers fixed words.
func only(words []string, directive cobra.ShellCompDirective, more ...string) completer {
	words = append(words, more...)
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return words, directive
	}
}

// asked offers what a mesh answers in time, or nothing. Flags and environment say which peers, as when the command runs.
func (a *app) asked(fn func(ctx context.Context, c *api.Client, args []string) ([]cobra.Completion, error)) completer {
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if cmd.Flags().Lookup("peers") == nil || len(settle(cmd, a.lookup).faults) > 0 {
			return nil, none
		}
		parent := cmd.Context()
		if parent == nil {
			parent = context.Background()
		}
		within := cmp.Or(a.completeWithin, completeWithin)
		ctx, cancel := context.WithTimeout(withLookup(parent, a.lookup), within)
		defer cancel()
		was := cmd.Context()
		cmd.SetContext(ctx)
		defer cmd.SetContext(was) //nolint:staticcheck // it may be nil, as it was
		var found []cobra.Completion
		client := clientOf(cmd)
		client.tries, client.timeout = 1, within
		err := client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
			found, err = fn(ctx, c, args)
			return err
		})
		if err != nil {
			cobra.CompDebugln(err.Error(), false)
			return nil, none
		}
		return slices.DeleteFunc(found, func(c string) bool { return !strings.HasPrefix(c, begun) }), none
	}
}

// clientOf gives the client flags that a command was given.
func clientOf(cmd *cobra.Command) *clientFlags {
	var (
		f    clientFlags
		like cobra.Command
	)
	f.register(&like, 1)
	like.Flags().VisitAll(func(to *pflag.Flag) {
		from := cmd.Flags().Lookup(to.Name)
		if from == nil || !from.Changed {
			return
		}
		if many, ok := to.Value.(pflag.SliceValue); ok {
			if given, ok := from.Value.(pflag.SliceValue); ok {
				_ = many.Replace(given.GetSlice()) // of the same type
			}
			return
		}
		_ = to.Value.Set(from.Value.String()) // of the same type
	})
	return &f
}

func sessionNames(ctx context.Context, c *api.Client, _ []string) ([]cobra.Completion, error) {
	infos, err := c.Sessions(ctx)
	var out []cobra.Completion
	for _, s := range infos {
		out = append(out, cobra.CompletionWithDesc(s.Name, s.State+", round "+number(s.Round)))
	}
	return out, err
}

func peerNames(ctx context.Context, c *api.Client, _ []string) ([]cobra.Completion, error) {
	m, err := c.Mesh(ctx)
	var out []cobra.Completion
	for _, p := range m.Peers {
		if p.State == api.PeerDead || p.State == api.PeerForgetting { // others cannot be forgotten
			out = append(out, cobra.CompletionWithDesc(p.Name, p.State))
		}
	}
	return out, err
}

func peerURLs(ctx context.Context, c *api.Client, _ []string) ([]cobra.Completion, error) {
	m, err := c.Mesh(ctx)
	var out []cobra.Completion
	for _, p := range m.Peers {
		if p.State == api.PeerAlive && p.API != "" {
			out = append(out, cobra.CompletionWithDesc(p.API, p.Name))
		}
	}
	return out, err
}

// lastRounds are those of the session that is the first argument.
func lastRounds(ctx context.Context, c *api.Client, args []string) ([]api.RoundInfo, error) {
	if len(args) == 0 {
		return nil, nil
	}
	return c.Rounds(ctx, args[0], 0, 20)
}

func roundNumbers(ctx context.Context, c *api.Client, args []string) ([]cobra.Completion, error) {
	rounds, err := lastRounds(ctx, c, args)
	var out []cobra.Completion
	for _, r := range slices.Backward(rounds) {
		out = append(out, cobra.CompletionWithDesc(number(r.Round), r.State+", "+strconv.Itoa(len(r.Updates))+" updates"))
	}
	return out, err
}

func modelDigests(ctx context.Context, c *api.Client, args []string) ([]cobra.Completion, error) {
	rounds, err := lastRounds(ctx, c, args)
	var out []cobra.Completion
	for _, r := range slices.Backward(rounds) {
		if r.Model != "" {
			out = append(out, cobra.CompletionWithDesc(r.Model, "round "+number(r.Round)))
		}
	}
	return out, err
}

func strategyNames() []string {
	var out []string
	for _, s := range aggregate.Strategies() {
		out = append(out, cobra.CompletionWithDesc(s.Name, s.Summary))
	}
	return out
}

// completeParam offers the parameters of the strategy that --strategy names, and after the name their default.
func completeParam(cmd *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	strategy := ""
	if f := cmd.Flags().Lookup("strategy"); f != nil {
		strategy = f.Value.String()
	}
	var out []cobra.Completion
	key, _, valued := strings.Cut(begun, "=")
	for _, s := range aggregate.Strategies() {
		if s.Name != strategy {
			continue
		}
		for _, p := range s.Params {
			switch {
			case valued && p.Name == key:
				out = append(out, cobra.CompletionWithDesc(p.Name+"="+p.Default, p.Values))
			case !valued:
				out = append(out, cobra.CompletionWithDesc(p.Name+"=", p.Summary))
			}
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
