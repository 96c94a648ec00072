package main

import (
	"context"
	"io"
	"net"
	"sync"

	"github.com/fedmesh/fedmesh/mesh/meshtest/process"
)

// Stages of a push, as its combiner sees it.
const (
	stageNone    = iota
	stageSending // bytes of the update are on their way
	stageSent    // all of them are, and there is no receipt yet
)

// upload follows one combiner's push. It knows which process is spoken to by
// looking at the connections that are written to.
type upload struct {
	mu sync.Mutex
	stand
}

// stand is what an upload is at.
type stand struct {
	to    string // host:port that was written to last
	stage int
	key   process.Key
}

func (u *upload) now() stand {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stand
}

func (u *upload) set(stage int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stage = stage
}

// begin names the update that is pushed next.
func (u *upload) begin(key process.Key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stage, u.key = stageNone, key
}

// body is the update for one attempt.
func (u *upload) body(r io.Reader, size int) io.ReadCloser {
	u.set(stageNone)
	return &watchedUpload{r: r, left: size, upload: u}
}

type watchedUpload struct {
	r      io.Reader
	left   int
	upload *upload
}

// Read implements io.Reader.
func (w *watchedUpload) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if w.left -= n; n > 0 && w.left > 0 {
		w.upload.set(stageSending)
	} else if n > 0 {
		w.upload.set(stageSent)
	}
	return n, err
}

// Close implements io.Closer.
func (w *watchedUpload) Close() error { return nil }

// dial makes connections that tell the upload when they are written to.
func (u *upload) dial(dial dialer) dialer {
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &watchedConn{Conn: c, addr: addr, upload: u}, nil
	}
}

type watchedConn struct {
	net.Conn
	addr   string
	upload *upload
}

// Write implements net.Conn.
func (c *watchedConn) Write(p []byte) (int, error) {
	c.upload.mu.Lock()
	c.upload.to = c.addr
	c.upload.mu.Unlock()
	return c.Conn.Write(p)
}
