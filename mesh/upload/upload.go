package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/fedmesh/fedmesh/mesh/api"
)

type stage uint8

const (
	taking stage = iota // the work reads the body
	kept                // the work has it
	failed              // it never will
)

// Why uploads end that nothing is wrong with.
var (
	errEnded   = api.NewProblem(api.TypeUnknownUpload, 404, "Unknown upload", "the upload was ended")
	errExpired = api.NewProblem(api.TypeUnknownUpload, 404, "Unknown upload", "the upload was ended, since nothing came for too long")
	errClosing = api.Unavailable("this peer is stopping", time.Second)
)

// upload is one body and what becomes of it.
type upload struct {
	set    *Set
	name   string
	length int64
	meta   string
	work   Work
	eager  bool // finished without being asked
	born   time.Time
	ctx    context.Context //nolint:containedctx // its own, and its work's
	cancel context.CancelFunc

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced when anything below but offset and moved changes
	offset    int64         // changed by the work's goroutine only
	moved     time.Time     // when the last byte was taken
	feed      *feed         // the connection that brings it
	waits     bool          // the work has asked for a byte
	wanted    bool          // a client has come for it
	stage     stage
	end       error     // why the stage is failed, or is to be
	since     time.Time // when the stage became what it is
	finishing bool
	unheld    error // why the last try to finish it failed
	receipt   *api.Receipt
}

// run has the work take the body.
func (u *upload) run() {
	err := u.work.Take(u.ctx, reader{u})
	u.mu.Lock()
	u.since = time.Now()
	if err == nil {
		u.stage = kept
	} else {
		u.stage = failed
		if u.end == nil {
			u.end = err
		}
	}
	if u.feed != nil {
		u.drop(u.feed, nil)
	}
	gone := u.stage == failed && (errors.Is(u.end, errExpired) || errors.Is(u.end, errEnded))
	finish := u.stage == kept && u.eager
	u.finishing = finish
	u.notify()
	u.mu.Unlock()
	if gone {
		u.set.remove(u)
	}
	if finish {
		u.finish()
	}
}

// finish makes one try to finish it. finishing was set by the caller.
func (u *upload) finish() {
	ctx, cancel := context.WithTimeout(u.ctx, u.set.opts.Finish)
	defer cancel()
	r, err := u.work.Finish(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.finishing, u.unheld, u.since = false, err, time.Now()
	if err == nil {
		u.receipt = &r
	}
	u.notify()
}

// notify wakes who waits for a change. It is called with mu held.
func (u *upload) notify() {
	close(u.changed)
	u.changed = make(chan struct{})
}

// reader is the body as the work sees it.
type reader struct{ u *upload }

// Read reads from whichever connection brings the body, and waits while there is none.
func (r reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		f, err := r.u.next()
		if err != nil {
			return 0, err
		}
		if n, err := r.u.pull(f, p); n > 0 || err != nil {
			return n, err
		}
	}
}

// next returns the connection to read from.
func (u *upload) next() (*feed, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for {
		left := time.Until(u.expires())
		switch {
		case u.end != nil:
			return nil, u.end
		case u.feed == nil && u.offset == u.length:
			return nil, io.EOF
		case left <= 0:
			u.end = errExpired
			if u.feed != nil {
				u.drop(u.feed, u.end)
			}
			return nil, u.end
		case u.feed != nil:
			u.feed.reading = true
			return u.feed, nil
		}
		if !u.waits {
			u.waits = true
			u.notify()
		}
		changed := u.changed
		u.mu.Unlock()
		timer := time.NewTimer(left)
		select {
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		u.mu.Lock()
	}
}

// expires is when the upload is ended unless more arrives. It is called with mu held.
func (u *upload) expires() time.Time {
	o := u.set.opts
	last := u.born.Add(o.Age)
	idle := u.moved.Add(o.Idle)
	switch {
	case u.feed != nil: // which has patience of its own
		return last
	case u.offset == 0:
		idle = u.moved.Add(o.First)
	}
	if idle.Before(last) {
		return idle
	}
	return last
}

// pull reads from a connection, once.
func (u *upload) pull(f *feed, p []byte) (int, error) {
	left := u.length - u.offset
	if left == 0 {
		return 0, u.confirm(f)
	}
	n, err := f.body.Read(p[:min(int64(len(p)), left)])
	u.mu.Lock()
	defer u.mu.Unlock()
	f.reading = false
	if n > 0 {
		u.offset += int64(n)
		u.moved = time.Now()
	}
	switch {
	case errors.Is(err, io.EOF) || err == nil && f.length >= 0 && u.offset == u.length:
		u.drop(f, nil)
	case f.cut:
		u.drop(f, errCut)
	case err != nil:
		u.drop(f, err)
	}
	return n, nil
}

// confirm looks whether a body of unknown length ends where the upload does.
func (u *upload) confirm(f *feed) error {
	var b [1]byte
	n, err := f.body.Read(b[:])
	u.mu.Lock()
	defer u.mu.Unlock()
	f.reading = false
	switch {
	case n > 0:
		u.end = api.InvalidRequest("Upload-Length", fmt.Errorf("more than the %d bytes come that were announced", u.length))
		u.drop(f, u.end)
		return u.end
	case err != nil: // however it ended: all there is has come
		u.drop(f, nil)
	}
	return nil
}

// stop ends an upload that is not whole; false when it is, or had ended.
func (u *upload) stop(why error) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stage != taking || u.end != nil {
		return false
	}
	u.end = why
	if u.feed != nil {
		u.cut(u.feed)
	}
	u.cancel()
	u.notify()
	return true
}

// begun returns once the work waits for the first byte, or has failed without.
func (u *upload) begun(ctx context.Context) error {
	return u.wait(ctx, func() (bool, error) { return u.waits || u.stage != taking, u.end })
}

// taken returns once the work has the whole body, with whole false when bytes are missing.
func (u *upload) taken(ctx context.Context) (whole bool, err error) {
	err = u.wait(ctx, func() (bool, error) {
		whole = u.offset == u.length
		return u.stage != taking || !whole, u.end
	})
	return whole, err
}

// outcome returns nil once the upload is finished, or at once when bytes are missing, and otherwise why there is no receipt. Where the
// last try to finish it failed it makes another.
func (u *upload) outcome(ctx context.Context) error {
	tried := false
	for {
		start := false
		err := u.wait(ctx, func() (bool, error) {
			switch {
			case u.end != nil || u.receipt != nil:
				return true, u.end
			case u.stage == taking:
				return u.offset < u.length, nil
			case u.finishing:
				tried = true
				return false, nil
			case u.unheld != nil && (tried || !mayPass(u.unheld)):
				return true, u.unheld
			}
			start, tried, u.finishing = true, true, true
			return true, nil
		})
		if !start {
			return err
		}
		u.set.finish(u)
	}
}

// finish makes a try to finish an upload, in the background.
func (s *Set) finish(u *upload) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Go(u.finish)
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.finishing, u.unheld = false, errClosing
	u.notify()
}

// mayPass reports whether another try may go better.
func mayPass(err error) bool {
	var p *api.Problem
	return !errors.As(err, &p) || p.Status >= 500
}

// wait returns once ready, which is called with mu held, says so.
func (u *upload) wait(ctx context.Context, ready func() (bool, error)) error {
	for {
		u.mu.Lock()
		ok, err := ready()
		changed := u.changed
		u.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return api.Unavailable("the upload is not yet held by as many peers as it shall be", time.Second)
		}
	}
}

// want notes that a client has come for it.
func (u *upload) want() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.wanted = true
}

func (u *upload) isWanted() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.wanted || u.eager
}

func (u *upload) stageNow() stage {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.stage
}

// done returns since when nothing is to be done for it.
func (u *upload) done() (time.Time, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.since, u.stage != taking && !u.finishing
}

func (u *upload) status() api.Upload {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.now()
}

// now is status, called with mu held.
func (u *upload) now() api.Upload {
	out := api.Upload{Name: u.name, Offset: u.offset, Length: u.length, Metadata: u.meta, Expires: u.expires()}
	if u.stage != taking {
		out.Expires = u.since.Add(u.set.opts.Keep)
	}
	return out
}
