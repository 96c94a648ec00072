package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	sameTries   = 3                      // how often the peer that an upload broke off at is asked for it before others are
	barren      = 5                      // connections in a row that may bring nothing
	askFor      = 5 * time.Second        // how long a peer may take to tell how far an upload has come
	abandonedIn = 500 * time.Millisecond // for the farewell to an upload that is not needed
)

// first is a source that was opened once already, to see how much there is; the first attempt takes that.
type first struct {
	source Source
	size   int64
	rc     io.ReadCloser
}

func openFirst(s Source) (*first, error) {
	rc, n, err := s()
	return &first{source: s, size: n, rc: rc}, err
}

// open is the Source for attempts.
func (f *first) open() (io.ReadCloser, int64, error) {
	if rc := f.rc; rc != nil {
		f.rc = nil
		return rc, f.size, nil
	}
	return f.source()
}

// from is the source of what follows after the first offset bytes.
func (f *first) from(offset int64) Source {
	return func() (io.ReadCloser, int64, error) {
		rc, n, err := f.open()
		if err == nil && n != f.size {
			err = errors.Join(fmt.Errorf("api: the body has %d bytes, at first it had %d", n, f.size), rc.Close())
		}
		if err != nil || offset == 0 {
			return rc, n, err
		}
		if s, ok := rc.(io.Seeker); ok {
			_, err = s.Seek(offset, io.SeekStart)
		} else {
			_, err = io.CopyN(io.Discard, rc, offset)
		}
		if err != nil {
			return nil, 0, errors.Join(fmt.Errorf("api: going to byte %d of the body: %w", offset, err), rc.Close())
		}
		return rc, n - offset, nil
	}
}

func (f *first) close() {
	if f.rc != nil {
		_ = f.rc.Close()
	}
}

// resumable is a push by resumable upload. Its name is the same at every peer that has some of it.
type resumable struct {
	c       *Client
	path    string // where it is begun
	query   url.Values
	body    *first
	receipt *Receipt
	put     func(ctx context.Context, peer string) error

	upload string       // its path; empty before it is begun
	at     string       // the peer that has it
	offset int64        // where it stands there, as far as is known
	sent   atomic.Int64 // how far the body was handed to a connection
}

// attempt delivers the update to a peer; what others have of it already is gone on with there.
func (u *resumable) attempt(ctx context.Context, peer string) error {
	if u.upload != "" {
		if at, offset, ok := u.locate(ctx); ok {
			u.resume(at, offset)
		} else {
			u.upload = ""
		}
	}
	if u.upload == "" {
		err := u.begin(ctx, peer)
		if p, ok := errors.AsType[*Problem](err); ok && (TypeUnknownRoute.Is(p) || p.Status == http.StatusMethodNotAllowed || p.Status == http.StatusNotImplemented) {
			return u.put(ctx, peer)
		}
		if err != nil {
			return err
		}
	}
	err := u.carry(ctx)
	if TypeUnknownUpload.Is(err) { // ended there, for whatever reason
		if err = u.begin(ctx, u.at); err == nil {
			err = u.carry(ctx)
		}
	}
	if TypeUnknownUpload.Is(err) {
		u.upload = ""
		return fmt.Errorf("api: the peer ended the upload: %s", err.Error()) // an answer for it, not for the others
	}
	if err != nil && u.at != peer && ctx.Err() == nil {
		u.c.mark(u.c.state(u.at), u.c.opts.BadFor)
	}
	return err
}

func (u *resumable) begin(ctx context.Context, peer string) error {
	resp, err := u.c.send(ctx, peer, call{
		method: http.MethodPost, path: u.path, query: u.query,
		header: http.Header{headerTus: {tusVersion}, headerLength: {strconv.FormatInt(u.body.size, 10)}},
	})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	at, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode != http.StatusCreated || at.Path == "" || at.RawQuery != "" {
		return fmt.Errorf("api: the peer began no upload: %s, Location %q", resp.Status, clip(resp.Header.Get("Location")))
	}
	u.upload, u.at, u.offset = at.EscapedPath(), peer, 0
	u.sent.Store(0)
	return nil
}

// carry brings the rest to the peer that the upload is at. Where a connection breaks it goes on with the next, as long as they bring anything.
func (u *resumable) carry(ctx context.Context) error {
	for idle := 0; ; idle++ {
		before := u.offset
		err := u.piece(ctx)
		if err == nil {
			_, err = u.c.ask(ctx, u.at, call{method: http.MethodGet, path: u.upload}, u.receipt)
		}
		if err == nil {
			return nil
		}
		if !u.mayGoOn(err) || ctx.Err() != nil {
			return err
		}
		if p, ok := errors.AsType[*Problem](err); ok && p.RetryAfter > 0 {
			u.c.sleep(ctx, 1, min(p.RetryAfter, u.c.opts.obey))
		}
		offset, ok := u.again(ctx)
		if !ok || idle >= barren {
			return err
		}
		if offset > before {
			idle = 0
		}
		u.c.opts.Logger.Debug().Err(err).Str("peer", u.at).Msg("an upload broke off, going on")
		u.resume(u.at, offset)
	}
}

// piece sends all that is missing.
func (u *resumable) piece(ctx context.Context) error {
	if u.offset == u.body.size {
		return nil
	}
	resp, err := u.c.send(ctx, u.at, call{
		method: http.MethodPatch, path: u.upload, body: u.body.from(u.offset), sent: &u.sent,
		header: http.Header{headerTus: {tusVersion}, headerOffset: {strconv.FormatInt(u.offset, 10)}, "Content-Type": {mediaOffset}},
	})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if u.offset, err = offsetIn(resp); err == nil && u.offset != u.body.size {
		err = fmt.Errorf("api: the peer took all and stands at %d of %d bytes", u.offset, u.body.size)
	}
	return err
}

func offsetIn(resp *http.Response) (int64, error) {
	n, err := strconv.ParseUint(resp.Header.Get(headerOffset), 10, 63)
	if err != nil {
		return 0, fmt.Errorf("api: the peer answers without %s", headerOffset)
	}
	return int64(n), nil
}

// mayGoOn reports whether an upload that failed so may be gone on with.
func (u *resumable) mayGoOn(err error) bool {
	var local *localError
	var p *Problem
	switch {
	case errors.As(err, &local):
		return false
	case errors.As(err, &p):
		return passing(p.Status) || TypeUploadConflict.Is(p) || TypeUploadIncomplete.Is(p)
	}
	return true
}

// again asks the peer that an upload broke off at how far it came.
func (u *resumable) again(ctx context.Context) (offset int64, ok bool) {
	for pass := 1; pass <= sameTries && ctx.Err() == nil; pass++ {
		offset, err := u.ask(ctx, u.at)
		if err == nil {
			return offset, true
		}
		// One that refuses connections, or knows nothing of it, has lost it.
		if p := (*Problem)(nil); errors.As(err, &p) && !passing(p.Status) || refused(err) {
			return 0, false
		}
		u.c.sleep(ctx, pass, 0)
	}
	return 0, false
}

// ask asks a peer how far the upload came there.
func (u *resumable) ask(ctx context.Context, peer string) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	resp, err := u.c.send(ctx, peer, call{method: http.MethodHead, path: u.upload, header: http.Header{headerTus: {tusVersion}}})
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	n, err := offsetIn(resp)
	if err == nil && n > u.body.size {
		err = fmt.Errorf("api: the peer stands at %d of %d bytes", n, u.body.size)
	}
	return n, err
}

// locate asks the peers how far the upload came, those that failed lately only when no other has any, and returns the one that has most.
func (u *resumable) locate(ctx context.Context) (at string, offset int64, ok bool) {
	good, bad := u.c.standing()
	for _, peers := range [][]*peerState{good, bad} {
		offsets := make([]int64, len(peers))
		var wg sync.WaitGroup
		for i, p := range peers {
			wg.Go(func() {
				if n, err := u.ask(ctx, p.url); err == nil {
					offsets[i] = n
				}
			})
		}
		wg.Wait()
		for i, n := range offsets {
			if n > offset {
				at, offset = peers[i].url, n
			}
		}
		if offset > 0 {
			return at, offset, true
		}
	}
	return "", 0, false
}

// resume notes where the upload goes on.
func (u *resumable) resume(at string, offset int64) {
	u.c.opts.Logger.Info().Str("peer", at).Int64("offset", offset).Int64("again", max(u.sent.Load()-offset, 0)).Msg("an upload goes on")
	u.at, u.offset = at, offset
	u.sent.Store(offset)
}

// abandon tells the peer that nothing more comes, when the push has failed.
func (u *resumable) abandon(ctx context.Context) {
	if u.upload == "" || u.receipt.Digest != "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonedIn)
	defer cancel()
	if resp, err := u.c.send(ctx, u.at, call{method: http.MethodDelete, path: u.upload, header: http.Header{headerTus: {tusVersion}}}); err == nil {
		_ = resp.Body.Close()
	}
}

// refused reports whether an error says that nobody listens.
func refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" && !op.Timeout()
}
