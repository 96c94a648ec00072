package upload_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/upload"
)

// keeper is work that keeps what it reads.
type keeper struct {
	mu     sync.Mutex
	got    []byte
	ended  error // what Take returned
	begins error // what it is refused for at once
	refuse int   // bytes after which it is refused; 0: never
	unheld int   // tries of Finish that fail
	tries  int
}

var errRefused = api.InvalidValue("w", 3, "NaN", "")

func (k *keeper) Take(_ context.Context, body io.Reader) (err error) {
	defer func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.ended = err
	}()
	if k.begins != nil {
		return k.begins
	}
	buf := make([]byte, 7)
	for {
		n, err := body.Read(buf)
		k.mu.Lock()
		k.got = append(k.got, buf[:n]...)
		enough := k.refuse > 0 && len(k.got) >= k.refuse
		k.mu.Unlock()
		switch {
		case enough:
			return fmt.Errorf("checking: %w", errRefused)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading: %w", err)
		}
	}
}

func (k *keeper) Finish(context.Context) (api.Receipt, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tries++
	if k.tries <= k.unheld {
		return api.Receipt{}, api.Unavailable("no copies", time.Second)
	}
	return api.Receipt{ID: string(k.got), Copies: []string{"a"}}, nil
}

func (k *keeper) state() (got string, ended error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return string(k.got), k.ended
}

// bubble runs f with a set whose uploads go to the keeper it is given last.
func bubble(t *testing.T, o upload.Options, f func(t *testing.T, s *upload.Set, next func(*keeper))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{}
		s := upload.New(func(string, api.PushRequest) upload.Work { return k }, o)
		defer s.Close()
		f(t, s, func(n *keeper) { k = n })
	})
}

func create(t *testing.T, s *upload.Set, length int64) api.Upload {
	t.Helper()
	u, err := s.Create(t.Context(), api.PushRequest{Length: length}, "")
	if err != nil {
		t.Fatal(err)
	}
	if u.Offset != 0 || u.Length != length || upload.CheckName(u.Name) != nil {
		t.Fatalf("created %+v", u)
	}
	return u
}

// wire is a connection that brings what is written to it.
type wire struct {
	r    *io.PipeReader
	w    *io.PipeWriter
	done chan error // of Write
	at   api.Upload // known when done
}

// Interrupt implements api.UploadBody.
func (c *wire) Interrupt() { _ = c.r.CloseWithError(os.ErrDeadlineExceeded) }

func (c *wire) Read(p []byte) (int, error) { return c.r.Read(p) }

// connect has a wire bring an upload from an offset on.
func connect(t *testing.T, s *upload.Set, name string, offset, length int64) *wire {
	t.Helper()
	c := &wire{done: make(chan error, 1)}
	c.r, c.w = io.Pipe()
	go func() {
		var err error
		c.at, err = s.Write(t.Context(), name, offset, c, length)
		_ = c.r.CloseWithError(io.ErrClosedPipe)
		c.done <- err
	}()
	return c
}

// bring writes, and tells how the connection ended if it did.
func (c *wire) bring(text string) error {
	_, err := io.WriteString(c.w, text)
	return err
}

// end waits for the end of the connection, and tells how that was.
func (c *wire) end() error { return <-c.done }

// breakOff ends the connection before its time.
func (c *wire) breakOff() { _ = c.w.CloseWithError(io.ErrUnexpectedEOF) }
