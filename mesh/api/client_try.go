package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fedmesh/fedmesh/mesh/certs"
)

const (
	firstBackoff   = 100 * time.Millisecond
	maxRetryAfter  = 30 * time.Second
	patientPasses  = 3        // passes after which "unknown" counts, though some peers did not answer
	maxAnswer      = 64 << 20 // bytes of a JSON answer
	longestPolling = 30 * time.Second
)

// errStalled is the cause of a request that the watchdog ended.
var errStalled = errors.New("api: the peer stalled")

// localError is a fault on our side of the wire; no other peer would help.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// try calls attempt with one peer after the other until one has done it. What names the work in errors.
func (c *Client) try(ctx context.Context, what string, passes int, attempt func(ctx context.Context, peer string) error) error {
	var last error
	asking := ""                          // the peer whose answer the context's end cut off
	resting := map[*peerState]time.Time{} // until when those are left alone that asked for it
	for pass := 1; ; pass++ {
		var unknown error
		failed := 0
		for _, p := range c.order() {
			if ctx.Err() != nil {
				break
			}
			if time.Now().Before(resting[p]) {
				failed++
				continue
			}
			err := attempt(ctx, p.url)
			var local *localError
			var prob *Problem
			switch {
			case err == nil:
				c.mark(p, 0)
				return nil
			case errors.As(err, &local):
				return fmt.Errorf("api: %s: %w", what, local.err)
			case errors.Is(err, ErrNotModified):
				return ErrNotModified
			case errors.Is(err, ctx.Err()): // it says nothing about the peer, unlike the failures before it
				asking = " while asking " + p.url
				continue
			case ctx.Err() != nil:
				last = fmt.Errorf("%s: %w", p.url, err)
				continue
			case errors.Is(err, ErrDigest):
				return fmt.Errorf("api: %s: %s: %w", what, p.url, err)
			case errors.As(err, &prob) && unknownHere(prob):
				unknown = fmt.Errorf("api: %s: %s: %w", what, p.url, err)
				continue
			case prob != nil && !passing(prob.Status):
				return fmt.Errorf("api: %s: %s: %w", what, p.url, err)
			}
			failed++
			last = fmt.Errorf("%s: %w", p.url, err)
			bad := c.opts.BadFor
			if prob != nil && prob.RetryAfter > 0 {
				bad = min(prob.RetryAfter, c.opts.obey)
				resting[p] = time.Now().Add(bad)
			}
			c.mark(p, bad)
			c.opts.Logger.Debug().Err(err).Str("peer", p.url).Str("work", what).Int("pass", pass).Msg("peer failed, moving on")
		}
		switch {
		case ctx.Err() != nil && last == nil:
			return fmt.Errorf("api: %s: %w%s", what, context.Cause(ctx), asking)
		case ctx.Err() != nil:
			return fmt.Errorf("api: %s: %w%s; last failure: %w", what, context.Cause(ctx), asking, last)
		case unknown != nil && (failed == 0 || pass >= patientPasses):
			return unknown
		case passes > 0 && pass >= passes:
			if unknown != nil {
				return unknown
			}
			return fmt.Errorf("api: %s: no peer of %d could: %w", what, len(c.peers), last)
		}
		c.sleep(ctx, pass, c.soonest(resting))
	}
}

// soonest is how long all peers are left alone at least; 0 when one is not.
func (c *Client) soonest(resting map[*peerState]time.Time) time.Duration {
	wait := c.opts.obey
	for _, p := range c.peers {
		wait = min(wait, max(time.Until(resting[p]), 0))
	}
	return wait
}

// passing reports whether a status may be another at another peer or another time.
func passing(status int) bool {
	return status >= 500 || status == http.StatusRequestTimeout || status == http.StatusTooManyRequests
}

// unknownHere reports whether a problem says only that this peer has not heard of something.
func unknownHere(p *Problem) bool {
	return TypeUnknownSession.Is(p) || TypeUnknownModel.Is(p) || TypeUnknownRound.Is(p) || TypeUnknownPeer.Is(p) || TypeModelGone.Is(p)
}

// order is the order in which the peers are tried now: those that failed lately come last.
func (c *Client) order() []*peerState {
	good, bad := c.standing()
	return append(good, bad...)
}

// standing divides the peers into those that did not fail lately and those that did.
func (c *Client) standing() (good, bad []*peerState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	peers := append([]*peerState(nil), c.peers...)
	if c.opts.Shuffle {
		c.rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	}
	now := time.Now()
	good = make([]*peerState, 0, len(peers))
	for _, p := range peers {
		if now.Before(p.bad) {
			bad = append(bad, p)
		} else {
			good = append(good, p)
		}
	}
	return good, bad
}

// mark remembers that a peer failed, or with zero that it did not.
func (c *Client) mark(p *peerState, bad time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.bad = time.Time{}
	if bad > 0 {
		p.bad = time.Now().Add(bad)
	}
}

// sleep waits between two passes: exponentially longer, jittered, and as the peers ask within reason.
func (c *Client) sleep(ctx context.Context, pass int, wait time.Duration) {
	d := min(firstBackoff<<min(pass-1, 10), c.opts.MaxBackoff)
	c.mu.Lock()
	d = d/2 + time.Duration(c.rand.Int64N(int64(d/2)+1))
	c.mu.Unlock()
	if wait > 0 {
		d = wait + min(d, firstBackoff) // those that were told the same do not come together
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// A call is one request to one peer.
type call struct {
	method string
	path   string // escaped
	query  url.Values
	header http.Header
	body   Source
	extra  time.Duration // how much longer than usual the answer may take
	idle   time.Duration // instead of IdleTimeout
	sent   *atomic.Int64 // counts the bytes of body that were handed over; nil: nobody wants to know
}

// send makes a request. Answers from 400 on come back as *Problem. The answer's body is watched until it is closed, which the caller does.
func (c *Client) send(ctx context.Context, peer string, k call) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	dog := newWatchdog(c.opts.ConnectTimeout+c.opts.ResponseTimeout+k.extra, cancel)
	resp, err := c.roundTrip(ctx, peer, k, dog)
	if err != nil {
		dog.end()
		cause := context.Cause(ctx)
		cancel(nil)
		if errors.Is(cause, errStalled) {
			return nil, cause
		}
		return nil, err
	}
	idle := c.opts.IdleTimeout
	if k.idle > 0 {
		idle = k.idle
	}
	dog.kick(idle)
	resp.Body = &watchedAnswer{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, dog: dog, idle: idle}
	if resp.StatusCode >= 300 && resp.StatusCode != http.StatusNotModified {
		defer func() { _ = resp.Body.Close() }()
		return nil, readProblem(resp)
	}
	return resp, nil
}

func (c *Client) roundTrip(ctx context.Context, peer string, k call, dog *watchdog) (*http.Response, error) {
	u := peer + k.path
	if len(k.query) > 0 {
		u += "?" + k.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, k.method, u, nil)
	if err != nil {
		return nil, &localError{fmt.Errorf("api: %w", err)}
	}
	if k.header != nil {
		req.Header = k.header.Clone()
	}
	req.Header.Set("User-Agent", c.opts.UserAgent)
	if c.opts.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.opts.Token)
	}
	nameRequest(req)
	if k.body == nil {
		resp, err := c.http.Do(req)
		return resp, certs.Explain(req.URL.Host, err)
	}
	var fault fault
	open := func() (io.ReadCloser, int64, error) {
		rc, n, err := k.body()
		if err != nil {
			fault.set(err)
			return nil, 0, err
		}
		return &watchedBody{ReadCloser: rc, sent: k.sent, fault: &fault, dog: dog, idle: c.opts.IdleTimeout, then: c.opts.ResponseTimeout + k.extra}, n, nil
	}
	body, n, err := open()
	if err != nil {
		return nil, &localError{err}
	}
	req.Body, req.ContentLength = body, n
	if n == 0 {
		_ = body.Close()
		req.Body = http.NoBody
	}
	req.GetBody = func() (io.ReadCloser, error) {
		rc, _, err := open()
		return rc, err
	}
	// A refusal should not cost the transfer.
	req.Header.Set("Expect", "100-continue")
	resp, err := c.http.Do(req)
	if err != nil {
		if ferr := fault.get(); ferr != nil {
			return nil, &localError{ferr}
		}
	}
	return resp, certs.Explain(req.URL.Host, err)
}

// ask is send for answers in JSON, which are decoded into v unless that is nil. It returns the status.
func (c *Client) ask(ctx context.Context, peer string, k call, v any) (int, error) {
	resp, err := c.send(ctx, peer, k)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if v == nil {
		return resp.StatusCode, nil
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return 0, fmt.Errorf("api: reading the answer: %w", err)
	}
	if len(b) > maxAnswer {
		return 0, &localError{fmt.Errorf("api: the answer has more than %d bytes", maxAnswer)}
	}
	if err := json.Unmarshal(b, v); err != nil {
		return 0, fmt.Errorf("api: decoding the answer: %w", err)
	}
	return resp.StatusCode, nil
}

// A watchdog cancels a request when nobody kicks it in time.
type watchdog struct {
	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

func newWatchdog(d time.Duration, cancel context.CancelCauseFunc) *watchdog {
	return &watchdog{timer: time.AfterFunc(d, func() { cancel(errStalled) })}
}

func (d *watchdog) kick(patience time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.ended {
		d.timer.Reset(patience)
	}
}

func (d *watchdog) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	d.timer.Stop()
}

// fault is the first error of reading a request's body, which net/http mixes with those of the connection.
type fault struct {
	mu  sync.Mutex
	err error
}

func (f *fault) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

func (f *fault) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// watchedBody is a request's body; each piece taken from it shows that the peer still takes.
type watchedBody struct {
	io.ReadCloser
	fault *fault
	dog   *watchdog
	idle  time.Duration // between two pieces
	then  time.Duration // after the last, for the answer
	sent  *atomic.Int64

	closed atomic.Bool // net/http closes it while it reads, when the connection fails
}

// Read reads from the source.
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.sent != nil {
		b.sent.Add(int64(n))
	}
	switch {
	case err == nil:
		b.dog.kick(b.idle)
	case errors.Is(err, io.EOF):
		b.dog.kick(b.then)
	case !b.closed.Load():
		b.fault.set(err)
	}
	return n, err
}

// Close closes the source.
func (b *watchedBody) Close() error {
	b.closed.Store(true)
	return b.ReadCloser.Close()
}

// watchedAnswer is an answer's body; closing it ends the request.
type watchedAnswer struct {
	io.ReadCloser
	ctx    context.Context // the request's own, for its cause
	cancel context.CancelCauseFunc
	dog    *watchdog
	idle   time.Duration
}

// Read reads from the peer.
func (a *watchedAnswer) Read(p []byte) (int, error) {
	a.dog.kick(a.idle)
	n, err := a.ReadCloser.Read(p)
	if err != nil && errors.Is(context.Cause(a.ctx), errStalled) {
		err = errStalled
	}
	return n, err
}

// Close ends the request.
func (a *watchedAnswer) Close() error {
	a.dog.end()
	err := a.ReadCloser.Close()
	a.cancel(nil)
	return err
}
