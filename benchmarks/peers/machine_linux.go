package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/fedmesh/fedmesh/benchmarks/proc"
)

// peakOf reads the largest resident memory so far, in bytes, of the node with a
// data folder.
func peakOf(dataDir string) (int64, error) {
	dir, err := proc.Find("--data-dir", dataDir)
	if err != nil {
		return 0, fmt.Errorf("peers: %w", err)
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return 0, fmt.Errorf("peers: %w", err)
	}
	return field(string(status), "VmHWM")
}

// field finds a number of kB in a status file, and returns bytes.
func field(text, name string) (int64, error) {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("peers: %s: %w", name, err)
			}
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("peers: the system does not tell %s", name)
}

// machine says what this runs on; what is not known stays empty.
func machine() (cpu string, ram int64) {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			cpu = strings.TrimSpace(value)
			break
		}
	}
	mem, _ := os.ReadFile("/proc/meminfo")
	ram, _ = field(string(mem), "MemTotal")
	return cpu, ram
}

// loadAverage is that of the last minute, NaN-free: -1 when not known.
func loadAverage() float64 {
	avg, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(avg), " ")
	x, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return -1
	}
	return x
}

// freeSpace is what a folder's file system has left for us, in bytes.
func freeSpace(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("peers: free space of %s: %w", dir, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}
