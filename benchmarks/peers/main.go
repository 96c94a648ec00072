package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/fedmesh/fedmesh/benchmarks/load"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
	"github.com/fedmesh/fedmesh/model"
)

// workers is how many goroutines compute the mean that is expected.
const workers = 2

// maxError is how far FEDn's and Flower's means may lie from the exact one. The
// values are some tenths at most; this is to see that they were given the same
// arrays, not to judge them.
const maxError = 1e-6

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
	c.dir, err = os.MkdirTemp(c.dir, "fedmesh-peers-")
	if err != nil {
		return fmt.Errorf("peers: %w", err)
	}
	defer func() {
		// The peer's data and log are worth a look when it failed; the rest is large.
		mesh := filepath.Join(c.dir, "mesh")
		if _, serr := os.Stat(mesh); err != nil && ctx.Err() == nil && serr == nil {
			fmt.Fprintln(stderr, "the peer's data and log are in "+mesh)
			err = errors.Join(err, os.RemoveAll(filepath.Join(c.dir, "theirs")))
			return
		}
		err = errors.Join(err, os.RemoveAll(c.dir))
	}()
	if c.dir, err = filepath.Abs(c.dir); err != nil {
		return fmt.Errorf("peers: %w", err)
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
	if err := measureTimes(ctx, c, r, show); err != nil {
		return err
	}
	if !c.withoutMemory {
		if r.Memory, err = measureMemory(ctx, c, show); err != nil {
			return err
		}
	}
	r.LoadAfter = loadAverage()
	show("")
	if err := write(c, r, stdout); err != nil {
		return err
	}
	if c.check {
		return r.Check()
	}
	return nil
}

// describe fills in all that is known before anything was measured.
func describe(ctx context.Context, c config, args []string) (*Report, error) {
	version, err := exec.CommandContext(ctx, c.fedmesh, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("peers: %s version: %w", c.fedmesh, err)
	}
	r := &Report{
		Command:  strings.Join(append([]string{"go run ./peers"}, shown(args)...), " "),
		Versions: map[string]string{"fedmesh": strings.TrimPrefix(strings.TrimSpace(string(version)), "fedmesh "), "go": runtime.Version()},
		Platform: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(), LoadBefore: loadAverage(),
		Params: c.params, Combiners: c.combiners, Seed: c.seed, Quick: c.quick,
	}
	r.CPU, r.RAM = machine()
	return r, nil
}

// shown are the arguments without the names of folders, which say nothing to
// others.
func shown(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		name, value, has := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		switch name {
		case "fedmesh", "dir", "venv", "python", "out":
			if !has && i+1 < len(args) {
				i++
				value = args[i]
			}
			if name == "fedmesh" || name == "python" {
				out = append(out, "--"+name+" "+filepath.Base(value))
			}
		default:
			out = append(out, args[i])
		}
	}
	return out
}

// build compiles fedmesh from the repository that this belongs to.
func build(ctx context.Context, dir string) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/fedmesh/fedmesh").Output()
	if err != nil {
		return "", fmt.Errorf("peers: find the repository (give --fedmesh, or run this in benchmarks): %w", err)
	}
	return process.Build(ctx, strings.TrimSpace(string(root)), dir)
}

// measureTimes fills in the runs: in each repeat everything once, each time with
// another one first.
func measureTimes(ctx context.Context, c config, r *Report, show func(string, ...any)) error {
	var t *theirs
	var err error
	if !c.withoutPython {
		if t, err = newTheirs(ctx, c, filepath.Join(c.dir, "theirs"), show); err != nil {
			return err
		}
		versions, err := t.versions(ctx)
		if err != nil {
			return err
		}
		maps.Copy(r.Versions, versions)
	}
	show("making %d models ...", c.combiners+1)
	l, err := load.New(ctx, load.Options{Params: c.params, Updates: c.combiners, Seed: c.seed})
	if err != nil {
		return err
	}
	r.Bytes = l.Bytes()
	_, want, err := l.Sum(ctx, workers)
	if err != nil {
		return err
	}
	r.Model = want.String()
	if t != nil {
		if err := enough(c.dir, 5*r.Bytes, "without-python"); err != nil {
			return err
		}
		show("writing FEDn's model files ...")
		if err := t.prepare(ctx, l); err != nil {
			return err
		}
	}
	tasks := r.tasks(c, l, want, t)
	for i := range c.repeat {
		for k := range tasks {
			task := tasks[(i+k)%len(tasks)]
			show("repeat %d of %d: %s ...", i+1, c.repeat, task.name)
			runtime.GC() // not while a clock runs
			if err := task.run(ctx, i+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// task measures one thing and adds it to the report.
type task struct {
	name string
	run  func(ctx context.Context, repeat int) error
}

func (r *Report) tasks(c config, l *load.Load, want model.Digest, t *theirs) []task {
	mesh := func(what, fsync string) task {
		j := job{fsync: fsync, seed: api.Bytes(l.Seed), weights: l.Weights, want: want}
		for _, u := range l.Updates {
			j.updates = append(j.updates, api.Bytes(u))
		}
		return task{"fedmesh --fsync " + fsync, func(ctx context.Context, repeat int) error {
			o, err := fedmesh(ctx, c, j)
			if err == nil {
				r.add(repeat, what, o.seconds, o.peak)
			}
			return err
		}}
	}
	never, auto := mesh(meshNever, "never"), mesh(meshAuto, "auto")
	if t == nil {
		return []task{never, auto}
	}
	fedn := task{"FEDn", func(ctx context.Context, repeat int) error {
		x, err := t.fedn(ctx)
		if err != nil {
			return err
		}
		r.add(repeat, fednReduce, x.Reduce, x.Peak)
		r.add(repeat, fednCommit, x.Reduce+x.Commit, x.Peak)
		r.add(repeat, fednStored, x.ReduceStored, 0)
		r.add(repeat, fednCombine, x.Combine, 0)
		return r.differs("fedn", x.Error)
	}}
	flower := task{"Flower", func(ctx context.Context, repeat int) error {
		x, err := t.flower(ctx)
		if err != nil {
			return err
		}
		r.add(repeat, flowerFirst, x.First, x.Peak)
		r.add(repeat, flowerAgain, x.Again, x.Peak)
		return r.differs("flwr", x.Error)
	}}
	return []task{never, fedn, auto, flower}
}

// differs notes how far somebody's mean is from the exact one, and fails when
// that cannot be rounding.
func (r *Report) differs(whose string, e float64) error {
	if !(e <= maxError) {
		return fmt.Errorf("peers: the mean of %s differs by %g from that of the same arrays: theirs.py does not fit this version, see requirements.txt", whose, e)
	}
	if r.Errors == nil {
		r.Errors = map[string]float64{}
	}
	r.Errors[whose] = max(r.Errors[whose], e)
	return nil
}

func write(c config, r *Report, stdout io.Writer) error {
	if c.out != "" {
		if err := os.MkdirAll(c.out, 0o755); err != nil {
			return fmt.Errorf("peers: %w", err)
		}
		var text strings.Builder
		if err := r.WriteText(&text); err != nil {
			return err
		}
		name := filepath.Join(c.out, "peers")
		if err := os.WriteFile(name+".txt", []byte(text.String()), 0o644); err != nil {
			return fmt.Errorf("peers: %w", err)
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
