package process

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// childAttr gives a child a process group of its own, so that an interrupt at
// the terminal reaches only the parent, which decides; and has the kernel kill
// the child when the parent is gone.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// stopped says whether all threads of a process have stopped: SIGSTOP takes
// effect some time after it was sent.
func stopped(pid int) bool {
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/stat")
	if err != nil || len(tasks) == 0 {
		return true // not to be known here
	}
	for _, task := range tasks {
		stat, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		// The state follows the name, which is in parentheses and may hold any.
		i := bytes.LastIndexByte(stat, ')') + 2
		if i < len(stat) && !bytes.ContainsRune([]byte("TZX"), rune(stat[i])) { // stopped or dead
			return false
		}
	}
	return true
}
