package mesh_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
)

func TestUploadResumesWhereItWas(t *testing.T) {
	uploads(t, func(t *testing.T, c *cluster, s *sender, body []byte) {
		path, err := s.create("a", "x?weight=3&id=u&metric.loss=0.5", len(body))
		if err != nil {
			t.Fatal(err)
		}
		offset := 0
		for _, cut := range []int{10, 500_000, 1, 400_000} {
			if err := s.send("a", path, offset, body[offset:], cut); err == nil {
				t.Fatal("a broken connection is answered")
			}
			time.Sleep(30 * time.Second)
			n, err := s.head("a", path)
			if err != nil || n < offset || n > offset+cut {
				t.Fatalf("stands at %d after %d+%d, %v", n, offset, cut, err)
			}
			offset = n
		}
		if offset < 900_000-4*4096 {
			t.Errorf("%d bytes of 900,011 were kept", offset)
		}
		streams := c.requests("updates")
		if err := s.send("a", path, offset, body[offset:], 0); err != nil {
			t.Fatal(err)
		}
		r := s.receipt("a", path)
		if len(r.Copies) != 2 || r.Copies[0] != "a" || r.ID != "u" || r.Digest != digest(body) || r.Duplicate {
			t.Errorf("receipt %+v", r)
		}
		if n := c.requests("updates"); streams != 1 || n != 1 {
			t.Errorf("%d streams to other peers, then %d; one that outlives the client's connections is enough", streams, n)
		}
		c.finish("b")
	})
}

// The acceptor dies in the middle: the peer it streamed to goes on.
func TestUploadOutlivesItsAcceptor(t *testing.T) {
	for _, after := range []time.Duration{0, time.Minute} { // which has a take the client for gone, and b a
		uploads(t, func(t *testing.T, c *cluster, s *sender, body []byte) {
			path, err := s.create("a", "x?weight=3&id=u", len(body))
			if err != nil {
				t.Fatal(err)
			}
			const sent = 1_000_000
			_ = s.send("a", path, 0, body, sent)
			time.Sleep(after)
			c.kill("a")
			b, offset := c.second(s, path)
			if offset < sent-inFlight || offset > sent {
				t.Fatalf("%s has %d bytes of %d", b, offset, sent)
			}
			if err := s.send(b, path, offset, body[offset:], 0); err != nil {
				t.Fatal(err)
			}
			r := s.receipt(b, path)
			if !slices.Equal(r.Copies, []string{"b", "c"}) || r.Digest != digest(body) || r.Duplicate {
				t.Errorf("receipt %+v", r)
			}
			for _, name := range r.Copies {
				if !c.holds(name, r.Digest) {
					t.Errorf("%s does not hold it", name)
				}
			}
			c.up("a")
			if _, err := s.head("a", path); err == nil {
				t.Error("a, restarted, claims to have some of it")
			}
			c.finish("a")
		})
	}
}

// The acceptor dies with all bytes, before the client hears of it: no byte is sent again.
func TestUploadWhoseAnswerIsLost(t *testing.T) {
	uploads(t, func(t *testing.T, c *cluster, s *sender, body []byte) {
		path, err := s.create("a", "x?weight=3&id=u", len(body))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.send("a", path, 0, body, 0); err != nil {
			t.Fatal(err)
		}
		c.kill("a")
		b, offset := c.second(s, path)
		if offset != len(body) {
			t.Fatalf("%s has %d bytes of %d", b, offset, len(body))
		}
		if r := s.receipt(b, path); !slices.Equal(r.Copies, []string{"b", "c"}) || r.Duplicate {
			t.Errorf("receipt %+v", r)
		}
		c.up("a")
		c.finish("b")
	})
}

// The client comes to the second holder while the acceptor still streams to it.
func TestUploadIsTakenOver(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", large(0), func(s *api.SessionConfig) { s.TargetCombiners, s.Copies, s.RoundTimeout = 2, 3, seconds(3600) })
		s := c.sender()
		defer s.close()
		body := large(1)
		c.keep(body)
		path, err := s.create("a", "x?weight=3&id=u", len(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = s.send("a", path, 0, body, 700_000)
		b, offset := c.second(s, path)
		if err := s.send(b, path, offset, body[offset:], 0); err != nil {
			t.Fatal(err)
		}
		first := s.receipt(b, path)
		// The first one has got the rest as a copy, and does not ask for it.
		n, err := s.head("a", path)
		if err != nil || len(first.Copies) != 3 || n != len(body) {
			t.Fatalf("a stands at %d, copies are at %v, %v", n, first.Copies, err)
		}
		if err := s.send("a", path, n, body[n:], 0); err != nil {
			t.Fatal(err)
		}
		r := s.receipt("a", path)
		if first.Duplicate || len(r.Copies) != 3 {
			t.Errorf("receipts %+v and %+v", first, r)
		}
		c.finish("a")
	})
}

// A peer that is stopped in order does as one that dies: others keep what it passed on.
func TestUploadOutlivesAStop(t *testing.T) {
	uploads(t, func(t *testing.T, c *cluster, s *sender, body []byte) {
		path, err := s.create("a", "x?weight=3&id=u", len(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = s.send("a", path, 0, body, 700_000)
		c.stop("a")
		time.Sleep(time.Second)
		b, offset := c.second(s, path)
		if offset < 700_000-inFlight {
			t.Errorf("%s has %d bytes of 700,000", b, offset)
		}
		if err := s.send(b, path, offset, body[offset:], 0); err != nil {
			t.Fatal(err)
		}
		s.receipt(b, path)
		c.up("a")
		c.finish("c")
	})
}

// Whatever an upload ends with, nothing of it is left at any peer, and there is room for others.
func TestUploadLeavesNothing(t *testing.T) {
	one := int64(len(large(0)))
	for name, end := range map[string]func(c *cluster, s *sender, path string, body []byte){
		"expired": func(c *cluster, s *sender, path string, _ []byte) {
			time.Sleep(10*time.Minute + 10*time.Second)
			if _, err := s.head("a", path); err == nil {
				c.t.Error("it has not expired")
			}
		},
		"given up": func(c *cluster, s *sender, path string, _ []byte) {
			if resp, err := s.do("DELETE", "http://a:80"+path, nil, 0); err != nil || resp.StatusCode != 204 {
				c.t.Errorf("%v, %v", resp, err)
			}
		},
		"refused": func(c *cluster, s *sender, path string, body []byte) {
			offset, err := s.head("a", path)
			if err != nil {
				c.t.Fatal(err)
			}
			bad := slices.Clone(body)
			copy(bad[len(bad)-100:], []byte{0, 0, 0xc0, 0x7f, 0, 0, 0xc0, 0x7f})
			err = s.send("a", path, offset, bad[offset:], 0)
			var p *api.Problem
			if !errors.As(err, &p) || p.Status != http.StatusUnprocessableEntity || p.Extra["tensor"] != "w" {
				c.t.Errorf("got %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				c.tune = func(cfg *mesh.Config) { cfg.MaxDisk = 2*one + one/2 }
				c.up("a", "b")
				c.open("a", "s", large(0), func(s *api.SessionConfig) { s.TargetCombiners, s.RoundTimeout = 2, seconds(3600) })
				s := c.sender()
				defer s.close()
				body := large(1)
				path, err := s.create("a", "x?weight=3&id=u", len(body))
				if err != nil {
					t.Fatal(err)
				}
				_ = s.send("a", path, 0, body, 700_000)
				time.Sleep(time.Second)
				// While it waits, it takes room at both.
				for _, at := range []string{"a", "b"} {
					if _, err := s.create(at, "y?weight=3&id=u", len(body)); err == nil {
						t.Errorf("%s has room for two", at)
					}
				}
				end(c, s, path, body)
				c.clean()
				r := c.push("b", "s", weighted("y", 1), large(3))
				if len(r.Copies) != 2 {
					t.Errorf("copies %v", r.Copies)
				}
			})
		})
	}
}

// A second connection that is where the upload stands goes on with it; no other disturbs it.
func TestUploadTwice(t *testing.T) {
	uploads(t, func(t *testing.T, c *cluster, s *sender, body []byte) {
		path, err := s.create("a", "x?weight=3&id=u", len(body))
		if err != nil {
			t.Fatal(err)
		}
		errs := make(chan error, 4)
		for range cap(errs) {
			go func() { errs <- s.send("a", path, 0, body, 0) }()
		}
		good := 0
		for range cap(errs) {
			err := <-errs
			var p *api.Problem
			var op *net.OpError
			switch {
			case err == nil:
				good++
			case errors.As(err, &p) && p.Status == http.StatusConflict, errors.As(err, &op), strings.Contains(err.Error(), "connection"):
			default:
				t.Errorf("got %v", err)
			}
		}
		if good != 1 {
			t.Errorf("%d of them brought it", good)
		}
		s.receipt("a", path)
		c.finish("a")
	})
}

// Whoever begins uploads without end gets so many, which take room only until they expire.
func TestUploadsWithoutEnd(t *testing.T) {
	uploads(t, func(t *testing.T, c *cluster, s *sender, body []byte) {
		begun, refused := 0, 0
		for i := range 1000 {
			_, err := s.create("a", fmt.Sprintf("x%d?weight=3&id=u", i), math.MaxInt32)
			var p *api.Problem
			switch {
			case err == nil:
				begun++
			case errors.As(err, &p) && p.Status == http.StatusServiceUnavailable && p.RetryAfter >= 0:
				refused++
			default:
				t.Fatal(err)
			}
		}
		if begun != 256 || refused != 744 {
			t.Errorf("%d begun, %d refused", begun, refused)
		}
		if n := len(c.blobs("b")); n != 1 {
			t.Errorf("%d files at b of uploads that brought nothing", n)
		}
		time.Sleep(time.Minute + 10*time.Second)
		c.clean()
		path, err := s.create("a", "x?weight=3&id=u", len(body))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.send("a", path, 0, body, 0); err != nil {
			t.Fatal(err)
		}
		s.receipt("a", path)
		c.finish("a")
	})
}

// The client does all of this by itself.
func TestClientGoesOnAtTheSecondHolder(t *testing.T) {
	uploads(t, func(t *testing.T, c *cluster, _ *sender, body []byte) {
		base := c.session("a", "s").Model
		killed := make(chan struct{})
		var sent atomic.Int64
		dial := c.dialer("client")
		client, err := api.NewClient([]string{"a:80", "b:80", "c:80"}, api.ClientOptions{
			ResumeFrom: 1000, MaxBackoff: time.Second,
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := dial(ctx, network, addr)
				return &watchedConn{conn, func(n int) {
					if now := sent.Add(int64(n)); now >= 1_000_000 && now-int64(n) < 1_000_000 {
						close(killed)
					}
				}}, err
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		done := make(chan error)
		var r api.Receipt
		go func() {
			var err error
			r, err = client.Push(t.Context(), "s", from(base, "x", 3), api.Bytes(body))
			done <- err
		}()
		<-killed
		c.kill("a")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		c.acked = append(c.acked, r)
		if !slices.Equal(r.Copies, []string{"b", "c"}) || r.Duplicate {
			t.Errorf("receipt %+v", r)
		}
		if again := sent.Load() - int64(len(body)); again > inFlight {
			t.Errorf("%d bytes were sent again", again)
		}
		c.up("a")
		c.finish("a")
	})
}

// watchedConn tells how much is written to it.
type watchedConn struct {
	net.Conn
	wrote func(n int)
}

func (c *watchedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.wrote(n)
	return n, err
}

// A peer that is closed while uploads wait lets go all of them.
func TestCloseEndsUploads(t *testing.T) {
	uploads(t, func(t *testing.T, c *cluster, s *sender, body []byte) {
		for i := range 3 {
			path, err := s.create("a", fmt.Sprintf("x%d?weight=3&id=u", i), len(body))
			if err != nil {
				t.Fatal(err)
			}
			_ = s.send("a", path, 0, body, 100_000*(i+1))
		}
		synctest.Wait()
		for _, name := range c.running() {
			c.stop(name)
		}
		c.up("a", "b", "c")
		c.clean()
	})
}
