package sim_test

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/meshtest/sim"
)

var (
	seed  = flag.Uint64("sim.seed", 1, "first `seed`")
	count = flag.Int("sim.n", 20, "`number` of seeds")
	trace = flag.Bool("sim.trace", false, "print everything that happens")
)

// Regressions run before the rest: go test runs tests in the order of the file.
func TestRegressions(t *testing.T) {
	text, err := os.ReadFile("testdata/regressions.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		number, _, _ := strings.Cut(line, "#")
		if number = strings.TrimSpace(number); number == "" {
			continue
		}
		s, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range []func(uint64, io.Writer) sim.Result{sim.Run, sim.RunPlain} {
			if err := run(s, nil).Err(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestSimulation(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // worlds are small and short-lived
	var next, acked, lost, rounds atomic.Int64
	start := time.Now()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(*count) {
					return
				}
				s := *seed + uint64(i)
				var r sim.Result
				if *trace {
					r = sim.Run(s, os.Stdout)
				} else {
					r = sim.Run(s, nil)
				}
				acked.Add(int64(r.Acknowledged))
				lost.Add(int64(r.Lost))
				rounds.Add(int64(r.Rounds))
				if err := r.Err(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("seeds %d to %d: %d rounds, %d updates acknowledged, %d given up in some round, %.0f seeds per second",
		*seed, *seed+uint64(*count)-1, rounds.Load(), acked.Load(), lost.Load(), float64(*count)/time.Since(start).Seconds())
}

func TestReplay(t *testing.T) {
	for s := range uint64(5) {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			a, b := sim.Run(s, nil), sim.Run(s, nil)
			if a.Hash != b.Hash {
				t.Fatalf("two runs of seed %d differ: %x and %x", s, a.Hash, b.Hash)
			}
		})
	}
}
