package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is what a command needs from the process around it.
type app struct {
	in       io.Reader
	out, err io.Writer
	terminal bool // err is a terminal: progress bars are welcome
	lookup   func(name string) (string, bool)

	completeWithin time.Duration // how long a completion may ask the mesh; 0: as long as suits who waits

	quiet    bool      // --quiet: only errors, and what was asked for as JSON
	settings *settings // of the command that runs
	progress progress
}

// run executes one command line and returns its exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := newRoot(a)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.report(ctx, cmd, err)
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "fedmesh",
		Short: "Equal peers that agree on federated models, to the bit",
		Long: `fedmesh aggregates federated learning without a single reducer: equal peers
accept partial aggregates, and all of them compute the same global model.

Every flag can be given in the environment: --data-dir is FEDMESH_DATA_DIR. A
flag wins over the environment, the environment over the default; fedmesh node
takes them from a file, too. fedmesh help exit-codes and fedmesh help output say
what scripts may rely on.`,
		Args:          noSuchCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.AddCommand(
		newNode(a),
		newSession(a),
		newPush(a),
		newPull(a),
		newRounds(a),
		newStatus(a),
		newMembers(a),
		newWatch(a),
		newModel(a),
		newLeave(a),
		newForget(a),
		newFedn(a),
		newKeygen(a),
		newKeys(a),
		newToken(a),
		newHealth(a),
		newVersion(a),
		newExitCodes(),
		newOutputTopic(),
	)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		a.settings = settle(cmd, a.lookup)
		cmd.SetContext(withLookup(cmd.Context(), a.lookup))
		if check := cmd.Flags().Lookup(checkFlag); check != nil && check.Value.String() == "true" {
			return nil // it reports the faults with those it finds
		}
		return errors.Join(a.settings.faults...)
	}
	root.SetFlagErrorFunc(noSuchFlag)
	a.completions(root)
	prepare(root)
	return root
}

// noSuchCommand refuses a word where a command of the group was meant, and names the nearest.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var known []string
	for _, c := range cmd.Commands() {
		known = append(known, c.Name())
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), didYouMean(args[0], known))
}

// noSuchFlag adds the nearest flag to the error about one that is not there.
func noSuchFlag(cmd *cobra.Command, err error) error {
	if missing, ok := errors.AsType[*pflag.NotExistError](err); ok {
		var known []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
		return fmt.Errorf("%w%s", err, didYouMean("--"+missing.GetSpecifiedName(), known))
	}
	return err
}

// prepare names each flag's variable in its help, and marks the errors of
// commands that ran, so that what is left is known to be wrong usage.
func prepare(cmd *cobra.Command) {
	describeEnvironment(cmd)
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := run(cmd, args); err != nil {
				return &ranError{err}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		prepare(c)
	}
}

// group makes a command that only holds others. Without one of them it shows
// its help, and a word it does not know is wrong usage.
func group(use, short string, cmds ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  noSuchCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(cmds...)
	return cmd
}
