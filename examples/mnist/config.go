package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/aggregate"
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

	Seed    uint64
	Kill    string
	Compare bool // run again without a kill and compare

	Strategy   string
	Strategies []string          // to be compared; empty: the one above
	Set        map[string]string // parameters of strategies
	Attack     string
	Attackers  float64 // their share of the combiners
	Scale      float64 // of the attack
	SVG        string  // where to draw the comparison

	Pace time.Duration // that a round lasts at least
	Hold bool          // leave the mesh running at the end

	Fedmesh string
	Dir     string
	Keep    bool
	JSON    bool

	Shape learn.Shape
	Hyper learn.Hyper
}

// parse reads the command line. Usage and errors go to w.
func parse(args []string, w io.Writer) (Config, error) {
	c := Config{
		Set:   settings{},
		Shape: learn.Shape{Inputs: digits.Pixels, Hidden: 64, Outputs: digits.Classes},
		Hyper: learn.DefaultHyper(),
	}
	set := flag.NewFlagSet("mnist", flag.ContinueOnError)
	set.SetOutput(w)
	set.IntVar(&c.Peers, "peers", 3, "number of peers, each a process of its own")
	set.IntVar(&c.Combiners, "combiners", 6, "number of combiners; with --attack 15 unless given")
	set.IntVar(&c.Clients, "clients", 4, "number of clients of each combiner")
	set.IntVar(&c.Rounds, "rounds", 20, "number of rounds")
	set.Uint64Var(&c.Seed, "seed", 1, "seed of the first model, the division of the data, the batches and the routes")
	set.StringVar(&c.Kill, "kill", killMiddle, "middle: kill a peer in the middle of the middle round and start it again two rounds later; none: do not, as with --strategies")
	set.BoolVar(&c.Compare, "compare", false, "run a second time without a kill and compare the models")
	set.StringVar(&c.Strategy, "strategy", "fedavg", "how updates become a model")
	several := set.String("strategies", "", "strategies to train one after the other on one mesh, separated by commas, or all; compares them")
	set.Var(settings(c.Set), "set", "a parameter of the strategy, key=value; repeatable; with --strategies of those that have it")
	set.StringVar(&c.Attack, "attack", attackNone, "what some combiners do to their updates: "+strings.Join(attacks(), ", ")+" or none")
	set.Float64Var(&c.Attackers, "attackers", 0.2, "share of the combiners that attack, rounded down")
	set.Float64Var(&c.Scale, "attack-scale", 10, "how many times as long as an honest step an attacker's is")
	set.StringVar(&c.SVG, "svg", "", "with --strategies: draw accuracy over rounds into this `file`")
	set.DurationVar(&c.Pace, "pace", 0, "let each round last at least so long, to watch it in the dashboard")
	set.BoolVar(&c.Hold, "hold", false, "leave the mesh running at the end until this is interrupted")
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
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	c.fill(*several, given)
	return c, c.validate()
}

// fill chooses what the command line leaves open.
func (c *Config) fill(several string, given map[string]bool) {
	switch several {
	case "":
	case "all":
		for _, i := range aggregate.Strategies() {
			c.Strategies = append(c.Strategies, i.Name)
		}
	default:
		c.Strategies = strings.Split(several, ",")
	}
	if c.Attack != attackNone && !given["combiners"] {
		c.Combiners = 15 // with three attackers: all strategies withstand so many
	}
	if c.compares() && !given["kill"] {
		c.Kill = killNone
	}
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
	if c.Pace < 0 {
		errs = append(errs, fmt.Errorf("mnist: --pace is %v, want 0 or more", c.Pace))
	}
	if c.Hold && (c.compares() || c.Compare) {
		errs = append(errs, errors.New("mnist: --hold is for one run; leave --compare and --strategies away"))
	}
	switch c.Kill {
	case killNone:
	case killMiddle:
		if c.Peers < 2 || c.Combiners < 2 || c.Rounds < 6 {
			errs = append(errs, errors.New("mnist: --kill middle needs 2 peers, 2 combiners and 6 rounds at least; use --kill none"))
		}
	default:
		errs = append(errs, fmt.Errorf("mnist: --kill is %q, want %s or %s", c.Kill, killMiddle, killNone))
	}
	if c.compares() && (c.Kill != killNone || c.Compare) {
		errs = append(errs, errors.New("mnist: --strategies compares strategies in peace: leave --kill and --compare away"))
	}
	if c.SVG != "" && !c.compares() {
		errs = append(errs, errors.New("mnist: --svg draws what --strategies compares"))
	}
	if c.Attack != attackNone {
		if !slices.Contains(attacks(), c.Attack) {
			errs = append(errs, fmt.Errorf("mnist: --attack is %q, want %s or %s", c.Attack, strings.Join(attacks(), ", "), attackNone))
		}
		if !(c.Attackers > 0 && c.Attackers <= 1) || c.attackers() == 0 {
			errs = append(errs, fmt.Errorf("mnist: --attackers is %v of %d combiners, want a share that is at least one of them", c.Attackers, c.Combiners))
		}
		if !(c.Scale > 0 && c.Scale <= 1e6) {
			errs = append(errs, fmt.Errorf("mnist: --attack-scale is %v, want more than 0, at most 1e6", c.Scale))
		}
	}
	return errors.Join(append(errs, c.checkTrials())...)
}
