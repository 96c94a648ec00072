//go:build unix

package main

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// A terminal is one that a command runs on; what the command writes is kept.
type terminal struct {
	*pipe
	keyboard, tty *os.File
}

// openTerminal gives a terminal of 80 columns and 24 rows.
func openTerminal(t *testing.T) *terminal {
	t.Helper()
	keyboard, tty, err := pty.Open()
	if err != nil {
		t.Skipf("no pseudo-terminal here: %v", err)
	}
	x := &terminal{pipe: newPipe(), keyboard: keyboard, tty: tty}
	x.resize(t, 80, 24)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(x.pipe, keyboard) // until it is closed
	}()
	t.Cleanup(func() {
		// Whoever still reads keys is let go: the read of a terminal cannot be called off.
		_, _ = keyboard.WriteString("q\n")
		tty.Close()
		keyboard.Close()
		<-done
	})
	return x
}

func (x *terminal) resize(t *testing.T, cols, rows uint16) {
	t.Helper()
	if err := pty.Setsize(x.tty, &pty.Winsize{Cols: cols, Rows: rows}); err != nil {
		t.Fatal(err)
	}
}

// run runs a command line on the terminal.
func (x *terminal) run(t *testing.T, sh shell, args ...string) <-chan int {
	t.Helper()
	a := &app{in: x.tty, out: x.tty, err: x.tty, terminal: true, lookup: func(k string) (string, bool) { v, ok := sh.env[k]; return v, ok }}
	code := make(chan int, 1)
	go func() { code <- a.run(t.Context(), args) }()
	return code
}

// frames are the screens drawn, the last one maybe in part.
func frames(text string) []string { return strings.Split(text, toTop)[1:] }

func TestWatchOnATerminal(t *testing.T) {
	p, sh := serve(t)
	p.events = make(chan api.Event)
	x := openTerminal(t)
	before, err := term.GetState(int(x.tty.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	code := x.run(t, sh, "watch")
	x.awaitText(t, "mesh test as a sees it: 1 of 1 peers alive, agreed")
	if !strings.HasPrefix(x.String(), enterScreen) {
		t.Errorf("it does not begin with its own screen: %q", x.String())
	}

	// What happens is shown, with the state it leads to.
	p.mu.Lock()
	p.mesh.Peers = append(p.mesh.Peers, api.PeerInfo{Name: "bravo", State: api.PeerDead})
	p.mu.Unlock()
	p.events <- api.Event{Type: api.EventPeer, Peer: "bravo", State: api.PeerDead, Time: time.Now()}
	x.awaitText(t, "peer     bravo: dead")
	x.awaitText(t, "1 of 2 peers alive")
	x.awaitText(t, "\x1b["+alarm+"m  ! DEAD: peer bravo")

	// It takes the new size by itself.
	x.resize(t, 30, 8)
	x.await(t, "a frame of 8 lines", func(s string) bool {
		f := frames(s)
		return len(f) > 1 && strings.Count(f[len(f)-2], "\n") == 7 && strings.Contains(s, "mesh test as a sees it: 1 of …") && strings.Contains(f[len(f)-2], "DEAD: peer")
	})

	if _, err := x.keyboard.WriteString("xq"); err != nil {
		t.Fatal(err)
	}
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d", c)
	}
	x.await(t, "the screen given back", func(s string) bool { return strings.HasSuffix(s, leaveScreen) })
	after, err := term.GetState(int(x.tty.Fd()))
	if err != nil || *after != *before {
		t.Errorf("the terminal is left in another mode: %v", err)
	}
}

func TestWatchASessionOnATerminal(t *testing.T) {
	p, sh := serve(t)
	p.rounds = []api.RoundInfo{{Round: 1, State: api.RoundOpen, Metrics: map[string]float64{"loss": 0.25}}}
	sh.env["NO_COLOR"] = "1"
	x := openTerminal(t)
	code := x.run(t, sh, "watch", "s")
	x.awaitText(t, "session s: open, round 1")
	x.awaitText(t, "loss=0.25")
	// The events' stream ends at once here: what is new is asked for all the same.
	p.mu.Lock()
	p.rounds = []api.RoundInfo{{Round: 1, State: api.RoundOpen, Metrics: map[string]float64{"loss": 0.125}}}
	p.mu.Unlock()
	x.awaitText(t, "loss=0.125")
	p.fail(api.Unavailable("gone for lunch", 0))
	x.awaitText(t, "cannot be refreshed")
	if _, err := x.keyboard.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d", c)
	}
	if strings.Contains(x.String(), "m  !") || strings.Contains(x.String(), "\x1b[1m") {
		t.Errorf("colours despite NO_COLOR: %q", x.String())
	}
}

func TestStatusOnATerminal(t *testing.T) {
	p, sh := serve(t)
	p.mesh.Peers[0].State = api.PeerDead
	x := openTerminal(t)
	x.resize(t, 120, 24)
	if c := <-x.run(t, sh, "status"); c != exitOK {
		t.Errorf("exit code %d", c)
	}
	x.awaitText(t, "\x1b["+alarm+"m  ! DEAD: peer a; rounds do not become final without it. Start it again, or if it will not return: fedmesh forget a")
}
