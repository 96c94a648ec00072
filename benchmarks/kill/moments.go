package main

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/benchmarks/command"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// What a process was doing when it was killed, as far as can be told: from the
// combiners, from its own events up to its death (fedmesh only, the reducers have
// none), and from the files that it left unfinished. It may have been several of them.
const (
	duringUpload   = "upload"
	duringCopies   = "between copies"
	duringSeal     = "between seal and model"
	duringFile     = "writing"
	duringRepair   = "repair"
	duringSnapshot = "snapshot"
	duringStart    = "start"
	duringCatchUp  = "catching up"
	duringNothing  = "none of these"
)

// allMoments in the order in which they are shown, and what they mean.
var allMoments = [][2]string{
	{duringUpload, "a combiner was sending it an update"},
	{duringCopies, "it held an update that was not acknowledged yet"},
	{duringSeal, "it had sealed a round and did not serve its model yet"},
	{duringFile, "a model or an update on its disk was unfinished"},
	{duringRepair, "it had just made a further copy of an acknowledged update"},
	{duringSnapshot, "a snapshot of its log was unfinished"},
	{duringStart, "it had been started again and was not ready yet"},
	{duringCatchUp, "it was ready and did not yet serve what was the newest model then"},
	{duringNothing, ""},
}

const (
	drainPatience = 250 * time.Millisecond // for the last events of one who is dead
	justNow       = 0.1                    // seconds
	heldKept      = 64                     // of what a process holds, the newest
)

// life is what one process has said, from its start to its end.
type life struct {
	done chan struct{} // closed when its events have ended

	mu            sync.Mutex
	sealed, model uint64
	held          []process.Key // itself, the newest last
	repaired      float64       // when it held an update that was acknowledged before; 0: never
}

// moments follows the events of all processes.
type moments struct {
	trial *trial

	mu    sync.Mutex
	lives map[string]*life // by name, the present ones
}

// follow reads a peer's events until ctx ends, over all its starts.
func (m *moments) follow(ctx context.Context, peer process.Peer, dial dialer) {
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	for ctx.Err() == nil {
		m.listen(ctx, peer, transport)
		command.Pause(ctx, 30*time.Millisecond)
	}
}

// listen reads the events of one life.
func (m *moments) listen(ctx context.Context, peer process.Peer, transport http.RoundTripper) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, peer.URL+"/v1/events", nil)
	if err != nil {
		return
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return // it is dead
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return
	}
	l := &life{done: make(chan struct{})}
	defer close(l.done)
	m.mu.Lock()
	m.lives[peer.Name] = l
	m.mu.Unlock()
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		text, ok := strings.CutPrefix(line, "data: ")
		var e api.Event
		if ok && json.Unmarshal([]byte(text), &e) == nil {
			l.take(e, peer.Name, m.trial)
		}
	}
}

// over reports whether it has come to its end.
func (l *life) over() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// take notes an event of a peer.
func (l *life) take(e api.Event, peer string, t *trial) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case e.Type == api.EventRound && e.State == api.RoundSealed && e.Peer == peer:
		l.sealed = max(l.sealed, e.Round)
	case e.Type == api.EventModel:
		l.model = max(l.model, e.Round)
	case e.Type == api.EventUpdate && e.State == "held" && e.Peer == peer:
		key := process.Key{Combiner: e.Combiner, ID: e.ID}
		if l.held = append(l.held, key); len(l.held) > heldKept {
			l.held = slices.Delete(l.held, 0, len(l.held)-heldKept)
		}
		// A receipt may be a little faster than the event of the last of its copies.
		now := t.now()
		if at, ok := t.work.ackedAt(key); ok && at < now-justNow {
			l.repaired = now
		}
	}
}

// scene is what can be seen of a process just before it is killed.
type scene struct {
	peer   process.Peer
	life   *life
	stands []stand
}

// before looks at a process that is about to be killed.
func (m *moments) before(peer process.Peer) scene {
	m.mu.Lock()
	s := scene{peer: peer, life: m.lives[peer.Name]}
	m.mu.Unlock()
	if s.life != nil && s.life.over() {
		s.life = nil // its next one has not been heard of yet
	}
	for _, u := range m.trial.uploads {
		s.stands = append(s.stands, u.now())
	}
	return s
}

// after tells what a process had been doing that is dead now, when it died at
// that time.
func (m *moments) after(s scene, died float64) (during []string) {
	if s.life != nil {
		select {
		case <-s.life.done:
		case <-time.After(drainPatience):
		}
		s.life.mu.Lock()
		defer s.life.mu.Unlock()
	}
	note := func(what string, so bool) {
		if so && !slices.Contains(during, what) {
			during = append(during, what)
		}
	}
	address := strings.TrimPrefix(s.peer.URL, "http://")
	for _, u := range s.stands {
		note(duringUpload, u.stage == stageSending && u.to == address)
		note(duringCopies, u.stage == stageSent && u.to == address)
		note(duringCopies, u.stage != stageNone && s.life != nil && slices.Contains(s.life.held, u.key))
	}
	if s.life != nil {
		note(duringSeal, s.life.sealed > s.life.model)
		note(duringRepair, s.life.repaired > 0 && died-s.life.repaired < justNow)
	}
	file, snapshot := unfinished(m.trial.cluster.DataDir(s.peer.Name))
	note(duringFile, file)
	note(duringSnapshot, snapshot)
	return during
}

// unfinished looks for what a process was writing when it died, in the folder
// that it left.
func unfinished(dataDir string) (file, snapshot bool) {
	some := func(pattern string) int {
		found, err := filepath.Glob(filepath.Join(dataDir, pattern))
		if err != nil {
			return 0
		}
		return len(found)
	}
	// The snapshot before goes when the new one is there for good.
	return some("blobs/.tmp-*") > 0, some("log/.tmp-*") > 0 || some("log/*.snapshot") > 1
}
