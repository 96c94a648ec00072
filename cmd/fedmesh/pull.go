package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// pulled is what `fedmesh pull --json` prints.
type pulled struct {
	Session string `json:"session"`
	Round   uint64 `json:"round"`
	Digest  string `json:"digest"`
	Format  string `json:"format"`
	Bytes   int64  `json:"bytes"`
	File    string `json:"file"`
	Peer    string `json:"peer"`
}

func newPull(a *app) *cobra.Command {
	var (
		client      clientFlags
		opts        api.PullOptions
		out, format string
		round       uint64
		asJSON      bool
	)
	cmd := &cobra.Command{
		Use:   "pull SESSION -o FILE",
		Short: "Pull the global model",
		Long: `Pull a session's current model, or that of a round. The file appears under its
name only when it is complete. FILE "-" is standard output.

With --after, only a model newer than the given digest or round is pulled, and
--wait says how long to wait for one; when none comes the exit code is 3.`,
		Example: `  fedmesh pull digits -o model.npz
  fedmesh pull digits -o next.safetensors --after $DIGEST --wait 60s`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("round") {
				opts.Round = &round
			}
			if opts.Wait != 0 && opts.After == "" {
				return usagef("--wait goes with --after: say which model you have")
			}
			if out == "-" && asJSON {
				return usagef("--json and -o - both want standard output")
			}
			var err error
			if opts.Format, err = pullFormat(format, out); err != nil {
				return err
			}
			client.notes = a.notes()
			meter := meter{a: a, what: "pull"}
			if out != "-" {
				opts.Expect = meter.expect
			}
			defer meter.end()
			var info api.ModelInfo
			err = a.intoFile(out, &meter, func(w io.Writer) error {
				return client.call(cmd, func(ctx context.Context, c *api.Client) (err error) {
					info, err = c.Pull(ctx, args[0], opts, w)
					return err
				})
			})
			if errors.Is(err, api.ErrNotModified) {
				if !a.quiet {
					fmt.Fprintf(a.err, "fedmesh: nothing newer than %s in session %s\n", opts.After, args[0])
				}
				return quietError(exitNotFound)
			}
			if err != nil || out == "-" {
				return err
			}
			return a.result(asJSON,
				pulled{args[0], info.Round, info.Digest.String(), string(info.Format), info.Bytes, out, info.Peer},
				fmt.Sprintf("pulled %s round %d %s, %s, to %s\n", args[0], info.Round, info.Digest.Short(), size(info.Bytes), out))
		},
	}
	client.register(cmd, 5)
	fs := cmd.Flags()
	fs.StringVarP(&out, "output", "o", "", "`file` to write; - is standard output (required)")
	fs.StringVar(&format, "format", "", "safetensors or npz (default by the file's extension, else safetensors)")
	fs.Uint64Var(&round, "round", 0, "the model of this round instead of the current one; 0 is the seed")
	fs.StringVar(&opts.Digest, "digest", "", "the model with this `digest` instead of the current one")
	fs.StringVar(&opts.After, "after", "", "only a model newer than this `digest` or round")
	fs.DurationVar(&opts.Wait, "wait", 0*time.Second, "with --after: how long to wait for a newer model")
	jsonFlag(cmd, &asJSON)
	a.quietFlag(cmd)
	required(cmd, "output")
	cmd.MarkFlagsMutuallyExclusive("round", "digest", "after")
	return cmd
}

// intoFile lets fetch write to the named file, which appears when fetch is done, or to
// standard output.
func (a *app) intoFile(path string, meter io.Writer, fetch func(io.Writer) error) error {
	if path == "-" {
		return fetch(a.out)
	}
	o, err := createOutput(path)
	if err != nil {
		return err
	}
	defer o.discard()
	if err := fetch(io.MultiWriter(o, meter)); err != nil {
		return err
	}
	return o.commit()
}

func pullFormat(name, out string) (api.Format, error) {
	switch {
	case name == string(api.NPZ), name == "" && filepath.Ext(out) == ".npz":
		return api.NPZ, nil
	case name == string(api.Safetensors), name == "":
		return api.Safetensors, nil
	}
	return "", usagef("--format is %q; it must be safetensors or npz", name)
}
