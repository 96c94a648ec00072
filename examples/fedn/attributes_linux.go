package main

import "syscall"

// attributes have processes end with this one, even when it is killed.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
