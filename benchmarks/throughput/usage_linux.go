package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fedmesh/fedmesh/benchmarks/proc"
)

// usage is what a process has taken so far.
type usage struct {
	peak int64   // resident memory at most, bytes
	cpu  float64 // processor time, seconds
}

// usageOf reads the usage of the node with a data folder from /proc: the same
// figures that wait4, and so GNU time, would give of it.
func usageOf(dataDir string) (usage, error) {
	dir, err := proc.Find("--data-dir", dataDir)
	if err != nil {
		return usage{}, err
	}
	var u usage
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, fmt.Errorf("throughput: %w", err)
	}
	if u.peak, err = parsePeak(string(status)); err != nil {
		return u, err
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, fmt.Errorf("throughput: %w", err)
	}
	u.cpu, err = parseCPU(string(stat))
	return u, err
}

// parsePeak finds VmHWM, "high water mark", in a status file.
func parsePeak(status string) (int64, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("throughput: VmHWM: %w", err)
			}
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("throughput: no VmHWM in the process's status")
}

// parseCPU adds up user and system time in a stat file.
func parseCPU(stat string) (float64, error) {
	const perSecond = 100 // USER_HZ, the same on all of Linux's platforms that Go has
	// The name before it is in parentheses and may hold any.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("throughput: the process's stat has %d fields", len(fields))
	}
	var ticks int64
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("throughput: the process's stat: %w", err)
		}
		ticks += n
	}
	return float64(ticks) / perSecond, nil
}

// machine says what this runs on.
func machine() (cpu, load string) {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			cpu = strings.TrimSpace(value)
			break
		}
	}
	avg, _ := os.ReadFile("/proc/loadavg")
	load, _, _ = strings.Cut(string(avg), " ")
	return cpu, load
}
