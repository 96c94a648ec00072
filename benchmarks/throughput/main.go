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
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/benchmarks/report"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// workers is how many goroutines a peer computes a round with.
const workers = 2

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout io.Writer, stderr *os.File) (err error) {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	show := func(format string, args ...any) {}
	if term.IsTerminal(int(stderr.Fd())) {
		show = func(format string, args ...any) { fmt.Fprintf(stderr, "\r\x1b[K"+format, args...) }
	}
	defer show("")
	c.dir, err = os.MkdirTemp(c.dir, "fedmesh-throughput-")
	if err != nil {
		return fmt.Errorf("throughput: %w", err)
	}
	defer func() {
		if err != nil && ctx.Err() == nil && !errors.Is(err, errMemory) {
			fmt.Fprintln(stderr, "the peers' data and logs are in "+c.dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(c.dir))
	}()
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return fmt.Errorf("throughput: %w", err)
	}
	if c.fedmesh == "" {
		show("building fedmesh ...")
		if c.fedmesh, err = build(ctx, c.dir); err != nil {
			return err
		}
	}
	r, err := describe(ctx, c, args)
	if err != nil {
		return err
	}
	show("making %d models ...", c.combiners+1)
	l, err := load.New(ctx, load.Options{Params: c.params, Updates: c.combiners, Seed: c.seed})
	if err != nil {
		return err
	}
	r.Bytes = l.Bytes()
	for i := range c.repeat {
		for _, n := range c.peers {
			show("repeat %d of %d, %d peers ...", i+1, c.repeat, n)
			x, digest, err := measure(ctx, c, l, n)
			if err != nil {
				return err
			}
			x.Repeat = i + 1
			r.Runs, r.Model = append(r.Runs, x), digest.String()
		}
	}
	show("")
	if err := write(c, r, stdout); err != nil {
		return err
	}
	return checkMemory(c, r)
}

// describe fills in all that is known before anything was measured.
func describe(ctx context.Context, c config, args []string) (*report.Report, error) {
	version, err := exec.CommandContext(ctx, c.fedmesh, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("throughput: %s version: %w", c.fedmesh, err)
	}
	r := &report.Report{
		Command: strings.Join(append([]string{"go run ./throughput"}, args...), " "),
		Fedmesh: strings.TrimSpace(string(version)), Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Cores: runtime.NumCPU(), Params: c.params, Combiners: c.combiners, Workers: workers, Seed: c.seed, Fsync: c.fsync,
	}
	r.CPU, r.LoadAvg = machine()
	return r, nil
}

// build compiles fedmesh from the repository that this belongs to.
func build(ctx context.Context, dir string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/fedmesh/fedmesh").Output()
	if err != nil {
		return "", fmt.Errorf("throughput: find the repository (give --fedmesh, or run this in benchmarks): %w", err)
	}
	return process.Build(ctx, strings.TrimSpace(string(root)), dir)
}

func write(c config, r *report.Report, stdout io.Writer) error {
	if c.out != "" {
		if err := os.MkdirAll(c.out, 0o755); err != nil {
			return fmt.Errorf("throughput: %w", err)
		}
		var text strings.Builder
		if err := r.WriteText(&text); err != nil {
			return err
		}
		name := filepath.Join(c.out, "throughput")
		if err := os.WriteFile(name+".txt", []byte(text.String()), 0o644); err != nil {
			return fmt.Errorf("throughput: %w", err)
		}
		if err := r.SavePicture(name+".png", name+".svg"); err != nil {
			return err
		}
	}
	if !c.json {
		return r.WriteText(stdout)
	}
	enc := json.NewEncoder(stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

var errMemory = errors.New("throughput: --max-memory")

// checkMemory fails when a peer took more memory than it may.
func checkMemory(c config, r *report.Report) error {
	if c.maxMemory == 0 {
		return nil
	}
	for _, n := range r.Sizes() {
		switch peak := r.Peak(n); {
		case peak == 0:
			return fmt.Errorf("%w: not known on this platform", errMemory)
		case peak > c.maxMemory*1_000_000:
			return fmt.Errorf("%w: a peer of %d had %d MB resident, more than %d", errMemory, n, peak/1_000_000, c.maxMemory)
		}
	}
	return nil
}
