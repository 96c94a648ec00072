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
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/fedmesh/fedmesh/examples/mnist/digits"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

type config struct {
	fedmesh, interpreter, venv, dir string
	seed64                          uint64
	json, overhead                  bool
	params, clients                 int    // of the overhead
	dtypes                          string // to carry; none: the trial
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) (err error) {
	_, source, _, _ := runtime.Caller(0)
	here := filepath.Dir(source)
	var c config
	fs := flag.NewFlagSet("fedn", flag.ContinueOnError)
	fs.StringVar(&c.fedmesh, "fedmesh", "", "a fedmesh `binary`; built when not given")
	fs.StringVar(&c.interpreter, "python", "python3", "the `interpreter` that makes the virtual environment, 3.9 to 3.12")
	fs.StringVar(&c.venv, "venv", filepath.Join(here, ".venv"), "`folder` of the virtual environment")
	fs.StringVar(&c.dir, "dir", "", "an empty `folder` for data, models and logs; a temporary one when not given")
	fs.Uint64Var(&c.seed64, "seed", 1, "of how the images are handed out")
	fs.BoolVar(&c.json, "json", false, "print JSON in place of the tables")
	fs.BoolVar(&c.overhead, "overhead", false, "compare a gateway with FEDn's own function service instead")
	fs.IntVar(&c.params, "params", 25_000_000, "with --overhead or --dtype: parameters of a model")
	fs.IntVar(&c.clients, "clients", 10, "with --overhead: clients of the combiner, 2 or more")
	fs.StringVar(&c.dtypes, "dtype", "", "send models of these `dtypes` through a gateway instead, of float16, float32, float64 and int64, and look at every value of the mean")
	if err := fs.Parse(args); err != nil {
		return err
	}
	say := progress()
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "fedmesh-fedn-"); err != nil {
			return fmt.Errorf("fedn: %w", err)
		}
		defer func() {
			if err == nil {
				err = os.RemoveAll(c.dir)
			} else {
				fmt.Fprintln(os.Stderr, "logs are in", c.dir)
			}
		}()
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	for _, path := range []*string{&c.venv, &c.dir, &c.fedmesh} {
		if *path != "" {
			if *path, err = filepath.Abs(*path); err != nil {
				return fmt.Errorf("fedn: %w", err)
			}
		}
	}
	if c.fedmesh == "" {
		say("building fedmesh ...")
		if c.fedmesh, err = process.Build(ctx, filepath.Join(here, "../.."), c.dir); err != nil {
			return err
		}
	}
	python, err := environment(ctx, c.interpreter, c.venv, filepath.Join(here, "python"), say)
	if err != nil {
		return err
	}
	if c.dtypes != "" {
		return c.carry(ctx, python, say)
	}
	if c.overhead {
		return c.compare(ctx, python, say)
	}
	data, err := digits.Find(ctx, filepath.Join(here, "../mnist"))
	if err != nil {
		return err
	}
	train, test, err := digits.Load(data)
	if err != nil {
		return err
	}
	r := report{FEDn: version(), Seed: c.seed64}
	for _, part := range []struct {
		name string
		run  func(*scene) error
	}{
		{"mesh", func(s *scene) (err error) { r.Mesh, err = s.meshed(ctx); return err }},
		{"stock", func(s *scene) (err error) { r.Stock, err = s.stock(ctx); return err }},
	} {
		s := &scene{config: c, dir: filepath.Join(c.dir, part.name), python: python, test: test, say: say}
		if err := s.prepare(train); err != nil {
			return err
		}
		if err := errors.Join(part.run(s), s.close()); err != nil {
			return err
		}
	}
	say("")
	r.times()
	if c.json {
		err = json.NewEncoder(os.Stdout).Encode(r)
	} else {
		err = r.write(os.Stdout)
	}
	if faults := r.faults(); len(faults) > 0 {
		err = errors.Join(err, fmt.Errorf("fedn: %s", strings.Join(faults, "; ")))
	}
	return err
}

// compare measures a gateway beside FEDn's own function service.
func (c config) compare(ctx context.Context, python interpreter, say func(string, ...any)) error {
	if c.params < 1 || c.clients < 2 {
		return fmt.Errorf("fedn: --params is %d and --clients %d; give 1 and 2 at least", c.params, c.clients)
	}
	s := &scene{config: c, dir: c.dir, python: python, say: say}
	o, err := s.overhead(ctx, c.params, c.clients)
	if err = errors.Join(err, s.close()); err != nil {
		return err
	}
	say("")
	if c.json {
		return json.NewEncoder(os.Stdout).Encode(o)
	}
	return o.write(os.Stdout)
}

// prepare writes the clients' data and the seed.
func (s *scene) prepare(train *digits.Set) (err error) {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("fedn: %w", err)
	}
	s.seed = filepath.Join(s.dir, "seed.npz")
	if err := writeSeed(s.seed); err != nil {
		return err
	}
	s.data, err = writeData(s.dir, train, s.seed64)
	return err
}

// version is FEDn's, as required.
func version() string {
	for line := range strings.Lines(string(requirements)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "fedn=="); ok {
			return v
		}
	}
	return "?"
}

// progress shows on a terminal what is going on; on a pipe nothing.
func progress() func(string, ...any) {
	if !term.IsTerminal(int(os.Stderr.Fd())) {
		return func(string, ...any) {}
	}
	var w io.Writer = os.Stderr
	return func(format string, args ...any) { fmt.Fprintf(w, "\r\x1b[K"+format, args...) }
}
