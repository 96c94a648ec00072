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

func run(ctx context.Context, args []string, stdout io.Writer, stderr *os.File) (err error) {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if c.dir, err = command.Folder(c.dir, "scale"); err != nil {
		return err
	}
	show := command.Progress(stderr)
	defer func() {
		show("")
		if c.keep || err != nil && ctx.Err() == nil {
			fmt.Fprintln(stderr, "the peers' data and logs are in "+c.dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(c.dir))
	}()
	r, err := measure(ctx, c, args, show)
	if ctx.Err() != nil {
		return errors.New("scale: interrupted; what was started has been stopped")
	}
	if err != nil {
		return err
	}
	show("")
	if err := r.write(c, stdout); err != nil {
		return err
	}
	return r.fail(c.check)
}

// measure runs the claims, one after the other.
func measure(ctx context.Context, c config, args []string, show command.Show) (*Report, error) {
	show("building fedmesh ...")
	binary, err := command.Fedmesh(ctx, c.fedmesh, c.dir)
	if err != nil {
		return nil, err
	}
	r := &Report{
		Command: command.Line("scale", args, "json", "keep"), Fedmesh: command.Version(ctx, binary),
		Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU(),
		Seed: c.seed, Train: c.train.Seconds(), Quick: c.quick,
	}
	for _, claim := range c.claims() {
		runtime.GC() // not while it runs
		var err error
		r.CPU, r.LoadAvg = proc.Machine()
		switch claim {
		case claimSessions:
			r.Sessions, err = measureSessions(ctx, c, binary, show)
		case claimCombiners:
			r.Crowd, err = measureCrowd(ctx, c, binary, show)
		default:
			r.Peers, err = measurePeers(ctx, c, binary, show)
		}
		if err != nil {
			return nil, fmt.Errorf("scale: --%s: %w", claim, err)
		}
		r.Loads = append(r.Loads, r.LoadAvg)
	}
	r.judge()
	return r, nil
}

// write prints what was measured and leaves it in the folder for results.
func (r *Report) write(c config, stdout io.Writer) error {
	files := map[string][]byte{}
	var whole strings.Builder
	for i, claim := range c.claims() {
		var text strings.Builder
		if err := r.writeText(&text, claim, i); err != nil {
			return err
		}
		if i > 0 {
			whole.WriteString("\n")
		}
		whole.WriteString(text.String())
		files["scale-"+claim+".txt"] = []byte(text.String())
		files["scale-"+claim+".svg"] = r.picture(claim)
	}
	if c.out != "" {
		if err := command.Save(c.out, files); err != nil {
			return err
		}
	}
	if !c.json {
		_, err := io.WriteString(stdout, whole.String())
		return err
	}
	enc := json.NewEncoder(stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
