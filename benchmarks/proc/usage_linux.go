package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// UsageOf reads what the node with a data folder has used so far.
func UsageOf(dataDir string) (u Usage, err error) {
	dir, err := Find("--data-dir", dataDir)
	if err != nil {
		return u, err
	}
	return UsageIn(dir)
}

// UsageIn reads the same of the process with a folder in /proc, see [Find].
func UsageIn(dir string) (u Usage, err error) {
	read := func(name string) string {
		text, rerr := os.ReadFile(filepath.Join(dir, name))
		if rerr != nil && err == nil {
			err = fmt.Errorf("proc: %w", rerr)
		}
		return string(text)
	}
	status, stat, io := read("status"), read("stat"), read("io")
	if err != nil {
		return u, err
	}
	return parseUsage(status, stat, io)
}

// parseUsage reads a process's files status, stat and io.
func parseUsage(status, stat, io string) (u Usage, err error) {
	number := func(text, name, unit string) int64 {
		for line := range strings.Lines(text) {
			if rest, ok := strings.CutPrefix(line, name+":"); ok {
				n, perr := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), unit)), 10, 64)
				if perr == nil {
					return n
				}
			}
		}
		if err == nil {
			err = fmt.Errorf("proc: /proc does not tell %s", name)
		}
		return 0
	}
	u.Peak = number(status, "VmHWM", "kB") << 10
	u.Written = number(io, "wchar", "")
	u.Stored = number(io, "write_bytes", "")
	if err != nil {
		return u, err
	}
	const perSecond = 100 // USER_HZ, the same on all of Linux's platforms that Go has
	// The name before it is in parentheses and may hold any.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return u, fmt.Errorf("proc: the process's stat has %d fields", len(fields))
	}
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return u, fmt.Errorf("proc: the process's stat: %w", err)
		}
		u.CPU += float64(n) / perSecond
	}
	return u, nil
}

// TrafficOf reads what went through an interface of the network namespace that
// the node with a data folder runs in.
func TrafficOf(dataDir, device string) (t Traffic, err error) {
	dir, err := Find("--data-dir", dataDir)
	if err != nil {
		return t, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "net", "dev"))
	if err != nil {
		return t, fmt.Errorf("proc: %w", err)
	}
	return parseTraffic(string(text), device)
}

// parseTraffic reads a file net/dev: after the name come eight figures of what
// was received, bytes first, and eight of what was sent.
func parseTraffic(text, device string) (t Traffic, err error) {
	for line := range strings.Lines(text) {
		name, figures, _ := strings.Cut(line, ":")
		fields := strings.Fields(figures)
		if strings.TrimSpace(name) != device || len(fields) < 9 {
			continue
		}
		if t.Received, err = strconv.ParseInt(fields[0], 10, 64); err != nil {
			return t, fmt.Errorf("proc: net/dev: %w", err)
		}
		if t.Sent, err = strconv.ParseInt(fields[8], 10, 64); err != nil {
			return t, fmt.Errorf("proc: net/dev: %w", err)
		}
		return t, nil
	}
	return t, fmt.Errorf("proc: there is no interface %s", device)
}

// Machine says what this runs on: the processor, and the load average of the
// last minute.
func Machine() (cpu, load string) {
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
