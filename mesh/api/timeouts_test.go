package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// inBubble runs fn in a synctest bubble with a server at "a:80" over f.
func inBubble(t *testing.T, f *fake, fn func(t *testing.T, n *memNet, srv *api.Server)) {
	synctest.Test(t, func(t *testing.T) {
		f.changed = make(chan struct{}) // of this bubble
		n := newMemNet()
		defer time.Sleep(10 * time.Second) // for connections that linger
		srv := api.NewServer(f, api.ServerOptions{Logger: zerolog.Nop(), MaxBody: 1 << 40})
		stop := n.serve("a:80", srv.HTTPServer(srv))
		defer stop()
		defer srv.Close()
		fn(t, n, srv)
	})
}

const pushHead = "PUT /v1/sessions/%s/updates/c?weight=1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"

// TestIdleUpload checks that an upload that stops, or trickles, is ended with 408 after the idle time.
func TestIdleUpload(t *testing.T) {
	for _, trickle := range []bool{false, true} {
		t.Run(fmt.Sprint(trickle), func(t *testing.T) {
			inBubble(t, newFake().with("s", someModel(t, 4, 1)), func(t *testing.T, n *memNet, _ *api.Server) {
				conn, err := n.dial(t.Context(), "", "a:80")
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				done := make(chan struct{})
				go func() {
					defer close(done)
					_, _ = fmt.Fprintf(conn, pushHead, "s", 1<<30)
					for trickle {
						time.Sleep(7 * time.Second)
						if _, err := conn.Write([]byte("x")); err != nil {
							return
						}
					}
				}()
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				p := problem(t, resp)
				if took := time.Since(begin); !api.TypeBodyTimeout.Is(p) || took < 59*time.Second || took > 70*time.Second {
					t.Errorf("after %v: %v", took, p)
				}
				_ = conn.Close()
				<-done
			})
		})
	}
}

// TestLongUpload checks that an upload that moves may take hours, and that a backend that pauses does not cost the
// client its connection, nor one that works long after the body.
func TestLongUpload(t *testing.T) {
	f := newFake().with("s", someModel(t, 4, 1))
	f.onPush = func(ctx context.Context, req api.PushRequest) (api.Receipt, error) {
		buf := make([]byte, 32<<10)
		var n int
		for {
			m, err := io.ReadFull(req.Body, buf)
			n += m
			if err != nil {
				break
			}
			if n%(1<<20) == 0 {
				time.Sleep(5 * time.Minute)
			}
		}
		time.Sleep(5 * time.Minute)
		return api.Receipt{ID: fmt.Sprint(n)}, ctx.Err()
	}
	inBubble(t, f, func(t *testing.T, n *memNet, _ *api.Server) {
		conn, err := n.dial(t.Context(), "", "a:80")
		if err != nil {
			t.Fatal(err)
		}
		const size = 4 << 20
		go func() {
			_, _ = fmt.Fprintf(conn, pushHead, "s", size)
			chunk := make([]byte, 64<<10)
			for range size / len(chunk) {
				time.Sleep(50 * time.Second)
				_, _ = conn.Write(chunk)
			}
		}()
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		var r api.Receipt
		if err := json.NewDecoder(resp.Body).Decode(&r); err != nil || resp.StatusCode != 201 || r.ID != fmt.Sprint(size) {
			t.Errorf("status %d, %+v, %v", resp.StatusCode, r, err)
		}
		_ = conn.Close()
	})
}

// TestEarlyRefusal checks that the refusal of a huge upload arrives at once, closes the connection and reads none of it.
func TestEarlyRefusal(t *testing.T) {
	inBubble(t, newFake().with("s", someModel(t, 4, 1)), func(t *testing.T, n *memNet, _ *api.Server) {
		for _, head := range []string{
			fmt.Sprintf(pushHead, "none", 100<<30),
			fmt.Sprintf(pushHead, "s", int64(1)<<41),
			strings.Replace(fmt.Sprintf(pushHead, "s", 100<<30), "weight=1", "weight=0", 1),
			strings.Replace(fmt.Sprintf(pushHead, "none", 100<<30), "\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n", 1),
		} {
			conn, err := n.dial(t.Context(), "", "a:80")
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			resp := exchange(t, conn, head)
			if p := problem(t, resp); p.Status < 400 || !resp.Close || time.Since(begin) > 0 {
				t.Errorf("%.60q: after %v, close %v: %v", head, time.Since(begin), resp.Close, p)
			}
			// The pipe takes nothing that the server does not read, beyond what it buffers ahead.
			_ = conn.SetWriteDeadline(time.Now().Add(time.Minute))
			if sent, _ := conn.Write(make([]byte, 1<<20)); sent > 300<<10 {
				t.Errorf("%.60q: the server read %d bytes of what it had refused", head, sent)
			}
			_ = conn.Close()
		}
	})
}

// TestSlowHeader checks that a connection without a request ends.
func TestSlowHeader(t *testing.T) {
	inBubble(t, newFake(), func(t *testing.T, n *memNet, _ *api.Server) {
		conn, err := n.dial(t.Context(), "", "a:80")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		go func() { _, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost:") }()
		_, err = io.ReadAll(conn)
		if took := time.Since(begin); took > 12*time.Second {
			t.Errorf("closed after %v, %v", took, err)
		}
		_ = conn.Close()
	})
}

// TestSlowReader checks that a client that takes nothing of its model is given up.
func TestSlowReader(t *testing.T) {
	f := newFake().with("s", someModel(t, 1<<20, 1))
	closed := make(chan time.Time, 1)
	f.onModel = func(m api.Model) (api.Model, error) {
		m.Blob = onClose(m.Blob, func() { closed <- time.Now() })
		return m, nil
	}
	inBubble(t, f, func(t *testing.T, n *memNet, _ *api.Server) {
		closed = make(chan time.Time, 1)
		conn, err := n.dial(t.Context(), "", "a:80")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		_, _ = io.WriteString(conn, "GET /v1/sessions/s/model HTTP/1.1\r\nHost: a\r\n\r\n")
		if took := (<-closed).Sub(begin); took < 59*time.Second || took > 61*time.Second {
			t.Errorf("closed after %v", took)
		}
		_ = conn.Close()
	})
}

// TestUnhurriedReader checks that a slow client gets its model, in either format, however long it takes.
func TestUnhurriedReader(t *testing.T) {
	f := newFake().with("s", someModel(t, 1<<20, 1))
	inBubble(t, f, func(t *testing.T, n *memNet, _ *api.Server) {
		for _, format := range []string{"safetensors", "npz"} {
			conn, err := n.dial(t.Context(), "", "a:80")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, "GET /v1/sessions/s/model?format="+format+" HTTP/1.1\r\nHost: a\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			var got int64
			for err == nil {
				var m int64
				m, err = io.CopyN(io.Discard, resp.Body, 64<<10)
				got += m
				time.Sleep(10 * time.Second)
			}
			if !errors.Is(err, io.EOF) || got != resp.ContentLength {
				t.Errorf("%s: %d bytes of %d, %v", format, got, resp.ContentLength, err)
			}
			_ = conn.Close()
		}
	})
}

func TestLongPoll(t *testing.T) {
	seed, next := someModel(t, 4, 1), someModel(t, 4, 2)
	f := newFake().with("s", seed)
	inBubble(t, f, func(t *testing.T, n *memNet, srv *api.Server) {
		get := func(path string) (*http.Response, time.Duration) {
			conn, err := n.dial(t.Context(), "", "a:80")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			begin := time.Now()
			resp := exchange(t, conn, "GET /v1/sessions/s/model?"+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
			return resp, time.Since(begin)
		}
		if resp, took := get("after=0&wait=3m"); resp.StatusCode != 204 || took != 3*time.Minute {
			t.Errorf("nothing newer: status %d after %v", resp.StatusCode, took)
		}
		go func() {
			time.Sleep(2 * time.Minute)
			f.publish(next)
		}()
		resp, took := get("after=" + seed.digest.String() + "&wait=3m")
		if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || took != 2*time.Minute || string(b) != string(next.file) {
			t.Errorf("newer after 2m: status %d after %v", resp.StatusCode, took)
		}
		go func() {
			time.Sleep(time.Minute)
			srv.Close()
		}()
		resp, took = get("after=1&wait=3m")
		if resp.StatusCode != 503 || took != time.Minute {
			t.Errorf("closed after 1m: status %d after %v", resp.StatusCode, took)
		}
	})
}

func TestEvents(t *testing.T) {
	f := newFake()
	inBubble(t, f, func(t *testing.T, n *memNet, srv *api.Server) {
		open := func(query string) (*bufio.Scanner, func()) {
			conn, err := n.dial(t.Context(), "", "a:80")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, "GET /v1/events"+query+" HTTP/1.1\r\nHost: a\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
				t.Fatalf("content type %q", ct)
			}
			return bufio.NewScanner(resp.Body), func() { _ = conn.Close() }
		}
		next := func(s *bufio.Scanner, prefix string) string {
			for s.Scan() {
				if rest, ok := strings.CutPrefix(s.Text(), prefix); ok {
					return rest
				}
			}
			t.Fatalf("the stream ended before %q: %v", prefix, s.Err())
			return ""
		}
		all, stop := open("")
		only, stopOnly := open("?session=s")
		synctest.Wait()
		f.emit(api.Event{Seq: 1, Type: api.EventPeer, Peer: "b\nevent: forged"})
		f.emit(api.Event{Seq: 2, Type: api.EventModel, Session: "s", Round: 3})
		if got := next(all, "data: "); !strings.Contains(got, `"peer":"b\nevent: forged"`) {
			t.Errorf("got %s", got)
		}
		var e api.Event
		if err := json.Unmarshal([]byte(next(all, "data: ")), &e); err != nil || e.Seq != 2 || e.Round != 3 {
			t.Errorf("got %+v, %v", e, err)
		}
		if got := next(only, "id: "); got != "2" {
			t.Errorf("filtered: got id %s", got)
		}
		begin := time.Now()
		next(all, ":")
		if took := time.Since(begin); took > 16*time.Second {
			t.Errorf("heartbeat after %v", took)
		}
		stopOnly()
		// A client that reads nothing must neither stop the backend nor stay.
		for i := range 2000 {
			f.emit(api.Event{Seq: uint64(i), Type: api.EventPeer, Detail: strings.Repeat("x", 100)})
		}
		synctest.Wait()
		time.Sleep(2 * time.Minute)
		if got := f.subscribers(); got != 0 {
			t.Errorf("%d subscribers left", got)
		}
		stop()
		last, stop := open("")
		srv.Close()
		for last.Scan() { // ends with the server
		}
		stop()
	})
}

// TestClientEvents goes through our own client.
func TestClientEvents(t *testing.T) {
	f := newFake()
	inBubble(t, f, func(t *testing.T, n *memNet, _ *api.Server) {
		c := client(t, api.ClientOptions{DialContext: n.dial}, "gone:80", "a:80")
		defer c.Close()
		enough := errors.New("enough")
		go func() {
			time.Sleep(10 * time.Minute) // heartbeats keep it
			f.emit(api.Event{Seq: 1, Type: api.EventPeer})
		}()
		err := c.Events(t.Context(), func(e api.Event) error {
			if e.Seq != 1 {
				t.Errorf("got %+v", e)
			}
			return enough
		})
		if !errors.Is(err, enough) {
			t.Errorf("got %v", err)
		}
	})
}
