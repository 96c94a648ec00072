package mesh_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// dial opens a connection for requests that no client library would send.
func (v *victim) dial(addr string) net.Conn {
	v.t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		v.t.Fatal(err)
	}
	v.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// raw sends what it is given and reads an answer.
func (v *victim) raw(request string) answer {
	v.t.Helper()
	return v.steady(func() answer {
		conn := v.dial(v.addr)
		if _, err := io.WriteString(conn, request); err != nil {
			v.t.Fatal(err)
		}
		return v.answer(conn)
	})
}

// answer reads an answer.
func (v *victim) answer(conn net.Conn) answer {
	v.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

func TestHostileLengths(t *testing.T) {
	v := newVictim(t)
	good := tensorFile(goodModel())
	v.openSession(good)
	small := listen(t) // the same peer behind a server that takes 32 KiB at most
	v.serve(small, api.ServerOptions{MaxBody: 32 << 10})
	before := v.listing()

	a := attack{name: "2^40 bytes declared", status: http.StatusRequestEntityTooLarge, kind: api.TypeTooLarge, words: []string{"68719476736"}, extra: map[string]any{"limit": 6.8719476736e+10}}
	v.check(a, v.raw(fmt.Sprintf("PUT %s?weight=1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", updatesOfX, int64(1)<<40)))

	endless := func() io.Reader { return io.MultiReader(bytes.NewReader(good), zeros{}) }
	limited := *v
	limited.addr = small.Addr().String()
	a = attack{status: http.StatusRequestEntityTooLarge, kind: api.TypeTooLarge, words: []string{"32768"}, extra: map[string]any{"limit": 32768}}
	a.name, a.body = "40 KB declared", good
	limited.suffer(a)
	a.name, a.body, a.stream = "40 KB in chunks", nil, func() io.Reader { return io.MultiReader(bytes.NewReader(good)) } // of no known length
	limited.suffer(a)
	a = attack{name: "endless", status: http.StatusRequestEntityTooLarge, kind: api.TypeTooLarge, stream: endless}
	limited.suffer(a)
	a = attack{name: "endless, without a limit", status: http.StatusBadRequest, kind: api.TypeUnreadableModel, words: []string{"bytes follow"}, stream: endless}
	v.suffer(a)

	for _, length := range []string{"-1", "abc", "18446744073709551616", "5\r\nContent-Length: 6"} {
		got := v.raw(fmt.Sprintf("PUT %s?weight=1 HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n\r\n", updatesOfX, length))
		if got.status != http.StatusBadRequest { // net/http's own answer
			t.Errorf("Content-Length: %q: %d %s", length, got.status, got.body)
		}
	}
	chunked := "PUT %s?weight=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%s"
	a = attack{name: "a chunk of no size", status: http.StatusBadRequest, kind: api.TypeInvalidRequest, words: []string{"broke off after 0 bytes"}}
	v.check(a, v.raw(fmt.Sprintf(chunked, updatesOfX, "zz\r\n")))
	a = attack{name: "a chunk of 2^64 bytes", status: http.StatusBadRequest, kind: api.TypeInvalidRequest, words: []string{"broke off after 0 bytes"}}
	v.check(a, v.raw(fmt.Sprintf(chunked, updatesOfX, "1ffffffffffffffff\r\n")))
	got := v.raw(fmt.Sprintf("GET /v1/sessions/%s HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n", "s", strings.Repeat("x", 1<<20)))
	if got.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of 1 MB: %d %s", got.status, got.body)
	}
	if after := v.listing(); after != before {
		t.Errorf("the data directory changed from\n%sto\n%s", before, after)
	}
	v.serves(good)
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// begins sends the beginning of a request, until the peer stores what has come.
func (v *victim) begins(request string) net.Conn {
	v.t.Helper()
	for {
		v.ready()
		conn := v.dial(v.addr)
		if _, err := io.WriteString(conn, request); err != nil {
			v.t.Fatal(err)
		}
		stored := false
		v.until("half stored", func() bool {
			stored = strings.Contains(v.listing(), ".tmp-")
			return stored || v.stoodStill()
		})
		if stored {
			return conn
		}
		_ = conn.Close() // it may have been refused meanwhile
	}
}

// A client that goes away in the middle leaves nothing behind, neither files nor goroutines.
func TestHostileGoneHalfWay(t *testing.T) {
	v := newVictim(t)
	good := tensorFile(goodModel())
	v.openSession(good)
	v.serves(good)
	seeds := form("config", calm, "seed", string(good))
	goroutines := runtime.NumGoroutine()
	for name, c := range map[string]struct {
		head string
		body []byte
	}{
		"push":            {fmt.Sprintf("PUT %s?weight=1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", updatesOfX, len(good)), good},
		"push in chunks":  {fmt.Sprintf("PUT %s?weight=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", updatesOfX, len(good)), good},
		"session":         {fmt.Sprintf("PUT /v1/sessions/other HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", formHeader.Get("Content-Type"), len(seeds)), seeds},
		"a peer's copy":   {v.copyHead(good, `{"id":"u","weight":1,"base":"`+v.base()+`"}`), good},
		"a peer's chunks": {strings.Replace(v.copyHead(good, `{"id":"u","weight":1,"base":"`+v.base()+`"}`), fmt.Sprintf("Content-Length: %d\r\n\r\n", len(good)), fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", len(good)), 1), good},
	} {
		t.Run(name, func(t *testing.T) {
			v.t = t
			before := v.listing()
			for _, part := range []int{len(c.body) / 2, len(c.body) - 1} {
				conn := v.begins(c.head + string(c.body[:part]))
				_ = conn.Close()
				v.until("rid of what a client left behind", func() bool { return v.listing() == before })
			}
			// One that says that it is done, and listens.
			got := v.steady(func() answer {
				conn := v.dial(v.addr)
				if _, err := io.WriteString(conn, c.head+string(c.body[:len(c.body)/2])); err != nil {
					t.Fatal(err)
				}
				if half, ok := conn.(*net.TCPConn); !ok || half.CloseWrite() != nil {
					t.Fatal("half the connection could not be closed")
				}
				return v.answer(conn)
			})
			if got.status != http.StatusBadRequest {
				t.Errorf("half a body is answered with %d: %s", got.status, got.body)
			}
			v.until("rid of half a body", func() bool { return v.listing() == before })
		})
	}
	v.t = t
	v.serves(good)
	v.settled(goroutines)
}
