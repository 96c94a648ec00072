package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"time"

	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// The claims, by the flag that asks for them.
const (
	claimSessions  = "sessions"
	claimCombiners = "combiners"
	claimPeers     = "peers"
)

// config says what to run. A claim whose number is 0 is left out.
type config struct {
	sessions  int
	combiners int
	peers     int

	rounds int // of each part of a claim
	train  time.Duration
	params int64 // of a model of most sessions
	seed   uint64

	hugeParams     int64
	crowdParams    int64
	bursts         int
	overload       int
	overloadParams int64
	maxUploads     int
	kill           int
	idle           time.Duration

	quick   bool
	check   bool
	keep    bool
	json    bool
	fedmesh string
	dir     string
	out     string
}

// claims lists those that are to be run.
func (c config) claims() (out []string) {
	for _, x := range []struct {
		name string
		n    int
	}{{claimSessions, c.sessions}, {claimCombiners, c.combiners}, {claimPeers, c.peers}} {
		if x.n > 0 {
			out = append(out, x.name)
		}
	}
	return out
}

// parse reads the command line. Usage and errors go to w.
func parse(args []string, w io.Writer) (config, error) {
	var c config
	set := flag.NewFlagSet("scale", flag.ContinueOnError)
	set.SetOutput(w)
	set.IntVar(&c.sessions, claimSessions, 0, "so many sessions at once on three peers, with four combiners each; 0: not measured, unless nothing is: then 100")
	set.IntVar(&c.combiners, claimCombiners, 0, "so many combiners of one session at once on three peers; 0: not measured, unless nothing is: then 500")
	set.IntVar(&c.peers, claimPeers, 0, "so many peers; 0: not measured, unless nothing is: then 24")
	set.IntVar(&c.rounds, "rounds", 0, "rounds of each part; 0: 20 with --sessions, 8 with --combiners, 5 with --peers")
	set.DurationVar(&c.train, "train", 2*time.Second, "how long a combiner trains between pull and push")
	set.Int64Var(&c.params, "params", 10_000, "float32 parameters of a small model")
	set.Uint64Var(&c.seed, "seed", 1, "seed of the models, the routes and of whom to kill")
	set.Int64Var(&c.hugeParams, "huge-params", 50_000_000, "with --sessions: parameters of the one huge model; its combiners train five times as long")
	set.Int64Var(&c.crowdParams, "crowd-params", 250_000, "with --combiners: parameters of a model")
	set.IntVar(&c.bursts, "bursts", 3, "with --combiners: further rounds in which all push in the same moment")
	set.IntVar(&c.overload, "overload", -1, "with --combiners: pushes of large models to one peer at the same time; -1: as many as combiners")
	set.Int64Var(&c.overloadParams, "overload-params", 5_000_000, "with --combiners: parameters of those")
	set.IntVar(&c.maxUploads, "max-uploads", 32, "with --combiners: uploads at a time that the overloaded peer is told to take, where it can be told")
	set.IntVar(&c.kill, "kill", -1, "with --peers: how many to kill at once; -1: a third")
	set.DurationVar(&c.idle, "idle", 10*time.Second, "with --peers: how long to look at idle peers")
	set.BoolVar(&c.quick, "quick", false, "few of everything and short times, where no flag says otherwise: to see that it works")
	set.BoolVar(&c.check, "check", false, "fail when a limit is not kept, too; what is lost, doubled or wrong always fails")
	set.BoolVar(&c.keep, "keep", false, "leave the peers' data and logs, and say where")
	set.BoolVar(&c.json, "json", false, "print everything measured as JSON instead of the tables")
	set.StringVar(&c.fedmesh, "fedmesh", "", "fedmesh binary; built from this repository when empty")
	set.StringVar(&c.dir, "dir", "", "where to make the folder for all that is needed while it runs; among the temporary files when empty")
	set.StringVar(&c.out, "out", "results", "folder for tables and pictures; not written when empty")
	if err := set.Parse(args); err != nil {
		return c, err
	}
	if set.NArg() > 0 {
		return c, fmt.Errorf("scale: unexpected argument %q", set.Arg(0))
	}
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if c.quick {
		c.shorten(given)
	}
	if c.sessions == 0 && c.combiners == 0 && c.peers == 0 {
		c.sessions, c.combiners, c.peers = 100, 500, 24
		if c.quick {
			c.sessions, c.combiners, c.peers = 8, 20, 6
		}
	}
	if c.overload < 0 {
		c.overload = c.combiners
	}
	if c.kill < 0 {
		c.kill = c.peers / 3
	}
	return c, c.validate()
}

// shorten makes a run one of seconds.
func (c *config) shorten(given map[string]bool) {
	for name, do := range map[string]func(){
		"rounds":          func() { c.rounds = 2 },
		"train":           func() { c.train = 200 * time.Millisecond },
		"params":          func() { c.params = 2000 },
		"huge-params":     func() { c.hugeParams = 500_000 },
		"crowd-params":    func() { c.crowdParams = 5000 },
		"bursts":          func() { c.bursts = 1 },
		"overload-params": func() { c.overloadParams = 200_000 },
		"max-uploads":     func() { c.maxUploads = 2 },
		"idle":            func() { c.idle = time.Second },
		"out":             func() { c.out = "" },
	} {
		if !given[name] {
			do()
		}
	}
}

func (c config) validate() error {
	var errs []error
	within := func(name string, value, low, high int64) {
		if value < low || value > high {
			errs = append(errs, fmt.Errorf("scale: --%s is %d, want %d to %d", name, value, low, high))
		}
	}
	if c.sessions != 0 {
		within(claimSessions, int64(c.sessions), 5, 10_000) // one is measured, three make trouble, and one is none of these
	}
	if c.combiners != 0 {
		within(claimCombiners, int64(c.combiners), 10, 10_000)
	}
	if c.peers != 0 {
		within(claimPeers, int64(c.peers), 3, process.MaxNodes)
		within("kill", int64(c.kill), 0, int64(c.peers-1))
	}
	within("rounds", int64(c.rounds), 0, 100_000)
	within("bursts", int64(c.bursts), 0, 1000)
	within("overload", int64(c.overload), 0, 10_000)
	within("max-uploads", int64(c.maxUploads), 1, 100_000)
	for name, n := range map[string]int64{
		"params": c.params, "huge-params": c.hugeParams, "crowd-params": c.crowdParams, "overload-params": c.overloadParams,
	} {
		within(name, n, 1, 1<<30)
	}
	for name, d := range map[string]time.Duration{"train": c.train, "idle": c.idle} {
		if d < 0 || d > time.Hour {
			errs = append(errs, fmt.Errorf("scale: --%s is %v, want 0s to 1h", name, d))
		}
	}
	return errors.Join(errs...)
}

// roundsOr is how many rounds a part has.
func (c config) roundsOr(n int) int {
	if c.rounds > 0 {
		return c.rounds
	}
	return n
}
