//go:build unix && !linux

package process

import "syscall"

// childAttr gives a child a process group of its own, so that an interrupt at
// the terminal reaches only the parent, which decides.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// stopped says whether a process has stopped, as far as one can know.
func stopped(int) bool { return true }
