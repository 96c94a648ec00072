// Package proc finds the processes that a benchmark started in Linux's /proc, and
// reads what they have used. Its functions keep nothing and may be called from
// many goroutines.
package proc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Find returns the folder in /proc of the process that was started with a flag and its value.
func Find(flag, value string) (string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return "", fmt.Errorf("proc: %w", err)
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
	return "", fmt.Errorf("proc: no process has %s %s", flag, value)
}
