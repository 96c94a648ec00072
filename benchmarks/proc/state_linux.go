package proc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// StateIn reads what the process with a folder in /proc holds now, see [Find].
func StateIn(dir string) (s State, err error) {
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return s, fmt.Errorf("proc: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kB int64
			if _, err := fmt.Sscan(rest, &kB); err != nil {
				return s, fmt.Errorf("proc: the process's status: %w", err)
			}
			s.Resident = kB << 10
		}
	}
	fds := filepath.Join(dir, "fd")
	entries, err := os.ReadDir(fds)
	if err != nil {
		return s, fmt.Errorf("proc: %w", err)
	}
	s.Files = len(entries)
	for _, e := range entries {
		// One may be closed meanwhile.
		if to, err := os.Readlink(filepath.Join(fds, e.Name())); err == nil && strings.HasPrefix(to, "socket:") {
			s.Sockets++
		}
	}
	return s, nil
}
