package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// updates are those of a round, one from each combiner.
const updates = 8

// config says what to measure.
type config struct {
	params  []int64 // of each model
	rounds  int     // 0: as many as suit the model
	repeat  int
	seed    uint64
	wire    string
	quick   bool
	fedmesh string
	dir     string
	out     string
	json    bool
}

// How bytes are counted.
const (
	wireAuto       = "auto"
	wireNamespaces = "namespaces"
	wireSockets    = "sockets"
)

// parse reads the command line. Usage and errors go to w.
func parse(args []string, w io.Writer) (config, error) {
	var c config
	set := flag.NewFlagSet("overhead", flag.ContinueOnError)
	set.SetOutput(w)
	params := set.String("params", "10000,1000000,25000000", "float32 parameters of the models, with commas")
	set.IntVar(&c.rounds, "rounds", 0, "rounds of each run; 0: 100, 20 or 2, fewer the larger the model")
	set.IntVar(&c.repeat, "repeat", 3, "how often each run is made; medians count")
	set.Uint64Var(&c.seed, "seed", 1, "seed of the models")
	set.StringVar(&c.wire, "wire", wireAuto, "how bytes are counted: namespaces (their interfaces; Linux and root), sockets (reckoned from what processes wrote), or auto")
	set.BoolVar(&c.quick, "quick", false, "small models and few rounds, where no flag says otherwise: to see that it works")
	set.StringVar(&c.fedmesh, "fedmesh", "", "fedmesh binary; built from this repository when empty")
	set.StringVar(&c.dir, "dir", "", "where to make the folder for data; among the temporary files when empty")
	set.StringVar(&c.out, "out", "results", "folder for the table; not written when empty")
	set.BoolVar(&c.json, "json", false, "print everything measured as JSON instead of the table")
	if err := set.Parse(args); err != nil {
		return c, err
	}
	if set.NArg() > 0 {
		return c, fmt.Errorf("overhead: unexpected argument %q", set.Arg(0))
	}
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if c.quick {
		c.shorten(given, params)
	}
	for text := range strings.SplitSeq(*params, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
		if err != nil {
			return c, fmt.Errorf("overhead: --params: %q is no number", text)
		}
		c.params = append(c.params, n)
	}
	return c, c.validate()
}

func (c *config) shorten(given map[string]bool, params *string) {
	if !given["params"] {
		*params = "10000,200000"
	}
	if !given["rounds"] {
		c.rounds = 4
	}
	if !given["repeat"] {
		c.repeat = 1
	}
	if !given["out"] {
		c.out = ""
	}
}

func (c config) validate() error {
	var errs []error
	for _, n := range c.params {
		if n < 1 || n > 1<<30 {
			errs = append(errs, fmt.Errorf("overhead: --params has %d, want 1 to %d", n, 1<<30))
		}
	}
	if c.rounds < 0 || c.rounds > 10_000 {
		errs = append(errs, fmt.Errorf("overhead: --rounds is %d, want 0 to 10000", c.rounds))
	}
	if c.repeat < 1 || c.repeat > 100 {
		errs = append(errs, fmt.Errorf("overhead: --repeat is %d, want 1 to 100", c.repeat))
	}
	switch c.wire {
	case wireAuto, wireNamespaces, wireSockets:
	default:
		errs = append(errs, fmt.Errorf("overhead: --wire is %q, want auto, namespaces or sockets", c.wire))
	}
	return errors.Join(errs...)
}

// roundsOf is how many rounds a run with models of that size has.
func (c config) roundsOf(params int64) int {
	switch {
	case c.rounds > 0:
		return c.rounds
	case params <= 100_000:
		return 100
	case params <= 5_000_000:
		return 20
	}
	return 2
}
