package main

import (
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
)

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

var errInterrupted = errors.New("kill: interrupted; what was started has been stopped")

func run(ctx context.Context, args []string, stdout io.Writer, stderr *os.File) (err error) {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	show := command.Progress(stderr)
	c.dir, err = command.Folder(c.dir, "kill")
	if err != nil {
		return err
	}
	defer func() {
		show("")
		if c.keep || err != nil && ctx.Err() == nil {
			fmt.Fprintln(stderr, "the processes' data and logs are in "+c.dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(c.dir))
	}()
	r, err := measure(ctx, c, args, show)
	if ctx.Err() != nil {
		return errInterrupted
	}
	if err != nil {
		return err
	}
	show("")
	if err := write(c, r, stdout); err != nil {
		return err
	}
	if c.check {
		err = r.Limits.Broken("kill")
	}
	for _, x := range r.Systems {
		if x.Bad() {
			err = errors.Join(err, fmt.Errorf("kill: %s has failed: see the table", x.System))
		}
	}
	return err
}

// measure builds the systems and runs them, one after the other.
func measure(ctx context.Context, c config, args []string, show func(string, ...any)) (*Report, error) {
	var systems []system
	for _, name := range c.systems {
		show("building %s ...", name)
		s, err := systemOf(ctx, c, name, c.dir)
		if err != nil {
			return nil, err
		}
		systems = append(systems, s)
	}
	if err := fits(c, systems); err != nil {
		return nil, err
	}
	r := describe(ctx, c, args, systems)
	show("making %d models ...", c.combiners+1)
	l, err := load.New(ctx, load.Options{Params: c.params, Updates: c.combiners, Seed: c.seed})
	if err != nil {
		return nil, err
	}
	for _, s := range systems {
		runtime.GC() // not while it runs
		x, err := runTrial(ctx, c, s, l, show)
		if err != nil {
			return nil, fmt.Errorf("kill: %s: %w", s.name, err)
		}
		r.Systems = append(r.Systems, x)
	}
	r.judge()
	return r, nil
}

// fits refuses a long run whose models would fill the disk.
func fits(c config, systems []system) error {
	const most = 20e9 // bytes
	for _, s := range systems {
		rounds := float64(c.kills) * c.killEvery.Seconds() / (c.train.Seconds() + 0.1)
		if need := rounds * float64(4*c.params) * float64(s.peers); s.keeps == 0 && need > most {
			return fmt.Errorf("kill: about %.0f GB of models would pile up, since this %s is not told to keep few (--keep-models); take fewer --params", need/1e9, s.name)
		}
	}
	return nil
}

// describe fills in all that is known before anything was measured.
func describe(ctx context.Context, c config, args []string, systems []system) *Report {
	r := &Report{
		Command: command.Line("kill", args, "json", "keep"),
		Go:      runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(),
		Seed: c.seed, Kill: c.kill, Every: c.killEvery.Seconds(), Restart: c.restartAfter.Seconds(),
		Partition: c.partition, CutEvery: c.cutEvery.Seconds(), CutFor: c.cutFor.Seconds(), Kills: c.kills, Calm: c.calm,
		Combiners: c.combiners, Params: c.params, Target: c.rounds, Quick: c.quick,
	}
	r.CPU, r.LoadAvg = proc.Machine()
	for _, s := range systems {
		if s.name == sysMesh {
			r.Fedmesh = command.Version(ctx, s.binary)
		}
	}
	return r
}

// write prints what was measured and leaves it in the folder for results.
func write(c config, r *Report, stdout io.Writer) error {
	if c.out != "" {
		if err := r.save(c.out, c.name()); err != nil {
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

// save writes table and pictures. Those of the run that leaves one peer have
// names of their own.
func (r *Report) save(dir, name string) error {
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		return err
	}
	files := map[string][]byte{name + ".txt": []byte(text.String())}
	if r.Kill != killAllButOne {
		for what, picture := range r.pictures() {
			files[name+"-"+what+".svg"] = picture
		}
	}
	return command.Save(dir, files)
}
