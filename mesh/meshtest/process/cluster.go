//go:build unix

package process

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
)

// MaxNodes is how many nodes a cluster may have: one per letter.
const MaxNodes = 26

// Options say what a cluster consists of.
type Options struct {
	Binary    string         // a fedmesh binary, see Build
	N         int            // nodes, 1 to MaxNodes
	Dir       string         // for data and logs; must exist or be creatable, and is left in place
	Mesh      string         // name of the mesh; "test" when empty
	ExtraArgs []string       // further arguments of every `fedmesh node`
	Log       zerolog.Logger // what the cluster does; the zero Logger is silent
	// ReadyTimeout bounds the wait for /readyz after a start; two minutes when zero.
	ReadyTimeout time.Duration
	// Seeds is how many of the nodes, from the first on, all are told to join; 3 when zero.
	Seeds int
	// Hosts are where the nodes run, one for each; none: all on the loopback interface of this machine.
	Hosts []Host
	// Dial reaches the hosts; nil: real sockets of this machine.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLS is for nodes that speak https, as ExtraArgs or NodeArgs have told them; nil: they do not.
	TLS *tls.Config
	// NodeArgs returns further arguments of the node of a name; nil: none.
	NodeArgs func(name string) []string
}

// A Host is a machine, or what passes for one, that a node has for itself.
type Host struct {
	IP    string                // of its interface; the node listens on ports 8080 and 7946 there
	Start func(*exec.Cmd) error // starts a process on it; the process is then a child of this one
}

func (o *Options) defaults() error {
	var errs []error
	if o.Binary == "" {
		errs = append(errs, errors.New("process: no binary given"))
	}
	if o.N < 1 || o.N > MaxNodes {
		errs = append(errs, fmt.Errorf("process: %d nodes, want 1 to %d", o.N, MaxNodes))
	}
	if o.Dir == "" {
		errs = append(errs, errors.New("process: no folder given"))
	}
	if len(o.Hosts) > 0 && len(o.Hosts) != o.N {
		errs = append(errs, fmt.Errorf("process: %d hosts for %d nodes", len(o.Hosts), o.N))
	}
	if o.Mesh == "" {
		o.Mesh = "test"
	}
	if o.Seeds == 0 {
		o.Seeds = 3
	}
	if o.ReadyTimeout == 0 {
		o.ReadyTimeout = 2 * time.Minute
	}
	return errors.Join(errs...)
}

// Cluster is a mesh of processes on this machine.
type Cluster struct {
	options Options
	client  *http.Client
	nodes   []*node

	closing sync.Mutex
}

// NewCluster chooses ports and makes the nodes' folders. It starts nothing.
func NewCluster(o Options) (*Cluster, error) {
	if err := o.defaults(); err != nil {
		return nil, err
	}
	c := &Cluster{
		options: o,
		// Each probe has a connection of its own: one kept from before a kill says
		// nothing of the process after it.
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: o.Dial, TLSClientConfig: o.TLS.Clone()}},
	}
	for i := range o.N {
		name := string(rune('a' + i))
		n := &node{
			name:    name,
			start:   (*exec.Cmd).Start,
			secure:  o.TLS != nil,
			dir:     filepath.Join(o.Dir, name),
			logFile: filepath.Join(o.Dir, name+".log"),
		}
		if err := n.settle(o.Hosts, i); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		c.nodes = append(c.nodes, n)
		if err := os.MkdirAll(n.dir, 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("process: %w", err), c.Close())
		}
	}
	// The seed list: the same few nodes for everyone, themselves included.
	var seeds []string
	for _, n := range c.nodes[:min(len(c.nodes), o.Seeds)] {
		seeds = append(seeds, n.gossip.addr())
	}
	for _, n := range c.nodes {
		n.args = append([]string{
			"node", "--name", n.name, "--join", strings.Join(seeds, ","), "--data-dir", n.dir, "--mesh", o.Mesh,
			"--log-format", "json", "--fsync", "auto",
		}, o.ExtraArgs...)
		if o.NodeArgs != nil {
			n.args = append(n.args, o.NodeArgs(n.name)...)
		}
	}
	return c, nil
}

// Move gives a node that does not run other ports, which is to the others as if it came back on another machine: it keeps its name and its data.
func (c *Cluster) Move(name string) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	if running, _, _ := n.state(); running {
		return fmt.Errorf("process: %s runs, stop it first", name)
	}
	return n.settle(nil, 0)
}

// Start starts all nodes and waits until each of them is ready.
func (c *Cluster) Start(ctx context.Context) error {
	for _, n := range c.nodes {
		if err := c.start(n); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := c.Ready(ctx, n.name); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) start(n *node) error {
	if err := n.run(c.options.Binary); err != nil {
		return err
	}
	c.options.Log.Info().Str("node", n.name).Int("starts", n.starts).Str("api", n.api.addr()).Msg("started")
	return nil
}

// Ready waits until a node answers /readyz. It fails at once when the process
// has ended.
func (c *Cluster) Ready(ctx context.Context, name string) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.ReadyTimeout)
	defer cancel()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if running, _, exit := n.state(); !running {
			return fmt.Errorf("process: %s ended before it was ready: %s\n%s", name, exit, c.Tail(name, 20))
		}
		err := c.probe(ctx, n)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil { // the end of the time says less than the answer before it
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process: %s did not become ready: %w (last answer: %w)\n%s", name, ctx.Err(), last, c.Tail(name, 20))
		case <-tick.C:
		}
	}
}

func (c *Cluster) probe(ctx context.Context, n *node) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url()+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		return errors.New(resp.Status)
	}
	return nil
}

// Kill sends SIGKILL to a node and waits until it is gone. A paused node dies
// too.
func (c *Cluster) Kill(name string) error {
	return c.end(context.Background(), name, syscall.SIGKILL)
}

// Stop sends SIGTERM to a node and waits until it is gone or ctx ends.
func (c *Cluster) Stop(ctx context.Context, name string) error {
	return c.end(ctx, name, syscall.SIGTERM)
}

// Pause stops a node with SIGSTOP: it keeps its connections and answers nothing.
// On Linux it waits until all threads have stopped.
func (c *Cluster) Pause(name string) error {
	if err := c.signal(name, syscall.SIGSTOP); err != nil {
		return err
	}
	n, err := c.node(name)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(time.Minute)
	for !stopped(n.pid()) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process: %s goes on after SIGSTOP", name)
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// Resume lets a paused node go on with SIGCONT.
func (c *Cluster) Resume(name string) error { return c.signal(name, syscall.SIGCONT) }

func (c *Cluster) signal(name string, s syscall.Signal) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	if _, err = n.signal(s); err == nil {
		c.options.Log.Info().Str("node", name).Stringer("signal", s).Msg("signalled")
	}
	return err
}

func (c *Cluster) end(ctx context.Context, name string, s syscall.Signal) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	done, err := n.signal(s)
	if err != nil {
		return err
	}
	select {
	case <-done:
		_, _, exit := n.state()
		c.options.Log.Info().Str("node", name).Stringer("signal", s).Str("exit", exit).Msg("ended")
		return nil
	case <-ctx.Done():
		return fmt.Errorf("process: %s goes on after %v: %w", name, s, ctx.Err())
	}
}

// Restart starts a node that has ended, with the ports and the data it had, and
// waits until it is ready.
func (c *Cluster) Restart(ctx context.Context, name string) error {
	n, err := c.node(name)
	if err != nil {
		return err
	}
	if err := c.start(n); err != nil {
		return err
	}
	return c.Ready(ctx, name)
}

// Names lists all nodes in order.
func (c *Cluster) Names() []string {
	names := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		names[i] = n.name
	}
	return names
}

// Running lists the nodes whose processes run and are not paused, in order.
func (c *Cluster) Running() []string {
	var names []string
	for _, n := range c.nodes {
		if running, paused, _ := n.state(); running && !paused {
			names = append(names, n.name)
		}
	}
	return names
}

// Exit says how the last process of a node ended; it is empty while it runs.
func (c *Cluster) Exit(name string) string {
	n, err := c.node(name)
	if err != nil {
		return ""
	}
	_, _, exit := n.state()
	return exit
}

// Peers lists all nodes with the URLs of their APIs, in order.
func (c *Cluster) Peers() []Peer {
	peers := make([]Peer, len(c.nodes))
	for i, n := range c.nodes {
		peers[i] = Peer{Name: n.name, URL: n.url()}
	}
	return peers
}

// URLs lists the URLs of all nodes' APIs, in the order of Names.
func (c *Cluster) URLs() []string {
	urls := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		urls[i] = n.url()
	}
	return urls
}

func (n *node) url() string {
	if n.secure {
		return "https://" + n.api.addr()
	}
	return "http://" + n.api.addr()
}

// LogFile is the path of a node's output over all its starts; empty for an
// unknown name.
func (c *Cluster) LogFile(name string) string {
	if n, err := c.node(name); err == nil {
		return n.logFile
	}
	return ""
}

// DataDir is the folder that a node got as --data-dir; empty for an unknown
// name.
func (c *Cluster) DataDir(name string) string {
	if n, err := c.node(name); err == nil {
		return n.dir
	}
	return ""
}

// Tail returns the last lines of a node's output.
func (c *Cluster) Tail(name string, lines int) string {
	text, err := os.ReadFile(c.LogFile(name))
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Close kills all processes that still run and waits for them. It may be called
// more than once. Folders and logs stay.
func (c *Cluster) Close() error {
	c.closing.Lock()
	defer c.closing.Unlock()
	var errs []error
	for _, n := range c.nodes {
		if done, err := n.signal(syscall.SIGKILL); err == nil {
			<-done
		}
		n.mu.Lock()
		errs = append(errs, n.api.release(), n.gossip.release())
		n.mu.Unlock()
	}
	c.client.CloseIdleConnections()
	return errors.Join(errs...)
}

func (c *Cluster) node(name string) (*node, error) {
	i := slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == name })
	if i < 0 {
		return nil, fmt.Errorf("process: no node %q; there are %s", name, strings.Join(c.Names(), ", "))
	}
	return c.nodes[i], nil
}
