//go:build unix

package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
)

// node is one process of a cluster, over all its starts.
type node struct {
	name        string
	secure      bool   // it speaks https
	hosted      bool   // it listens on other addresses than the loopback's, on a network of the test's own
	dir         string // the node's data
	logFile     string // standard output and error of all starts
	api, gossip *reservation
	args        []string
	start       func(*exec.Cmd) error

	mu     sync.Mutex
	cmd    *exec.Cmd     // nil before the first start
	done   chan struct{} // closed when cmd has been reaped
	paused bool
	starts int
}

// settle gives the node its addresses: ports of its own host, or two that are free on the loopback interface.
func (n *node) settle(hosts []Host, i int) error {
	if len(hosts) > 0 {
		n.api, n.gossip = &reservation{host: hosts[i].IP, port: 8080}, &reservation{host: hosts[i].IP, port: 7946}
		n.start, n.hosted = hosts[i].Start, true
		return nil
	}
	var err error
	if n.api, err = reserve(); err != nil {
		return err
	}
	if n.gossip, err = reserve(); err != nil {
		return errors.Join(err, n.api.release())
	}
	return nil
}

// run starts the process. It must not be running.
func (n *node) run(binary string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running() {
		return fmt.Errorf("process: %s runs already", n.name)
	}
	if err := errors.Join(n.api.release(), n.gossip.release()); err != nil {
		return fmt.Errorf("process: %s: release its ports: %w", n.name, err)
	}
	out, err := os.OpenFile(n.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("process: %s: %w", n.name, err)
	}
	cmd := exec.Command(binary, slices.Concat(n.args, []string{"--listen", n.api.addr(), "--gossip", n.gossip.addr()})...)
	cmd.Stdout, cmd.Stderr = out, out
	if n.hosted {
		// By the environment, since systems that are compared with fedmesh know no such flag.
		cmd.Env = append(os.Environ(), "FEDMESH_INSECURE=true")
	}
	cmd.SysProcAttr = childAttr()
	err = n.start(cmd)
	// The child has its own descriptor.
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("process: start %s: %w", n.name, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ended stands in cmd.ProcessState
	}()
	n.cmd, n.done, n.paused = cmd, done, false
	n.starts++
	return nil
}

// running says whether the process has been started and not yet reaped.
// n.mu must be held.
func (n *node) running() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// signal sends a signal to the running process and returns a channel that is
// closed when the process has ended. os.Process refuses to signal a process
// that was reaped, so none but our own child can be hit.
func (n *node) signal(s syscall.Signal) (<-chan struct{}, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running() {
		return nil, fmt.Errorf("process: %s does not run", n.name)
	}
	if err := n.cmd.Process.Signal(s); err != nil {
		return nil, fmt.Errorf("process: send %v to %s: %w", s, n.name, err)
	}
	switch s {
	case syscall.SIGSTOP:
		n.paused = true
	case syscall.SIGCONT:
		n.paused = false
	}
	return n.done, nil
}

// pid is the process id of the last start, 0 before the first.
func (n *node) pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return 0
	}
	return n.cmd.Process.Pid
}

// state is what a caller may want to know, at one moment.
func (n *node) state() (running, paused bool, exit string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	running = n.running()
	if !running && n.cmd != nil {
		exit = n.cmd.ProcessState.String()
	}
	return running, running && n.paused, exit
}
