package main

import (
	"os"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/proc"
)

func TestParse(t *testing.T) {
	peak, err := parsePeak("Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t  123456 kB\nVmRSS:\t 5 kB\n")
	if err != nil || peak != 123456<<10 {
		t.Errorf("peak %d, %v", peak, err)
	}
	cpu, err := parseCPU("12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 250 0 0")
	if err != nil || cpu != 4 {
		t.Errorf("cpu %v, %v", cpu, err)
	}
	for _, s := range []string{"", "VmHWM: x kB\n", "1 (a) S 1 2"} {
		if _, err := parsePeak(s); err == nil {
			t.Errorf("peak in %q", s)
		}
		if _, err := parseCPU(s); err == nil {
			t.Errorf("cpu in %q", s)
		}
	}
}

// This very process is found by its own arguments.
func TestFind(t *testing.T) {
	if _, err := proc.Find("--data-dir", t.TempDir()); err == nil {
		t.Error("a process that does not exist was found")
	}
	if len(os.Args) < 3 {
		t.Skip("the test was started without arguments")
	}
	if _, err := proc.Find(os.Args[1], os.Args[2]); err != nil {
		t.Error(err)
	}
}
