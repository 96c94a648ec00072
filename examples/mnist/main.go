package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/fedmesh/fedmesh/examples/mnist/digits"
	"github.com/fedmesh/fedmesh/examples/mnist/learn"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := realMain(ctx, os.Args[1:])
	stop()
	switch {
	case err == nil:
	case errors.Is(err, flag.ErrHelp):
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func realMain(ctx context.Context, args []string) (err error) {
	c, err := parse(args, os.Stderr)
	if err != nil {
		return err
	}
	out := io.Writer(os.Stdout)
	if c.JSON {
		out = os.Stderr
	}
	live := newLive(out, c.Combiners)
	dir, clean, err := workDir(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clean(err != nil && ctx.Err() == nil)) }()
	if c.Fedmesh == "" {
		live.set("building fedmesh ...")
		if c.Fedmesh, err = build(ctx, dir); err != nil {
			return err
		}
	}
	live.set("reading the data ...")
	d, err := load(ctx, c)
	live.set("")
	if err != nil {
		return err
	}
	live.line(fmt.Sprintf("%d peers, %d combiners with %d clients each, %d parameters, seed %d",
		c.Peers, c.Combiners, c.Clients, c.Shape.Params(), c.Seed))
	if n := c.attackers(); n > 0 {
		live.line(fmt.Sprintf("%d of the combiners attack: %s, %v times an honest step", n, c.Attack, c.Scale))
	}
	if c.compares() {
		return show(ctx, c, d, dir, live, out, compare)
	}
	return show(ctx, c, d, dir, live, out, runAll)
}

// outcome is a Result or a Comparison.
type outcome interface {
	write(io.Writer) error
	good() bool
}

// show does the work and says what came out.
func show[T outcome](ctx context.Context, c Config, d data, dir string, live *live, out io.Writer,
	work func(context.Context, Config, data, string, *live) (T, error),
) error {
	result, err := work(ctx, c, d, dir, live)
	if err != nil {
		return err
	}
	if err := result.write(out); err != nil {
		return err
	}
	if c.JSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(result); err != nil {
			return fmt.Errorf("mnist: %w", err)
		}
	}
	if !result.good() {
		return errors.New("mnist: the verdict is bad")
	}
	return nil
}

// runAll runs once, and once more without a kill where that is asked for.
func runAll(ctx context.Context, c Config, d data, dir string, live *live) (Result, error) {
	if c.trials()[0].Strategy != "fedavg" {
		live.line("strategy " + c.trials()[0].String())
	}
	result, err := run(ctx, c, d, dir, live)
	if err != nil {
		return result, err
	}
	if c.Compare && c.Kill != killNone {
		live.line("the same without a kill:")
		c.Kill = killNone
		undisturbed, err := run(ctx, c, d, dir, live)
		if err != nil {
			return result, err
		}
		undisturbed.OK = undisturbed.Err() == nil
		result.Undisturbed = &undisturbed
	}
	result.OK = result.Err() == nil
	return result, nil
}

func load(ctx context.Context, c Config) (data, error) {
	dir, err := digits.Find(ctx, ".")
	if err != nil {
		return data{}, fmt.Errorf("%w (run this in its own folder, examples/mnist)", err)
	}
	train, test, err := digits.Load(dir)
	if err != nil {
		return data{}, err
	}
	clients, err := learn.Split(train, c.Combiners*c.Clients, alpha, c.Seed)
	return data{train: train, test: test, clients: clients}, err
}

// build compiles fedmesh from the repository that this example belongs to.
func build(ctx context.Context, dir string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/fedmesh/fedmesh").Output()
	if err != nil {
		return "", fmt.Errorf("mnist: find the repository (give --fedmesh, or run this in examples/mnist): %w", err)
	}
	return process.Build(ctx, strings.TrimSpace(string(root)), dir)
}

// workDir makes a new folder for data and logs, in that of --dir if given. It is
// removed at the end unless it is to be kept or something went wrong.
func workDir(c Config) (dir string, clean func(failed bool) error, err error) {
	if c.Dir != "" {
		if err := os.MkdirAll(c.Dir, 0o755); err != nil {
			return "", nil, fmt.Errorf("mnist: %w", err)
		}
	}
	dir, err = os.MkdirTemp(c.Dir, "fedmesh-mnist-")
	if err != nil {
		return "", nil, fmt.Errorf("mnist: %w", err)
	}
	return dir, func(failed bool) error {
		if !c.Keep && !failed {
			return os.RemoveAll(dir)
		}
		_, err := fmt.Fprintln(os.Stderr, "data and logs are in "+dir)
		return err
	}, nil
}
