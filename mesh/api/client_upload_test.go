package api_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/upload"
)

// cutting dials connections that break once the given number of bytes has gone over one, for each of the numbers.
type cutting struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu     sync.Mutex
	after  []int64
	onCut  func(cut int)
	cuts   int
	handed atomic.Int64 // bytes written to all connections
}

func (c *cutting) dialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := c.dial(ctx, network, addr)
	return &cutConn{Conn: conn, c: c}, err
}

type cutConn struct {
	net.Conn
	c *cutting
	n int64
}

func (c *cutConn) Write(b []byte) (int, error) {
	c.c.mu.Lock()
	cut := len(c.c.after) > 0 && c.n+int64(len(b)) > c.c.after[0]
	if cut {
		b = b[:c.c.after[0]-c.n]
		c.c.after = c.c.after[1:]
		c.c.cuts++
	}
	cuts := c.c.cuts
	c.c.mu.Unlock()
	n, err := c.Conn.Write(b)
	c.n += int64(n)
	c.c.handed.Add(int64(n))
	if cut {
		_ = c.Close()
		if c.c.onCut != nil {
			c.c.onCut(cuts)
		}
		return n, errors.New("cut by the test")
	}
	return n, err
}

// takers serves peers that take uploads into the same set, as if all that comes to one were streamed to the others at once.
func (m *mesh) takers(f *taker, names ...string) {
	for _, name := range names {
		srv := api.NewServer(f, api.ServerOptions{Logger: zerolog.Nop()})
		m.host(name, srv)
		m.t.Cleanup(srv.Close)
	}
}

func bodyOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return b
}

// uploading runs fn in a bubble with a mesh whose peers take uploads.
func uploading(t *testing.T, fn func(t *testing.T, m *mesh, f *taker)) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		f := newFake().with("s", someModel(t, 4, 1))
		f.changed = make(chan struct{})
		taker := taking(f, upload.Options{})
		t.Cleanup(taker.set.Close)
		fn(t, m, taker)
	})
}

func TestPushResumes(t *testing.T) {
	for _, seekable := range []bool{true, false} {
		uploading(t, func(t *testing.T, m *mesh, f *taker) {
			m.takers(f, "a", "b")
			body := bodyOf(3 << 20)
			source := api.Bytes(body)
			if !seekable {
				source = func() (io.ReadCloser, int64, error) {
					return io.NopCloser(io.MultiReader(bytes.NewReader(body))), int64(len(body)), nil
				}
			}
			cut := &cutting{dial: m.dial, after: []int64{1 << 20, 500_000, 100, 100, 1 << 20}}
			c := client(t, api.ClientOptions{DialContext: cut.dialContext, ResumeFrom: 1 << 20}, "a:80", "b:80")
			r, err := c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 7, Base: "latest"}, source)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(r.ID, "r0-") || r.Duplicate || len(f.bodies) != 1 || !bytes.Equal(f.bodies[0], body) || cut.cuts != 5 {
				t.Errorf("%+v, %d pushes, %d cuts", r, len(f.bodies), cut.cuts)
			}
			if hosts := m.hosts(); strings.Contains(hosts, "b") {
				t.Errorf("it did not stay with the peer it was at: %s", hosts)
			}
			if again := cut.handed.Load() - int64(len(body)); again > 1<<20 {
				t.Errorf("%d bytes were sent again", again)
			}
			// A second time it is found to be there.
			if r, err := c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 7, Base: "latest"}, source); err != nil || !r.Duplicate {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// TestPushResumesElsewhere kills the peer in the middle; another has what came.
func TestPushResumesElsewhere(t *testing.T) {
	uploading(t, func(t *testing.T, m *mesh, f *taker) {
		m.takers(f, "b", "d")
		m.peer("c", newFake().with("s", someModel(t, 4, 1))) // has nothing of it
		srv := api.NewServer(f, api.ServerOptions{Logger: zerolog.Nop()})
		defer srv.Close()
		stop := m.serve("a:80", srv.HTTPServer(srv))
		body := bodyOf(3 << 20)
		cut := &cutting{dial: m.dial, after: []int64{2 << 20}, onCut: func(int) { stop() }}
		c := client(t, api.ClientOptions{DialContext: cut.dialContext, ResumeFrom: 1 << 20}, "a:80", "c:80", "b:80")
		r, err := c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 7, Base: "latest"}, api.Bytes(body))
		if err != nil || r.Duplicate || len(f.bodies) != 1 || !bytes.Equal(f.bodies[0], body) {
			t.Fatalf("%+v, %v, %d pushes", r, err, len(f.bodies))
		}
		if again := cut.handed.Load() - int64(len(body)); again > 1<<20 {
			t.Errorf("%d bytes were sent again", again)
		}
	})
}

// TestPushBeginsAnew checks what a client does when all is lost: the peer forgets the upload, or only knows PUT.
func TestPushBeginsAnew(t *testing.T) {
	uploading(t, func(t *testing.T, m *mesh, f *taker) {
		m.takers(f, "a")
		body := bodyOf(3 << 20)
		var name atomic.Value
		m.host("b", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusMethodNotAllowed) }))
		cut := &cutting{dial: m.dial, after: []int64{1 << 20}}
		cut.onCut = func(int) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, call := range m.calls {
				if _, at, ok := strings.Cut(call, "PATCH /v1/uploads/"); ok {
					name.Store(at)
					_ = f.set.End(at)
				}
			}
		}
		c := client(t, api.ClientOptions{DialContext: cut.dialContext, ResumeFrom: 1 << 20}, "a:80")
		if _, err := c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 7, ID: "u"}, api.Bytes(body)); err != nil || name.Load() == nil {
			t.Fatalf("%v, ended %v", err, name.Load())
		}
		if last := f.bodies[len(f.bodies)-1]; !bytes.Equal(last, body) {
			t.Errorf("%d bytes of %d", len(last), len(body))
		}
		plain := newFake().with("s", someModel(t, 4, 1))
		m.peer("c", plain)
		if _, err := m.client(api.ClientOptions{ResumeFrom: 1 << 20}, "b", "c").Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 7, ID: "u"}, api.Bytes(body)); err == nil {
			t.Error("405 to PUT is an answer")
		}
		if _, err := m.client(api.ClientOptions{ResumeFrom: 1 << 20}, "c").Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 7, ID: "u"}, api.Bytes(body)); err != nil || len(plain.bodies) != 1 {
			t.Errorf("%v, %d pushes", err, len(plain.bodies))
		}
	})
}

// TestPushPutsSmallOnes checks which updates go by PUT.
func TestPushPutsSmallOnes(t *testing.T) {
	uploading(t, func(t *testing.T, m *mesh, f *taker) {
		m.takers(f, "a")
		c := m.client(api.ClientOptions{ResumeFrom: 1000}, "a")
		for _, v := range []struct {
			size int
			o    api.PushOptions
			put  bool
		}{
			{999, api.PushOptions{ID: "u"}, true},
			{1000, api.PushOptions{ID: "v"}, false},
			{1000, api.PushOptions{}, true}, // without base and id only its digest is its name
		} {
			v.o.Combiner, v.o.Weight = "c", 1
			if _, err := c.Push(t.Context(), "s", v.o, api.Bytes(bodyOf(v.size))); err != nil {
				t.Fatal(err)
			}
			m.mu.Lock()
			calls := strings.Join(m.calls, "\n")
			m.calls = nil
			m.mu.Unlock()
			if put := strings.Contains(calls, "PUT"); put != v.put {
				t.Errorf("%d bytes, %+v: %s", v.size, v.o, calls)
			}
		}
	})
}

// TestPushGivesUp checks that a push that ends early leaves nothing behind.
func TestPushGivesUp(t *testing.T) {
	uploading(t, func(t *testing.T, m *mesh, f *taker) {
		m.takers(f, "a")
		ctx, cancel := context.WithCancel(t.Context())
		cut := &cutting{dial: m.dial, after: []int64{1 << 20}, onCut: func(int) { cancel() }}
		c := client(t, api.ClientOptions{DialContext: cut.dialContext, ResumeFrom: 1 << 20}, "a:80")
		if _, err := c.Push(ctx, "s", api.PushOptions{Combiner: "c", Weight: 7, ID: "u"}, api.Bytes(bodyOf(3<<20))); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		last := m.calls[len(m.calls)-1]
		if !strings.HasPrefix(last, "a DELETE /v1/uploads/") {
			t.Errorf("the last call: %s", last)
		}
	})
}

// TestPushThroughRefusals checks that a refusal of the content ends the push, at once.
func TestPushThroughRefusals(t *testing.T) {
	uploading(t, func(t *testing.T, m *mesh, f *taker) {
		f.onPush = func(_ context.Context, req api.PushRequest) (api.Receipt, error) {
			_, err := io.ReadFull(req.Body, make([]byte, 1<<20))
			if err == nil {
				err = api.InvalidValue("w", 3, "NaN", "")
			}
			return api.Receipt{}, err
		}
		m.takers(f, "a", "b")
		start := time.Now()
		c := m.client(api.ClientOptions{ResumeFrom: 1 << 20}, "a", "b")
		_, err := c.Push(t.Context(), "s", api.PushOptions{Combiner: "c", Weight: 7, ID: "u"}, api.Bytes(bodyOf(3<<20)))
		if !api.TypeInvalidValue.Is(err) || time.Since(start) > 10*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if hosts := m.hosts(); strings.Contains(hosts, "b") {
			t.Errorf("others were asked: %s", hosts)
		}
	})
}
