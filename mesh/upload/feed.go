package upload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

// feed is a connection that brings a part of an upload.
type feed struct {
	body    api.UploadBody
	length  int64         // -1: unknown
	reading bool          // the work's goroutine is in body.Read, or about to be
	cut     bool          // it is to end
	over    chan struct{} // closed when body is read no more
	err     error         // why it ended early, known when over
}

// errCut says that somebody else goes on with the upload.
var errCut = errors.New("cut off")

// feedFrom has the work read from body until that ends, breaks or is cut off, or the work has failed. Only who is not where the upload stands, or
// was cut off, gets an error: how far it came, and what came of it, is for the caller to see.
func (u *upload) feedFrom(ctx context.Context, offset int64, body api.UploadBody, length int64) error {
	f := &feed{body: body, length: length, over: make(chan struct{})}
	if attached, err := u.attach(f, offset); !attached {
		return err
	}
	select {
	case <-f.over:
	case <-ctx.Done():
		u.mu.Lock()
		u.cut(f)
		u.mu.Unlock()
		<-f.over
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if errors.Is(f.err, errCut) && ctx.Err() == nil && u.end == nil {
		return api.UploadConflict("another connection has taken over", u.offset)
	}
	return nil
}

// attach makes f the connection that the work reads from; false with nil where nothing is to be read.
func (u *upload) attach(f *feed, offset int64) (bool, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for {
		left := u.length - u.offset
		switch {
		case u.end != nil: // the caller sees
			return false, nil
		case offset != u.offset:
			return false, api.UploadConflict(fmt.Sprintf("the bytes are from %d on, the upload stands at %d", offset, u.offset), u.offset)
		case f.length > left:
			return false, api.InvalidRequest("Content-Length",
				fmt.Errorf("%d bytes at offset %d of an upload of %d bytes", f.length, offset, u.length))
		case left == 0 || f.length == 0:
			return false, nil
		case u.feed == nil:
			u.feed = f
			u.notify()
			return true, nil
		}
		old := u.feed
		u.cut(old)
		u.mu.Unlock()
		<-old.over
		u.mu.Lock()
	}
}

// cut ends a connection. It is called with mu held.
func (u *upload) cut(f *feed) {
	f.cut = true
	switch {
	case u.feed != f: // over
	case f.reading:
		f.body.Interrupt()
	default:
		u.drop(f, errCut)
	}
}

// drop lets go a connection that is not being read. It is called with mu held.
func (u *upload) drop(f *feed, err error) {
	u.feed = nil
	f.err = err
	close(f.over)
	u.notify()
}

// settle returns when no connection brings the upload any more. What is on its way may arrive; then it is cut off.
func (u *upload) settle(ctx context.Context) {
	u.mu.Lock()
	defer u.mu.Unlock()
	begun := time.Now()
	for f := u.feed; f != nil; f = u.feed {
		before := u.offset
		u.mu.Unlock()
		timer := time.NewTimer(quiet)
		select {
		case <-f.over:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		u.mu.Lock()
		if u.feed == f && (u.offset == before || time.Since(begun) >= hasty) {
			u.cut(f)
			u.mu.Unlock()
			<-f.over
			u.mu.Lock()
		}
	}
}
