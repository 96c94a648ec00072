package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// child is a process that this command started. What it prints on standard output is read line by
// line as JSON; the rest is in its log file.
type child struct {
	name string
	log  string
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{}

	mu    sync.Mutex
	lines []event
	more  chan struct{} // closed and replaced when a line came
	err   error         // how it ended
}

// event is what a Python process says.
type event struct {
	Event   string  `json:"event"`
	Round   int     `json:"round"`
	Status  string  `json:"status"`
	Model   bool    `json:"model"`
	Seconds float64 `json:"seconds"`

	// Of dtypes.py.
	DType    string `json:"dtype"`
	Values   int    `json:"values"`
	Wrong    int    `json:"wrong"`
	OwnDType string `json:"own_dtype"`
	OwnWrong int    `json:"own_wrong"`
}

func start(dir, name, binary string, args []string) (*child, error) {
	p := &child{name: name, log: filepath.Join(dir, name+".log"), done: make(chan struct{}), more: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, fmt.Errorf("fedn: %w", err)
	}
	defer log.Close()
	p.cmd = exec.Command(binary, args...)
	p.cmd.Dir, p.cmd.Stderr = dir, log
	p.cmd.SysProcAttr = attributes()
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.in, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("fedn: %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		p.read(out)
		err := p.cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
	}()
	return p, nil
}

func (p *child) read(r io.Reader) {
	s := bufio.NewScanner(r)
	for s.Scan() {
		var e event
		if json.Unmarshal(s.Bytes(), &e) != nil {
			continue // FEDn prints at times
		}
		p.mu.Lock()
		p.lines = append(p.lines, e)
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
	}
}

// await returns the first event that is wanted, or an error once the process has ended or ctx does.
func (p *child) await(ctx context.Context, what string, want func(event) bool) (event, error) {
	for next := 0; ; {
		p.mu.Lock()
		lines, more := p.lines, p.more
		p.mu.Unlock()
		for ; next < len(lines); next++ {
			if want(lines[next]) {
				return lines[next], nil
			}
		}
		select {
		case <-more:
		case <-p.done:
			p.mu.Lock()
			ended := len(p.lines) == next
			p.mu.Unlock()
			if ended {
				return event{}, fmt.Errorf("fedn: %s ended before %s: %w\n%s", p.name, what, cmp.Or(p.err, io.EOF), p.tail())
			}
		case <-ctx.Done():
			return event{}, fmt.Errorf("fedn: %s: no %s: %w\n%s", p.name, what, ctx.Err(), p.tail())
		}
	}
}

// tail is the end of the log.
func (p *child) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// kill sends SIGKILL and waits.
func (p *child) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// ports returns free ports of the loopback interface, below those that systems give to connections: whoever is to have one takes seconds to start.
func ports(n int) ([]int, error) {
	const low, high, tries = 15000, 32768, 1000
	var out []int
	var last error
	for range tries {
		if len(out) == n {
			return out, nil
		}
		port := low + rand.IntN(high-low)
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			last = err
			continue
		}
		defer ln.Close() // all are taken at the same time, so they differ
		out = append(out, port)
	}
	return nil, fmt.Errorf("fedn: find %d free ports: %w", n, last)
}

// await waits until ok, looking now and then.
func await(ctx context.Context, what string, ok func() bool) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("fedn: %s: %w", what, ctx.Err())
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, os.ErrNotExist)
}
