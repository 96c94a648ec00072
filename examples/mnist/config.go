package main

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"github.com/fedmesh/fedmesh/examples/mnist/digits"
	"github.com/fedmesh/fedmesh/examples/mnist/learn"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// The values of --kill.
const (
	killMiddle = "middle"
	killNone   = "none"
)

// alpha is the concentration of the Dirichlet distribution that spreads each
// digit over the clients.
const alpha = 0.5

// Config says what to run.
type Config struct {
	Peers, Combiners, Clients, Rounds int

	Seed     uint64
	Kill     string
	Strategy string
	Compare  bool // run again without a kill and compare
	Fedmesh  string
	Dir      string
	Keep     bool
	JSON     bool

	Shape learn.Shape
	Hyper learn.Hyper
}

// parse reads the command line. Usage and errors go to w.
func parse(args []string, w io.Writer) (Config, error) {
	c := Config{
		Shape: learn.Shape{Inputs: digits.Pixels, Hidden: 64, Outputs: digits.Classes},
		Hyper: learn.DefaultHyper(),
	}
	set := flag.NewFlagSet("mnist", flag.ContinueOnError)
	set.SetOutput(w)
	set.IntVar(&c.Peers, "peers", 3, "number of peers, each a process of its own")
	set.IntVar(&c.Combiners, "combiners", 6, "number of combiners")
	set.IntVar(&c.Clients, "clients", 4, "number of clients of each combiner")
	set.IntVar(&c.Rounds, "rounds", 20, "number of rounds")
	set.Uint64Var(&c.Seed, "seed", 1, "seed of the first model, the division of the data, the batches and the routes")
	set.StringVar(&c.Kill, "kill", killMiddle, "middle: kill a peer in the middle of the middle round and start it again two rounds later; none: do not")
	set.BoolVar(&c.Compare, "compare", false, "run a second time without a kill and compare the models")
	set.StringVar(&c.Strategy, "strategy", "fedavg", "the session's strategy")
	set.StringVar(&c.Fedmesh, "fedmesh", "", "fedmesh binary; built from this repository when empty")
	set.StringVar(&c.Dir, "dir", "", "where to make the folder for data and logs; among the temporary files when empty")
	set.BoolVar(&c.Keep, "keep", false, "keep the folder; it is kept anyway when something goes wrong")
	set.BoolVar(&c.JSON, "json", false, "print the result as JSON on standard output, all else on standard error")
	if err := set.Parse(args); err != nil {
		return c, err
	}
	if set.NArg() > 0 {
		return c, fmt.Errorf("mnist: unexpected argument %q", set.Arg(0))
	}
	return c, c.validate()
}

func (c Config) validate() error {
	var errs []error
	atMost := func(name string, value, high int) {
		if value < 1 || value > high {
			errs = append(errs, fmt.Errorf("mnist: --%s is %d, want 1 to %d", name, value, high))
		}
	}
	atMost("peers", c.Peers, process.MaxNodes)
	atMost("combiners", c.Combiners, 1000)
	atMost("clients", c.Clients, 1000)
	atMost("rounds", c.Rounds, 10_000)
	switch c.Kill {
	case killNone:
	case killMiddle:
		if c.Peers < 2 || c.Combiners < 2 || c.Rounds < 6 {
			errs = append(errs, errors.New("mnist: --kill middle needs 2 peers, 2 combiners and 6 rounds at least; use --kill none"))
		}
	default:
		errs = append(errs, fmt.Errorf("mnist: --kill is %q, want %s or %s", c.Kill, killMiddle, killNone))
	}
	return errors.Join(errs...)
}
