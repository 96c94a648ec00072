package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
)

// config says what to run.
type config struct {
	params    int64
	combiners int
	repeat    int
	many      int   // combiners of the memory case with many
	large     int64 // parameters of the memory case with large models
	seed      uint64
	check     bool
	quick     bool

	withoutPython bool
	withoutMemory bool
	python        string
	venv          string

	fedmesh string
	dir     string
	out     string
	json    bool
}

// few is how many combiners the other memory cases have.
const few = 4

// parse reads the command line. Usage and errors go to w.
func parse(args []string, w io.Writer) (config, error) {
	var c config
	set := flag.NewFlagSet("peers", flag.ContinueOnError)
	set.SetOutput(w)
	set.Int64Var(&c.params, "params", 25_000_000, "float32 parameters of a model")
	set.IntVar(&c.combiners, "combiners", 8, "number of models to aggregate; as many combiners push at once")
	set.IntVar(&c.repeat, "repeat", 5, "repeats of everything that is timed")
	set.IntVar(&c.many, "many", 64, "combiners of the memory measurement with many")
	set.Int64Var(&c.large, "large", 500_000_000, "parameters of the memory measurement with large models")
	set.Uint64Var(&c.seed, "seed", 1, "seed of the models' values")
	set.BoolVar(&c.check, "check", false, "fail when a target is missed")
	set.BoolVar(&c.quick, "quick", false, "everything small and once, to see that it works: the figures say nothing, and --out is empty unless given")
	set.BoolVar(&c.withoutPython, "without-python", false, "measure fedmesh only")
	set.BoolVar(&c.withoutMemory, "without-memory", false, "leave out the memory measurements, which take disk space")
	set.StringVar(&c.python, "python", "", "a Python `interpreter` that has peers/requirements.txt installed; when empty, one is set up in --venv from python3")
	set.StringVar(&c.venv, "venv", ".venv", "`folder` of the virtual environment to make, or made before")
	set.StringVar(&c.fedmesh, "fedmesh", "", "fedmesh binary; built from this repository when empty")
	set.StringVar(&c.dir, "dir", "", "where to make the folder for data; among the temporary files when empty")
	set.StringVar(&c.out, "out", "results", "folder for the table and the picture; not written when empty")
	set.BoolVar(&c.json, "json", false, "print everything measured as JSON instead of the table")
	if err := set.Parse(args); err != nil {
		return c, err
	}
	if set.NArg() > 0 {
		return c, fmt.Errorf("peers: unexpected argument %q", set.Arg(0))
	}
	if c.quick {
		given := map[string]bool{}
		set.Visit(func(f *flag.Flag) { given[f.Name] = true })
		shrink(&c.params, 40_000, given["params"])
		shrink(&c.combiners, 3, given["combiners"])
		shrink(&c.repeat, 1, given["repeat"])
		shrink(&c.many, 16, given["many"])
		shrink(&c.large, 20*c.params, given["large"])
		shrink(&c.out, "", given["out"])
	}
	return c, c.validate()
}

// shrink sets what was not given.
func shrink[T any](p *T, to T, given bool) {
	if !given {
		*p = to
	}
}

func (c config) validate() error {
	var errs []error
	atMost := func(name string, value, high int64) {
		if value < 1 || value > high {
			errs = append(errs, fmt.Errorf("peers: --%s is %d, want 1 to %d", name, value, high))
		}
	}
	atMost("params", c.params, 1<<31)
	atMost("large", c.large, 1<<33)
	atMost("combiners", int64(c.combiners), 1000)
	atMost("many", int64(c.many), 1000)
	atMost("repeat", int64(c.repeat), 1000)
	if c.check && (c.withoutPython || c.withoutMemory || c.quick) {
		errs = append(errs, errors.New("peers: --check needs everything measured: leave out --quick, --without-python and --without-memory"))
	}
	return errors.Join(errs...)
}

// memoryCases are the loads under which the peer's memory is measured.
func (c config) memoryCases() []memoryCase {
	return []memoryCase{{few, c.params}, {c.many, c.params}, {few, c.large}}
}

type memoryCase struct {
	combiners int
	params    int64
}
