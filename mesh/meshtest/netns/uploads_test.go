//go:build linux && netns

package netns_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/meshtest/netns"
)

const (
	vanished    = 40 // uploads whose client is gone in the middle, without a word
	slowHeaders = 20 // requests whose header comes byte by byte
	slowBodies  = 10 // uploads whose body does

	// A server gives a header 10 s, and an upload 60 s in which less than 16 KiB come; a
	// peer to which an upload is sent on gives up 20 s later.
	headersWithin = 10 * time.Second
	uploadsWithin = 80 * time.Second
	// What a busy machine needs to notice.
	margin = 30 * time.Second

	// What may differ without being held by an upload: connections kept between peers
	// and with the test's clients, and the goroutines of those.
	fewFiles, fewGoroutines = 20, 50
)

// held is what a node has at one moment.
type held struct {
	goroutines, files, temporary int
	cpu                          time.Duration // used so far
}

// holds asks a node for its metrics and looks into its folder.
func (s *scene) holds(ctx context.Context, peer string) (held, error) {
	var h held
	transport := &http.Transport{DialContext: s.net.Host(client).DialContext, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.net.Host(peer).IP()+":8080/metrics", nil)
	if err != nil {
		return h, err
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Do(req)
	if err != nil {
		return h, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		switch name {
		case "go_goroutines":
			h.goroutines, err = strconv.Atoi(value)
		case "process_open_fds":
			h.files, err = strconv.Atoi(value)
		case "process_cpu_seconds_total":
			var cpu float64
			cpu, err = strconv.ParseFloat(value, 64)
			h.cpu = time.Duration(cpu * float64(time.Second))
		}
		if err != nil {
			return h, err
		}
	}
	if h.goroutines == 0 || h.files == 0 {
		return h, fmt.Errorf("%s tells neither its goroutines nor its files", peer)
	}
	err = filepath.WalkDir(s.cluster.DataDir(peer), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasPrefix(d.Name(), ".tmp-") {
			h.temporary++
		}
		return nil // a file may go while its folder is listed
	})
	return h, err
}

// mustHold is holds of a peer that answers, sooner or later.
func (s *scene) mustHold(ctx context.Context, peer string) (h held) {
	s.t.Helper()
	s.until(ctx, "the metrics of "+peer, patience, func() (err error) {
		h, err = s.holds(ctx, peer)
		return err
	})
	return h
}

// trickle opens a connection to a peer, sends the beginning of a request and then a byte now
// and then, until the peer has had enough. It tells after how long.
func (s *scene) trickle(ctx context.Context, host, peer, request string) (time.Duration, error) {
	conn, err := s.net.Host(host).DialContext(ctx, "tcp", s.net.Host(peer).IP()+":8080")
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	start := time.Now()
	if _, err := io.WriteString(conn, request); err != nil {
		return 0, err
	}
	closed := make(chan struct{})
	go func() { // an answer counts as the end too
		defer close(closed)
		_, _ = conn.Read(make([]byte, 1))
	}()
	defer func() {
		_ = conn.Close()
		<-closed
	}()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-closed:
			return time.Since(start), nil
		case <-tick.C:
			if _, err := conn.Write([]byte("x")); err != nil {
				return time.Since(start), nil
			}
		}
	}
}

// Clients that are slow, or gone without a word in the middle of an upload, do not keep
// others from working, and what they held is free again after the documented time.
func TestUploadsThatDoNotEnd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	s := newScene(ctx, t, 3, 2*megabyte, sessionConfig(), "slow", "gone")
	w := s.work(ctx, "c", client, 2, training, s.peers...)
	s.progress(ctx, 2, 4)

	before := map[string]held{}
	for _, p := range s.peers {
		before[p] = s.mustHold(ctx, p)
	}
	put := func(id string) string {
		return fmt.Sprintf("PUT /v1/sessions/%s/updates/%s?weight=1&id=1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", s.session, id, s.layout.Size())
	}
	model := s.update("gone", "1")
	half := string(model[:len(model)/2])

	start := time.Now()
	var slow sync.WaitGroup
	defer slow.Wait()
	var mu sync.Mutex
	longest := map[string]time.Duration{}
	trickle := func(what, request string) {
		slow.Go(func() {
			took, err := s.trickle(ctx, "slow", "a", request)
			if err != nil {
				s.fail(fmt.Errorf("slow %s: %w", what, err))
			}
			mu.Lock()
			defer mu.Unlock()
			longest[what] = max(longest[what], took)
		})
	}
	for range slowHeaders {
		trickle("header", "GET /v1/mesh HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	}
	for i := range slowBodies {
		trickle("body", put("slow"+strconv.Itoa(i))+half)
	}
	var lost []net.Conn
	defer func() {
		for _, c := range lost {
			_ = c.Close()
		}
	}()
	for i := range vanished {
		c, err := s.net.Host("gone").DialContext(ctx, "tcp", s.net.Host("a").IP()+":8080")
		if err != nil {
			t.Fatal(err)
		}
		lost = append(lost, c)
		_ = c.SetWriteDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(c, put("gone"+strconv.Itoa(i))+half); err != nil {
			t.Fatal(err)
		}
	}
	s.until(ctx, "the uploads are under way", patience, func() error {
		h, err := s.holds(ctx, "a")
		if err == nil && h.temporary < before["a"].temporary+vanished {
			err = fmt.Errorf("%+v", h)
		}
		return err
	})
	s.net.Between([]string{"gone"}, s.peers, netns.Link{Cut: true})
	gone := time.Now()
	for _, p := range s.peers {
		h, err := s.holds(ctx, p)
		t.Logf("%s held %+v, holds %+v (%v)", p, before[p], h, err)
	}
	s.progress(ctx, 3, 6) // others can work

	free := func(p string) error {
		h, err := s.holds(ctx, p)
		switch b := before[p]; {
		case err != nil:
			return err
		case h.goroutines > b.goroutines+fewGoroutines || h.files > b.files+fewFiles || h.temporary > b.temporary+1: // an update may be under way
			return fmt.Errorf("%s held %+v, holds %+v", p, b, h)
		}
		return nil
	}
	for _, p := range []string{"b", "c", "a"} {
		s.until(ctx, "what uploads held is free", time.Until(gone.Add(uploadsWithin+margin)), func() error {
			err := free(p)
			if err != nil {
				s.pause(ctx, 500*time.Millisecond) // asking costs too
			}
			return err
		})
		h, _ := s.holds(ctx, p)
		t.Logf("%s is free of them after %v: %+v", p, time.Since(gone).Round(time.Second), h)
	}
	slow.Wait()
	t.Logf("slow headers lasted %v, slow bodies %v", longest["header"].Round(time.Second), longest["body"].Round(time.Second))
	if longest["header"] > headersWithin+margin || longest["body"] > uploadsWithin+margin {
		t.Error("slow clients were suffered too long")
	}
	s.progress(ctx, 3, 6)
	w.stop()
	t.Logf("%v in all", time.Since(start).Round(time.Second))
	s.judge(ctx)
}
