package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// A pipe is an output that tells when something is written.
type pipe struct {
	mu      sync.Mutex
	b       bytes.Buffer
	written chan struct{}
}

func newPipe() *pipe { return &pipe{written: make(chan struct{}, 1)} }

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.written <- struct{}{}:
	default:
	}
	return p.b.Write(b)
}

func (p *pipe) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

// await waits until what was written satisfies ok.
func (p *pipe) await(t *testing.T, what string, ok func(string) bool) {
	t.Helper()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	for !ok(p.String()) {
		select {
		case <-p.written:
		case <-limit.C:
			t.Fatalf("no %s in %q", what, p.String())
		}
	}
}

func (p *pipe) awaitText(t *testing.T, text string) {
	t.Helper()
	p.await(t, text, func(s string) bool { return strings.Contains(s, text) })
}

// watching runs `fedmesh watch` until stop is called, which gives its exit code.
func watching(t *testing.T, sh shell, args ...string) (out, errs *pipe, stop func() int) {
	t.Helper()
	out, errs = newPipe(), newPipe()
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{in: strings.NewReader(""), out: out, err: errs, lookup: func(k string) (string, bool) { v, ok := sh.env[k]; return v, ok }}
	code := make(chan int, 1)
	go func() { code <- a.run(ctx, append([]string{"watch"}, args...)) }()
	return out, errs, func() int {
		cancel()
		return <-code
	}
}

func TestWatchLines(t *testing.T) {
	p, sh := serve(t)
	p.events = make(chan api.Event)
	digest := strings.Repeat("2b", 32)
	p.rounds = []api.RoundInfo{{Round: 3, Updates: make([]api.UpdateInfo, 4), Metrics: map[string]float64{"loss": 0.31}}}
	out, errs, stop := watching(t, sh, "s")
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.Local)
	for _, e := range []api.Event{
		{Type: api.EventSession, Session: "other", State: "open"},
		{Type: api.EventPeer, Peer: "c", State: api.PeerDead},
		{Type: api.EventUpdate, Session: "s", Peer: "a", Combiner: "x", ID: "r2", State: "held"},
		{Type: api.EventRound, Session: "s", Peer: "b", Round: 3, State: api.RoundSettled, Digest: digest},
		{Type: api.EventModel, Session: "s", Round: 3, Digest: digest},
		{Type: api.EventWarning, Session: "s", Detail: "bad\x1b[2J news"},
	} {
		e.Time = at
		p.events <- e
	}
	want := `2026-01-02 03:04:05  peer     c: dead
2026-01-02 03:04:05  update   s: update r2 of x held by a
2026-01-02 03:04:05  round    s: round 3 settled, model 2b2b2b2b by b
2026-01-02 03:04:05  model    s: model 2b2b2b2b of round 3, 4 updates, loss=0.31
2026-01-02 03:04:05  warning  s: bad?[2J news
`
	out.await(t, "six lines", func(s string) bool { return strings.Count(s, "\n") >= 5 })
	if code := stop(); code != exitOK || out.String() != want || errs.String() != "" {
		t.Errorf("exit code %d, %q, got\n%s\nwant\n%s", code, errs.String(), out.String(), want)
	}
}

func TestWatchJSONAndReconnects(t *testing.T) {
	p, sh := serve(t)
	p.events = make(chan api.Event)
	out, errs, stop := watching(t, sh, "--json")
	p.events <- api.Event{Seq: 1, Type: api.EventModel, Session: "s", Round: 3}
	out.awaitText(t, "\n")
	p.mu.Lock()
	close(p.events) // the stream breaks
	p.mu.Unlock()
	errs.awaitText(t, "trying again")
	if code := stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	var e api.Event
	if err := json.Unmarshal([]byte(out.String()), &e); err != nil || e.Session != "s" || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("%v in %q", err, out.String())
	}
	if n := strings.Count(errs.String(), "trying again"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

func TestWatchWhatIsNotThere(t *testing.T) {
	_, sh := serve(t)
	checkError(t, sh.run(t, "watch", "other"), exitNotFound, "other")
	sh.env["FEDMESH_PEERS"] = "http://127.0.0.1:1"
	checkError(t, sh.run(t, "watch"), exitUnavailable, "refused")
}

// TestFrameFits draws on screens of any size.
func TestFrameFits(t *testing.T) {
	s := status{Mesh: api.MeshInfo{Self: "a", Mesh: strings.Repeat("m", 100)}, Sessions: []api.SessionInfo{{Name: strings.Repeat("s", 100)}}}
	for range 20 {
		s.Mesh.Peers = append(s.Mesh.Peers, api.PeerInfo{Name: strings.Repeat("p", 100), State: api.PeerDead})
	}
	s.Problems = findProblems(s)
	recent := []api.Event{{Type: api.EventWarning, Detail: strings.Repeat("d", 300)}, {Type: api.EventPeer, Peer: "last"}}
	w := &watcher{}
	for _, size := range [][2]int{{80, 24}, {40, 10}, {200, 100}, {1, 1}, {8, 2}} {
		for _, p := range []picture{{}, {status: s, at: time.Now()}, {status: s, at: time.Now(), err: errInternal}, {session: &shown{Session: s.Sessions[0], Rounds: make([]api.RoundInfo, 50)}, at: time.Now()}} {
			frame := w.frame(p, recent, size[0], size[1], time.Now())
			if len(frame) > size[1] {
				t.Errorf("%v: %d lines", size, len(frame))
			}
			for _, l := range frame {
				if columns(l.text) > size[0] {
					t.Errorf("%v: %q", size, l.text)
				}
			}
		}
	}
	frame := w.frame(picture{session: &shown{Session: s.Sessions[0]}, at: time.Now()}, recent, 80, 24, time.Now())
	if l := frame[len(frame)-2]; !strings.Contains(l.text, "last") && !strings.Contains(paintAll(frame), "last") {
		t.Errorf("the last event is not shown: %q", paintAll(frame))
	}
}

func paintAll(frame []line) string { return string(paintFrame(frame, false)) }
