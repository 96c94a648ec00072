package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// config says what to run.
type config struct {
	params    int64
	combiners int
	peers     []int
	repeat    int
	seed      uint64
	fsync     string
	maxMemory int64 // MB; 0: not checked

	fedmesh string
	dir     string
	out     string
	json    bool
}

// parse reads the command line. Usage and errors go to w.
func parse(args []string, w io.Writer) (config, error) {
	var c config
	set := flag.NewFlagSet("throughput", flag.ContinueOnError)
	set.SetOutput(w)
	set.Int64Var(&c.params, "params", 25_000_000, "float32 parameters of a model")
	set.IntVar(&c.combiners, "combiners", 8, "number of combiners, which push at once")
	peers := set.String("peers", "1,3", "sizes of the meshes to measure")
	set.IntVar(&c.repeat, "repeat", 5, "repeats, each with new processes and empty folders")
	set.Uint64Var(&c.seed, "seed", 1, "seed of the models' values")
	set.StringVar(&c.fsync, "fsync", "auto", "the peers' --fsync: auto, always or never")
	set.Int64Var(&c.maxMemory, "max-memory", 0, "fail when a peer's resident memory exceeds so many `MB`; 0: do not check")
	set.StringVar(&c.fedmesh, "fedmesh", "", "fedmesh binary; built from this repository when empty")
	set.StringVar(&c.dir, "dir", "", "where to make the folder for data; among the temporary files when empty")
	set.StringVar(&c.out, "out", "results", "folder for the table and the picture; not written when empty")
	set.BoolVar(&c.json, "json", false, "print everything measured as JSON instead of the table")
	if err := set.Parse(args); err != nil {
		return c, err
	}
	if set.NArg() > 0 {
		return c, fmt.Errorf("throughput: unexpected argument %q", set.Arg(0))
	}
	var errs []error
	for s := range strings.SplitSeq(*peers, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > process.MaxNodes {
			errs = append(errs, fmt.Errorf("throughput: --peers has %q, want 1 to %d", s, process.MaxNodes))
		}
		c.peers = append(c.peers, n)
	}
	return c, errors.Join(append(errs, c.validate())...)
}

func (c config) validate() error {
	var errs []error
	atMost := func(name string, value, high int64) {
		if value < 1 || value > high {
			errs = append(errs, fmt.Errorf("throughput: --%s is %d, want 1 to %d", name, value, high))
		}
	}
	atMost("params", c.params, 1<<33)
	atMost("combiners", int64(c.combiners), 1000)
	atMost("repeat", int64(c.repeat), 1000)
	switch c.fsync {
	case "auto", "always", "never":
	default:
		errs = append(errs, fmt.Errorf("throughput: --fsync is %q, want auto, always or never", c.fsync))
	}
	return errors.Join(errs...)
}
