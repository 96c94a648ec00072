package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/benchmarks/proc"
	"github.com/fedmesh/fedmesh/benchmarks/wire"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func execute(ctx context.Context, args []string, stdout io.Writer, stderr *os.File) (err error) {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	show := command.Progress(stderr)
	if c.dir, err = command.Folder(c.dir, "overhead"); err != nil {
		return err
	}
	defer func() {
		show("")
		if err != nil && ctx.Err() == nil {
			fmt.Fprintln(stderr, "the peers' data and logs are in "+c.dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(c.dir))
	}()
	r, err := measure(ctx, c, args, show)
	if ctx.Err() != nil {
		return errors.New("overhead: interrupted; what was started has been stopped")
	}
	if err != nil {
		return err
	}
	show("")
	return write(c, r, stdout)
}

// measure makes all runs.
func measure(ctx context.Context, c config, args []string, show func(string, ...any)) (*Report, error) {
	r := &Report{
		Command: command.Line("overhead", args),
		Go:      runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), Repeat: c.repeat, Wire: c.wire,
	}
	r.CPU, r.LoadAvg = proc.Machine()
	missing := wire.Check()
	switch {
	case c.wire == wireNamespaces && missing != nil:
		return nil, missing
	case c.wire == wireAuto && missing != nil:
		r.Wire = wireSockets
	case c.wire == wireAuto:
		r.Wire = wireNamespaces
	}
	show("building fedmesh ...")
	binary, err := command.Fedmesh(ctx, c.fedmesh, c.dir)
	if err != nil {
		return nil, err
	}
	r.Fedmesh = command.Version(ctx, binary)
	for _, params := range c.params {
		s, err := measureSize(ctx, c, binary, params, r.Wire == wireNamespaces, show)
		if err != nil {
			return nil, err
		}
		r.Sizes = append(r.Sizes, s)
	}
	return r, nil
}

// measureSize makes the runs with models of one size, the shapes in turn.
func measureSize(ctx context.Context, c config, binary string, params int64, onWire bool, show func(string, ...any)) (Size, error) {
	l, err := load.New(ctx, load.Options{Params: params, Updates: updates, Seed: c.seed})
	if err != nil {
		return Size{}, err
	}
	s := Size{Params: params, Bytes: l.Layout.Size(), Rounds: c.roundsOf(params)}
	for n := range c.repeat {
		for i, sh := range shapes {
			cost := &s.Costs[i]
			cost.Peers, cost.Copies, cost.Bound = sh.peers, sh.copies, sh.bound()
			show("%s, %d of %d: %d peers ...", size(s.Bytes), n+1, c.repeat, sh.peers)
			r, err := run(ctx, c, binary, l, sh, s.Rounds, false)
			if err != nil {
				return s, err
			}
			cost.OnLoopback = append(cost.OnLoopback, r)
			if !onWire {
				continue
			}
			// Bytes vary little, and the packets go through this process: fewer rounds do.
			show("%s, %d of %d: %d peers, counting bytes ...", size(s.Bytes), n+1, c.repeat, sh.peers)
			if r, err = run(ctx, c, binary, l, sh, max(1, s.Rounds/4), true); err != nil {
				return s, err
			}
			cost.OnWire = append(cost.OnWire, r)
		}
	}
	for i := range s.Costs {
		s.Costs[i].conclude(s.Bytes)
	}
	return s, nil
}

// write prints what was measured and leaves it in the folder for results.
func write(c config, r *Report, stdout io.Writer) error {
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		return err
	}
	whole, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("overhead: %w", err)
	}
	if c.out != "" {
		err := command.Save(c.out, map[string][]byte{"overhead.txt": []byte(text.String()), "overhead.json": append(bytes.Clone(whole), '\n')})
		if err != nil {
			return err
		}
	}
	if c.json {
		_, err = fmt.Fprintln(stdout, string(whole))
	} else {
		_, err = io.WriteString(stdout, text.String())
	}
	return err
}
