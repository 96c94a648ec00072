package mesh_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// large is a model of 1.2 MB, which the in-memory network does not take at once.
func large(v float32) []byte {
	values := make([]float32, 300_000)
	for i := range values {
		values[i] = v + float32(i%97)
	}
	return file(values...)
}

// inFlight is what two connections of the in-memory network hold, and a little.
const inFlight = 2*256<<10 + 200_000

// sender is a tus client.
type sender struct {
	c    *cluster
	http *http.Client
}

func (c *cluster) sender() *sender {
	return &sender{c: c, http: c.net.HTTPClient("client")}
}

func (s *sender) close() { s.http.CloseIdleConnections() }

func (s *sender) do(method, url string, body io.Reader, length int64, header ...string) (*http.Response, error) {
	s.c.t.Helper()
	req, err := http.NewRequestWithContext(s.c.t.Context(), method, url, body)
	if err != nil {
		s.c.t.Fatal(err)
	}
	req.ContentLength = length
	req.Header.Set("Tus-Resumable", "1.0.0")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(b))
	return resp, err
}

// create begins an upload and returns its path.
func (s *sender) create(at, query string, length int) (string, error) {
	s.c.t.Helper()
	resp, err := s.do("POST", "http://"+at+":80/v1/sessions/s/updates/"+query, nil, 0, "Upload-Length", strconv.Itoa(length))
	if err != nil {
		return "", err
	}
	return resp.Header.Get("Location"), problemIn(resp)
}

// problemIn is the problem of an answer, or nil.
func problemIn(resp *http.Response) error {
	if resp.StatusCode < 400 {
		return nil
	}
	p := &api.Problem{}
	if json.NewDecoder(resp.Body).Decode(p) != nil {
		p = api.NewProblem("none", resp.StatusCode, resp.Status, "")
	}
	return p
}

// send brings a part of an upload: all of it, or with cut, that much of it, after which the connection breaks.
func (s *sender) send(at, path string, offset int, rest []byte, cut int) error {
	s.c.t.Helper()
	var body io.Reader = bytes.NewReader(rest)
	if cut > 0 {
		body = io.MultiReader(bytes.NewReader(rest[:cut]), broken{})
	}
	resp, err := s.do("PATCH", "http://"+at+":80"+path, body, int64(len(rest)), "Content-Type", "application/offset+octet-stream", "Upload-Offset", strconv.Itoa(offset))
	if err != nil {
		return err
	}
	return problemIn(resp)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("broken by the test") }

// head returns where an upload stands.
func (s *sender) head(at, path string) (int, error) {
	s.c.t.Helper()
	resp, err := s.do("HEAD", "http://"+at+":80"+path, nil, 0)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != 200 {
		return 0, problemIn(resp)
	}
	return strconv.Atoi(resp.Header.Get("Upload-Offset"))
}

// receipt fetches a receipt, which is noted as any other.
func (s *sender) receipt(at, path string) api.Receipt {
	s.c.t.Helper()
	resp, err := s.do("GET", "http://"+at+":80"+path, nil, 0)
	if err == nil {
		err = problemIn(resp)
	}
	var r api.Receipt
	if err == nil {
		err = json.NewDecoder(resp.Body).Decode(&r)
	}
	if err != nil {
		s.c.t.Fatalf("receipt of %s at %s: %v", path, at, err)
	}
	s.c.acked = append(s.c.acked, r)
	return r
}

// second is where an update of this combiner and id is streamed to from a: the one that has some of it.
func (c *cluster) second(s *sender, path string) (name string, offset int) {
	c.t.Helper()
	for _, name := range c.running() {
		if name == "a" {
			continue
		}
		if n, err := s.head(name, path); err == nil {
			return name, n
		}
	}
	c.t.Fatal("no other peer has any of the upload")
	return "", 0
}

// clean waits until nothing is left of uploads but what is kept: no temporary file, and no reservation, as MaxDisk tells.
func (c *cluster) clean() {
	c.t.Helper()
	c.eventually(time.Minute, func() error {
		for _, name := range c.running() {
			if tmp, err := filepath.Glob(filepath.Join(c.dir, name, "blobs", ".tmp-*")); err != nil || len(tmp) > 0 {
				return fmt.Errorf("%s: left over: %v, %w", name, tmp, err)
			}
		}
		return nil
	})
}

// uploads runs f in a bubble with three peers and an open session of large models.
func uploads(t *testing.T, f func(t *testing.T, c *cluster, s *sender, body []byte)) {
	bubble(t, func(t *testing.T, c *cluster) {
		c.up("a", "b", "c")
		c.open("a", "s", large(0), func(s *api.SessionConfig) { s.TargetCombiners, s.RoundTimeout = 2, seconds(3600) })
		s := c.sender()
		defer s.close()
		body := large(1)
		c.keep(body)
		f(t, c, s, body)
	})
}

// finish completes the round and checks that all is counted once.
func (c *cluster) finish(at string) {
	c.t.Helper()
	c.push(at, "s", weighted("other", 1), large(2))
	c.final("s", 1)
	rounds := c.agree("s")
	c.counted("s", rounds)
	if n := len(rounds[0].Updates); n != 2 {
		c.t.Errorf("%d updates in round 1: %s", n, text(rounds))
	}
	c.clean()
}
