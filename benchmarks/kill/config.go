package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Systems, in the order they are run and shown.
const (
	sysMesh   = "mesh"
	sysRaft   = "raft"
	sysSingle = "single"
)

// What --kill may be.
const (
	killNone      = "none"
	killLeader    = "leader"
	killRandom    = "random"
	killAllButOne = "all-but-one"
)

// roundTimeout closes a round that not all combiners are in; the same for all
// systems.
const roundTimeout = 5 * time.Second

// keptModels is how many models stay in runs that make many.
const keptModels = 64

// config says what to run.
type config struct {
	peers     int
	combiners int
	params    int64
	rounds    int // after the calm ones; 0: the run ends otherwise
	kills     int // after so many kills; 0: the run ends otherwise
	calm      int // rounds before anybody is killed
	seed      uint64

	train        time.Duration // how long a combiner's step takes
	kill         string
	killEvery    time.Duration
	restartAfter time.Duration
	aim          int           // one kill of so many waits for a moment; 0: none
	timeLimit    time.Duration // of each system

	partition bool
	cuts      int // of the network; the run ends after so many
	cutEvery  time.Duration
	cutFor    time.Duration

	keepModels int // 0: all
	systems    []string
	quick      bool
	check      bool
	fedmesh    string
	dir        string
	out        string
	json       bool
	keep       bool
}

// name is that of the files with results.
func (c config) name() string {
	if c.partition {
		return "kill-partition"
	}
	return "kill-" + c.kill
}

// parse reads the command line. Usage and errors go to w.
func parse(args []string, w io.Writer) (config, error) {
	var c config
	set := flag.NewFlagSet("kill", flag.ContinueOnError)
	set.SetOutput(w)
	set.IntVar(&c.peers, "peers", 5, "processes of mesh and raft; single has one")
	set.IntVar(&c.combiners, "combiners", 8, "number of combiners")
	set.Int64Var(&c.params, "params", 1_000_000, "float32 parameters of a model")
	set.IntVar(&c.rounds, "rounds", 100, "rounds to finish while processes are killed")
	set.IntVar(&c.kills, "kills", 0, "end after so many kills instead of rounds, when all are back and agree")
	set.IntVar(&c.calm, "calm", 20, "rounds to finish before that without a kill, to compare with")
	set.Uint64Var(&c.seed, "seed", 1, "seed of the models, the kills and the combiners' routes")
	set.DurationVar(&c.train, "train", 500*time.Millisecond, "how long a combiner trains between pull and push, give or take a quarter")
	set.StringVar(&c.kill, "kill", killLeader, `whom to kill: leader (raft: its leader; mesh: the peer that was the first to serve the
newest model; single: the process), random, none, or all-but-one (mesh only: all but one at once, once)`)
	set.DurationVar(&c.killEvery, "kill-every", 2*time.Second, "time between kills, give or take a quarter")
	set.DurationVar(&c.restartAfter, "restart-after", 3*time.Second, "time from a kill to the start of the process")
	set.IntVar(&c.aim, "aim", 2, `with --kill random, one kill of so many waits, until the next is due, for some process to be at a moment that the
seed draws: it receives an update, has one that is not acknowledged, has sealed a round, and so on; 0: none`)
	set.BoolVar(&c.partition, "partition", false, `cut the network between three of five peers, or as near to that, and the others, instead of killing;
each side has half of the combiners (Linux and root only)`)
	set.IntVar(&c.cuts, "cuts", 5, "with --partition: end after so many cuts instead of rounds")
	set.DurationVar(&c.cutEvery, "cut-every", 10*time.Second, "time from the end of a cut, when all have one model, to the next, give or take a quarter")
	set.DurationVar(&c.cutFor, "cut-for", 20*time.Second, "how long a cut lasts")
	set.DurationVar(&c.timeLimit, "time-limit", 10*time.Minute, "each system's time to get to the end; then what it has counts. With --kills more, unless given")
	set.IntVar(&c.keepModels, "keep-models", 0, fmt.Sprintf("how many models each process keeps, where it can; 0: all. With --kills %d, unless given", keptModels))
	systems := set.String("systems", "", "which of mesh, raft and single; by default all that --kill allows")
	set.BoolVar(&c.quick, "quick", false, "a small model, few rounds and short times, where no flag says otherwise: to see that it works")
	set.BoolVar(&c.check, "check", false, "fail when a limit is not kept, too; what is lost, doubled or divergent always fails")
	set.StringVar(&c.fedmesh, "fedmesh", "", "fedmesh binary; built from this repository when empty")
	set.StringVar(&c.dir, "dir", "", "where to make the folder for data; among the temporary files when empty")
	set.StringVar(&c.out, "out", "results", "folder for the table and the pictures; not written when empty")
	set.BoolVar(&c.keep, "keep", false, "leave the processes' data and logs, and say where")
	set.BoolVar(&c.json, "json", false, "print everything measured as JSON instead of the table")
	if err := set.Parse(args); err != nil {
		return c, err
	}
	if set.NArg() > 0 {
		return c, fmt.Errorf("kill: unexpected argument %q", set.Arg(0))
	}
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if c.quick {
		c.shorten(given)
	}
	c.settle(given)
	c.systems = []string{sysMesh, sysRaft, sysSingle}
	if c.kill == killAllButOne {
		c.systems = c.systems[:1]
	}
	if *systems != "" {
		c.systems = strings.Split(*systems, ",")
	}
	return c, c.validate()
}

// shorten makes a run one of seconds.
func (c *config) shorten(given map[string]bool) {
	for name, do := range map[string]func(){
		"peers": func() { c.peers = 3 },
		"combiners": func() {
			if c.combiners = 3; c.partition {
				c.combiners = 4
			}
		},
		"params":        func() { c.params = 2000 },
		"rounds":        func() { c.rounds = 12 },
		"calm":          func() { c.calm = 4 },
		"cuts":          func() { c.cuts = 1 },
		"cut-every":     func() { c.cutEvery = time.Second },
		"cut-for":       func() { c.cutFor = 6 * time.Second },
		"kill-every":    func() { c.killEvery = 700 * time.Millisecond },
		"restart-after": func() { c.restartAfter = 200 * time.Millisecond },
		"train":         func() { c.train = 100 * time.Millisecond },
		"time-limit":    func() { c.timeLimit = 5 * time.Minute },
		"out":           func() { c.out = "" },
	} {
		if !given[name] {
			do()
		}
	}
}

// settle makes the flags one plan: a run ends in one way.
func (c *config) settle(given map[string]bool) {
	if c.partition {
		c.rounds, c.kills = 0, 0
		if !given["kill"] {
			c.kill = killNone
		}
		return
	}
	c.cuts = 0
	if c.kill != killRandom {
		c.aim = 0
	}
	if c.kills == 0 {
		return
	}
	c.rounds = 0
	if !given["time-limit"] {
		c.timeLimit = 10*time.Minute + 2*time.Duration(c.kills)*(c.killEvery+c.restartAfter)
	}
	if !given["keep-models"] {
		c.keepModels = keptModels
	}
}

func (c config) validate() error {
	var errs []error
	within := func(name string, value, low, high int64) {
		if value < low || value > high {
			errs = append(errs, fmt.Errorf("kill: --%s is %d, want %d to %d", name, value, low, high))
		}
	}
	lasts := func(name string, value, low, high time.Duration) {
		if value < low || value > high {
			errs = append(errs, fmt.Errorf("kill: --%s is %v, want %v to %v", name, value, low, high))
		}
	}
	within("peers", int64(c.peers), 3, process.MaxNodes)
	within("combiners", int64(c.combiners), 1, 1000)
	within("params", c.params, 1, 1<<30)
	if c.rounds != 0 || c.kills == 0 && !c.partition {
		within("rounds", int64(c.rounds), 1, 100_000)
	}
	within("kills", int64(c.kills), 0, 100_000)
	within("aim", int64(c.aim), 0, 1000)
	within("calm", int64(c.calm), 1, 100_000)
	within("keep-models", int64(c.keepModels), 0, 1_000_000)
	if c.keepModels > 0 {
		within("keep-models", int64(c.keepModels), 16, 1_000_000)
	}
	lasts("train", c.train, 0, time.Hour)
	lasts("kill-every", c.killEvery, 50*time.Millisecond, time.Hour)
	lasts("restart-after", c.restartAfter, 0, time.Hour)
	lasts("time-limit", c.timeLimit, time.Second, 24*time.Hour)
	if c.partition {
		within("cuts", int64(c.cuts), 1, 10_000)
		within("combiners", int64(c.combiners), 2, 1000)
		lasts("cut-every", c.cutEvery, 100*time.Millisecond, time.Hour)
		lasts("cut-for", c.cutFor, time.Second, time.Hour)
	}
	if c.partition && c.kill != killNone {
		errs = append(errs, errors.New("kill: --partition cuts the network and kills nobody; leave --kill away"))
	}
	if c.kills > 0 && c.kill != killLeader && c.kill != killRandom {
		errs = append(errs, fmt.Errorf("kill: --kills %d needs --kill leader or random", c.kills))
	}
	switch c.kill {
	case killNone, killLeader, killRandom, killAllButOne:
	default:
		errs = append(errs, fmt.Errorf("kill: --kill is %q, want leader, random, all-but-one or none", c.kill))
	}
	seen := map[string]bool{}
	for _, s := range c.systems {
		if !slices.Contains([]string{sysMesh, sysRaft, sysSingle}, s) || seen[s] {
			errs = append(errs, fmt.Errorf("kill: --systems has %q, want each of mesh, raft and single once at most, with commas", s))
		}
		seen[s] = true
		if c.kill == killAllButOne && s != sysMesh {
			errs = append(errs, fmt.Errorf("kill: --kill all-but-one is for --systems mesh: without its majority raft stands still by design, and single has no others"))
		}
	}
	return errors.Join(errs...)
}
