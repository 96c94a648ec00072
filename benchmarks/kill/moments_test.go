package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// What an upload is at is known while the server reads, and to whom it goes.
func TestUploadStages(t *testing.T) {
	u := &upload{}
	const size = 1 << 20
	seen := make(chan stand, 3)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 1000))
		seen <- u.now()
		_, _ = io.Copy(io.Discard, r.Body)
		seen <- u.now()
	}))
	defer server.Close()
	transport := &http.Transport{DialContext: u.dial(nil)}
	defer transport.CloseIdleConnections()
	key := process.Key{Combiner: "c000", ID: "1"}
	u.begin(key)
	// The writer must wait for the reader: the connection takes less than all.
	body := u.body(&slowReader{r: bytes.NewReader(make([]byte, size)), wait: seen}, size)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = size
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	u.set(stageNone)
	address := server.Listener.Addr().String()
	if got := <-seen; got != (stand{address, stageSending, key}) {
		t.Errorf("while it was sent: %+v", got)
	}
	if got := <-seen; got != (stand{address, stageSent, key}) {
		t.Errorf("when all was there: %+v", got)
	}
}

// slowReader hands out the last half when something has been seen.
type slowReader struct {
	r    *bytes.Reader
	wait chan stand
	held bool
}

func (s *slowReader) Read(p []byte) (int, error) {
	if !s.held && s.r.Len() <= 1<<19 {
		s.held = true
		s.wait <- <-s.wait
	}
	return s.r.Read(p[:min(len(p), 1<<14)])
}

func TestMoments(t *testing.T) {
	dir := t.TempDir()
	cluster, err := process.NewCluster(process.Options{Binary: "none", N: 1, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	tr := &trial{cluster: cluster, uploads: []*upload{{}, {}}, watch: newWatch([]string{"a"}, func() float64 { return 0 })}
	tr.moments = &moments{trial: tr, lives: map[string]*life{}}
	peer := tr.peer("a")
	address := peer.URL[len("http://"):]
	key := process.Key{Combiner: "c001", ID: "4"}
	held := api.Event{Type: api.EventUpdate, State: "held", Peer: "a", Combiner: key.Combiner, ID: key.ID}
	sealed := api.Event{Type: api.EventRound, State: api.RoundSealed, Peer: "a", Round: 3}
	for name, c := range map[string]struct {
		uploads []stand
		events  []api.Event
		acked   bool // the update, long ago
		files   []string
		want    []string
	}{
		"nothing":          {},
		"upload":           {uploads: []stand{{address, stageSending, key}}, want: []string{duringUpload}},
		"upload elsewhere": {uploads: []stand{{"127.0.0.1:1", stageSending, key}}},
		"sent":             {uploads: []stand{{address, stageSent, key}}, want: []string{duringCopies}},
		"a copy": {
			uploads: []stand{{"127.0.0.1:1", stageSending, key}}, events: []api.Event{held}, want: []string{duringCopies},
		},
		"a copy that is acknowledged": {events: []api.Event{held}},
		"sealed":                      {events: []api.Event{sealed}, want: []string{duringSeal}},
		"sealed by another":           {events: []api.Event{{Type: api.EventRound, State: api.RoundSealed, Peer: "b", Round: 3}}},
		"computed":                    {events: []api.Event{sealed, {Type: api.EventModel, Round: 3}}},
		"repair":                      {events: []api.Event{held}, acked: true, want: []string{duringRepair}},
		"files": {
			files: []string{"blobs/.tmp-7", "log/.tmp-snapshot", "blobs/x.safetensors"}, want: []string{duringFile, duringSnapshot},
		},
		"two snapshots": {files: []string{"log/00000001.snapshot", "log/00000009.snapshot"}, want: []string{duringSnapshot}},
	} {
		folder := cluster.DataDir("a")
		for _, f := range c.files {
			path := filepath.Join(folder, f)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		tr.work = work{}
		if c.acked {
			tr.work.acked = map[process.Key]float64{key: tr.now() - 100}
		}
		l := &life{done: make(chan struct{})}
		for _, e := range c.events {
			l.take(e, "a", tr)
		}
		tr.moments.lives["a"] = l
		tr.uploads[0].stand, tr.uploads[1].stand = stand{}, stand{}
		if len(c.uploads) > 0 {
			tr.uploads[1].stand = c.uploads[0]
		}
		for _, moment := range []string{duringUpload, duringSeal, duringRepair, duringSnapshot} {
			// What is there before the death, a second snapshot is not looked for.
			if got := tr.moments.at("a", moment); got != slices.Contains(c.want, moment) && name != "two snapshots" {
				t.Errorf("%s: at %s: %v", name, moment, got)
			}
		}
		s := tr.moments.before(peer)
		close(l.done)
		if got := tr.moments.after(s, tr.now()); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if s := tr.moments.before(peer); s.life != nil {
			t.Errorf("%s: a life that is over is taken for the next", name)
		}
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
	}
}

// Events are read off the wire until the process is gone.
func TestEventsAreFollowed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, ": hello\n\nid: 1\nevent: round\ndata: {\"type\":\"round\",\"state\":\"sealed\",\"peer\":\"a\",\"round\":5}\n\n")
		fmt.Fprint(w, "id: 2\nevent: model\ndata: {\"type\":\"model\",\"round\":4}\n\n")
	}))
	defer server.Close()
	m := &moments{trial: &trial{}, lives: map[string]*life{}}
	transport := &http.Transport{DialContext: (&net.Dialer{}).DialContext, DisableKeepAlives: true}
	m.listen(ctx, process.Peer{Name: "a", URL: server.URL}, transport)
	cancel()
	l := m.lives["a"]
	if l == nil || !l.over() || l.sealed != 5 || l.model != 4 {
		t.Fatalf("%+v", l)
	}
}

func TestMomentsAreCounted(t *testing.T) {
	r := &Result{Kills: []Kill{{During: []string{duringUpload, duringFile}}, {During: []string{duringFile}}, {}}}
	got := r.Moments()
	if got[duringUpload] != 1 || got[duringFile] != 2 || got[duringNothing] != 1 || len(got) != 3 {
		t.Errorf("%v", got)
	}
}
