package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// usage is what a process has taken so far.
type usage struct {
	peak int64   // resident memory at most, bytes
	cpu  float64 // processor time, seconds
}

// usageOf reads the usage of the node with a data folder from /proc: the same
// figures that wait4, and so GNU time, would give of it.
func usageOf(dataDir string) (usage, error) {
	proc, err := find("--data-dir", dataDir)
	if err != nil {
		return usage{}, err
	}
	var u usage
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return u, fmt.Errorf("throughput: %w", err)
	}
	if u.peak, err = parsePeak(string(status)); err != nil {
		return u, err
	}
	stat, err := os.ReadFile(filepath.Join(proc, "stat"))
	if err != nil {
		return u, fmt.Errorf("throughput: %w", err)
	}
	u.cpu, err = parseCPU(string(stat))
	return u, err
}

// find returns the folder in /proc of the process that was started with a flag
// and its value.
func find(flag, value string) (string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return "", fmt.Errorf("throughput: %w", err)
	}
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended, or is somebody else's
		}
		args := bytes.Split(line, []byte{0})
		i := slices.IndexFunc(args, func(a []byte) bool { return string(a) == flag })
		if i >= 0 && i+1 < len(args) && string(args[i+1]) == value {
			return filepath.Dir(file), nil
		}
	}
	return "", fmt.Errorf("throughput: no process has %s %s", flag, value)
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
