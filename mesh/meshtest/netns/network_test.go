//go:build linux && netns

package netns_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/fedmesh/fedmesh/mesh/meshtest/netns"
)

// What is missing fails the run: these tests are asked for by name, and a run that
// tested nothing must not look like one that found nothing.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "echo":
			fmt.Fprintln(os.Stderr, echo(os.Args[2]))
			os.Exit(1)
		case "abandon":
			os.Exit(abandon())
		}
	}
	if err := netns.Check(); err != nil {
		fmt.Fprintf(os.Stderr, "these tests cannot run here:\n%v\n", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built.dir != "" {
			_ = os.RemoveAll(built.dir)
		}
		os.Exit(code)
	}))
}

// echo answers on TCP and UDP with what it gets.
func echo(addr string) error {
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := udp.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = udp.WriteTo(buf[:n], from)
		}
	}()
	fmt.Println("up")
	for {
		c, err := tcp.Accept()
		if err != nil {
			return err
		}
		go func() { _, _ = io.Copy(c, c) }()
	}
}

// abandon makes a network with a process on it, says which, and waits to be killed.
func abandon() int {
	n, err := netns.New(netns.Options{Hosts: []string{"a"}})
	if err != nil {
		return 1
	}
	cmd := exec.Command("/proc/self/exe", "echo", n.Host("a").IP()+":7")
	if err := n.Host("a").Start(cmd); err != nil {
		return 1
	}
	fmt.Println(cmd.Process.Pid)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// startEcho runs echo on a host until the test ends.
func startEcho(t *testing.T, h *netns.Host) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "echo", h.IP()+":7")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "up\n" {
		t.Fatalf("echo said %q, %v", line, err)
	}
}

// says sends a word from a host to another's echo and returns how long the answer took.
func says(t *testing.T, from, to *netns.Host, network string, within time.Duration) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	start := time.Now()
	c, err := from.DialContext(ctx, network, to.IP()+":7")
	if err != nil {
		return 0, err
	}
	defer c.Close()
	_ = c.SetDeadline(start.Add(within))
	if _, err := c.Write([]byte("hello")); err != nil {
		return 0, err
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(c, buf); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

func newNetwork(t *testing.T, hosts ...string) *netns.Network {
	t.Helper()
	n, err := netns.New(netns.Options{Hosts: hosts, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 2 {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return n
}

// Each state of a link does what it says, to its direction and no other.
func TestLinks(t *testing.T) {
	const silence = 300 * time.Millisecond // after which nothing is taken to come
	n := newNetwork(t, "a", "b", "c")
	a, b, c := n.Host("a"), n.Host("b"), n.Host("c")
	for _, h := range []*netns.Host{a, b, c} {
		startEcho(t, h)
	}
	reaches := func(from, to *netns.Host, network string, want bool) {
		t.Helper()
		within := silence
		if want {
			within = patience
		}
		if _, err := says(t, from, to, network, within); (err == nil) != want {
			t.Errorf("%s reaches %s by %s: %v, want %v", from.Name(), to.Name(), network, err, want)
		}
	}
	whole := func() {
		t.Helper()
		for _, network := range []string{"tcp", "udp"} {
			reaches(a, b, network, true)
			reaches(b, a, network, true)
			reaches(c, a, network, true)
		}
	}
	whole()
	n.Between([]string{"a"}, []string{"b", "c"}, netns.Link{Cut: true})
	for _, network := range []string{"tcp", "udp"} {
		reaches(a, b, network, false)
		reaches(b, a, network, false)
		reaches(b, c, network, true)
	}
	if at := n.Contact([]string{"a"}, []string{"b", "c"}); !at.IsZero() {
		t.Error("contact across a cut")
	}
	healed := time.Now()
	n.Heal()
	whole()
	if at := n.Contact([]string{"a"}, []string{"b"}); at.Before(healed) {
		t.Errorf("contact at %v after healing at %v", at, healed)
	}

	n.Set([]string{"a"}, []string{"b"}, netns.Link{Cut: true}) // b hears nothing of a
	silent, err := b.DialContext(t.Context(), "udp", a.IP()+":7")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if _, err := silent.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	// It is heard, and answered, and the answer is lost on the way.
	for tick, end := time.Tick(time.Millisecond), time.After(patience); ; {
		there, _ := n.Counts([]string{"b"}, []string{"a"})
		_, lost := n.Counts([]string{"a"}, []string{"b"})
		if there > 0 && lost > 0 {
			break
		}
		select {
		case <-tick:
		case <-end:
			t.Fatalf("a heard %d packets of b, and %d of its answers were lost", there, lost)
		}
	}
	_ = silent.SetReadDeadline(time.Now().Add(silence))
	if _, err := silent.Read(make([]byte, 5)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("b heard a: %v", err)
	}

	n.Heal()
	n.Between([]string{"a"}, []string{"b"}, netns.Link{CutTCP: true})
	reaches(a, b, "tcp", false)
	reaches(a, b, "udp", true)
	reaches(a, c, "tcp", true)

	n.Between([]string{"a"}, []string{"b"}, netns.Link{Delay: 50 * time.Millisecond})
	for network, trips := range map[string]int{"udp": 2, "tcp": 4} {
		took, err := says(t, a, b, network, patience)
		if least := time.Duration(trips) * 50 * time.Millisecond; err != nil || took < least {
			t.Errorf("%s took %v, %v; want at least %v", network, took, err, least)
		}
	}
	n.Heal()
	whole()
}

func TestLossIsAsAsked(t *testing.T) {
	n := newNetwork(t, "a", "b")
	startEcho(t, n.Host("b"))
	n.Set([]string{"a"}, []string{"b"}, netns.Link{Loss: 0.3})
	c, err := n.Host("a").DialContext(t.Context(), "udp", n.Host("b").IP()+":7")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const sent, burst = 2000, 100
	for i := range sent {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		// The interface's own queue drops what a burst has too much.
		for i%burst == 0 {
			there, lost := n.Counts([]string{"a"}, []string{"b"})
			if there+lost > i {
				break
			}
			select {
			case <-time.After(time.Millisecond):
			case <-t.Context().Done():
				t.Fatal("the packets do not come to the link")
			}
		}
	}
	there, lost := n.Counts([]string{"a"}, []string{"b"})
	if share := float64(lost) / float64(there+lost); there+lost < sent/2 || share < 0.2 || share > 0.4 {
		t.Errorf("%d lost and %d delivered of %d", lost, there, sent)
	}
}

// A run that is killed leaves no process, and nothing else has a name to be left under.
func TestKilledRunLeavesNothing(t *testing.T) {
	before, err := os.ReadFile("/proc/net/dev")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "abandon")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	pid, perr := strconv.Atoi(strings.TrimSpace(line))
	if err := errors.Join(err, perr, cmd.Process.Kill()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	child, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return // gone already
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(child)
	poll := []unix.PollFd{{Fd: int32(child), Events: unix.POLLIN}}
	ended, err := unix.Poll(poll, int(patience/time.Millisecond))
	for errors.Is(err, unix.EINTR) {
		ended, err = unix.Poll(poll, int(patience/time.Millisecond))
	}
	if ended != 1 {
		t.Errorf("process %d outlives the run: %v", pid, err)
	}
	if after, err := os.ReadFile("/proc/net/dev"); err != nil || strings.Count(string(after), "\n") != strings.Count(string(before), "\n") {
		t.Errorf("interfaces before:\n%s\nand after (%v):\n%s", before, err, after)
	}
}

func TestUnusableNetworks(t *testing.T) {
	for _, hosts := range [][]string{nil, {"a", "a"}, make([]string, 251)} {
		if n, err := netns.New(netns.Options{Hosts: hosts}); err == nil {
			t.Errorf("%d hosts made %v", len(hosts), n)
		}
	}
	n := newNetwork(t, "a")
	if own, err := net.InterfaceByName("mesh0"); err == nil {
		t.Errorf("the interface %v is this machine's", own)
	}
	if n.Host("b") != nil {
		t.Error("an unknown host")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if err := n.Host("a").Start(exec.Command("true")); err == nil {
		t.Error("a process was started on a closed network")
	}
}
