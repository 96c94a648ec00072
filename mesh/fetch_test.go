package mesh_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh"
	"github.com/fedmesh/fedmesh/mesh/api"
)

// Models and updates are taken from another peer when those that are asked first stand still, be it before the first byte or in the middle.
func TestFetchingDoesNotWaitForWhoStandsStill(t *testing.T) {
	for _, after := range []int{0, 50_000} {
		t.Run(fmt.Sprintf("after %d bytes", after), func(t *testing.T) {
			bubble(t, func(t *testing.T, c *cluster) {
				rng := rand.New(rand.NewPCG(7, uint64(after)))
				c.up("a", "b", "c", "d")
				const n = 40_000
				c.open("a", "s", random(rng, n), func(s *api.SessionConfig) {
					s.TargetCombiners, s.Copies, s.SettleTimeout = 2, 3, seconds(0.1)
				})
				c.train(rng, n)
				c.kill("d")
				for round := 2; round <= 4; round++ {
					base := c.session("a", "s").Model
					c.push("a", "s", named(fmt.Sprint("u", round), from(base, "x", 1)), random(rng, n))
					c.push("a", "s", named(fmt.Sprint("u", round), from(base, "y", 1)), random(rng, n))
					c.settles("s", round, "a", "b", "c")
				}
				c.stands("blobs", after, "a", "b")
				c.up("d")
				began := time.Now()
				c.settles("s", 4, "d")
				if took := time.Since(began); took > time.Second {
					t.Errorf("the last model took %v", took)
				}
				for round := range uint64(4) {
					began = time.Now()
					c.pull("d", "s", api.PullOptions{Round: &round})
					if took := time.Since(began); took > time.Second {
						t.Errorf("the model of round %d took %v", round, took)
					}
				}
				c.final("s", 4)
				c.counted("s", c.agree("s"))
			})
		})
	}
}

// Whether anybody knows a base is found out without waiting for one peer that does not answer after the other.
func TestPeersAreAskedAround(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(9, 9))
		c.up("a", "b", "c", "d")
		c.open("a", "s", random(rng, 10), nil)
		c.stands("entries", 0, "a", "b", "c")
		began := time.Now()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut,
			"http://d:80/v1/sessions/s/updates/x?weight=1&base="+digest(file(1)), bytes.NewReader(random(rng, 10)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Transport{DialContext: c.dialer("client"), DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("an update with a base that nobody knows: %s", resp.Status)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it was refused after %v", took)
		}
		c.mu.Lock()
		clear(c.standing)
		c.mu.Unlock()
	})
}

// Who asks for a file and then reads nothing is not waited for for ever.
func TestReadersThatStopAreLeft(t *testing.T) {
	bubble(t, func(t *testing.T, c *cluster) {
		rng := rand.New(rand.NewPCG(8, 8))
		c.tune = func(cfg *mesh.Config) { cfg.StallAfter = 10 * time.Second }
		c.up("a")
		seed := random(rng, 1<<20)
		c.open("a", "s", seed, nil)
		conn, err := c.dialer("x")(context.Background(), "tcp", "a:80")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if _, err := fmt.Fprintf(conn, "GET /v1/peer/blobs/%s HTTP/1.1\r\nHost: a\r\nFedmesh-Mesh: fedmesh/1\r\n\r\n", digest(seed)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if n, err := io.Copy(io.Discard, resp.Body); err == nil || n >= int64(len(seed)) {
			t.Errorf("%d bytes of %d after a minute, %v", n, len(seed), err)
		}

		// One that reads slowly gets it all.
		slow, err := c.dialer("x")(context.Background(), "tcp", "a:80")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = slow.Close() }()
		if _, err := fmt.Fprintf(slow, "GET /v1/peer/blobs/%s HTTP/1.1\r\nHost: a\r\nFedmesh-Mesh: fedmesh/1\r\n\r\n", digest(seed)); err != nil {
			t.Fatal(err)
		}
		resp, err = http.ReadResponse(bufio.NewReaderSize(&sluggish{slow}, 64<<10), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(len(seed)) {
			t.Errorf("%d bytes of %d, %v", n, len(seed), err)
		}
	})
}

// sluggish is a connection that is read slowly.
type sluggish struct{ net.Conn }

func (s *sluggish) Read(b []byte) (int, error) {
	time.Sleep(time.Second)
	return s.Conn.Read(b[:min(len(b), 64<<10)])
}
