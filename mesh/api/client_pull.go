package api

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/model"
)

// Pull writes a model to w. Safetensors are checked against their digest (ErrDigest). A transfer that breaks off goes on at
// another peer where it stopped, with the same model. After an error, what w got is a part of a file at most. When
// nothing is newer than After by the end of Wait it returns ErrNotModified, and nothing was written.
func (c *Client) Pull(ctx context.Context, session string, o PullOptions, w io.Writer) (ModelInfo, error) {
	ref, err := o.ref(session)
	if err != nil {
		return ModelInfo{}, err
	}
	p := &pull{c: c, session: session, o: o, ref: ref, w: w, hash: model.NewHash(), until: time.Now().Add(o.Wait)}
	p.info.Format = o.format()
	if err := c.try(ctx, "pull from "+session, c.opts.Passes, p.attempt); err != nil {
		return ModelInfo{}, err
	}
	return p.info, nil
}

// Head describes the model that Pull would write. It ignores After and Wait.
func (c *Client) Head(ctx context.Context, session string, o PullOptions) (ModelInfo, error) {
	o.After, o.Wait = "", 0
	ref, err := o.ref(session)
	if err != nil {
		return ModelInfo{}, err
	}
	info := ModelInfo{Format: o.format()}
	err = c.try(ctx, "head of "+session, c.opts.Passes, func(ctx context.Context, peer string) error {
		resp, err := c.send(ctx, peer, call{
			method: http.MethodHead, path: modelPath(session, ref), query: url.Values{"format": {string(info.Format)}},
		})
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		info.Digest, info.Round, err = modelHeaders(resp.Header)
		info.Bytes, info.Peer = resp.ContentLength, peer
		return err
	})
	return info, err
}

func (o PullOptions) format() Format {
	if o.Format == "" {
		return Safetensors
	}
	return o.Format
}

// ref checks the options.
func (o PullOptions) ref(session string) (ModelRef, error) {
	if err := CheckName("session", session); err != nil {
		return ModelRef{}, InvalidRequest("session", err)
	}
	if f := o.format(); f != Safetensors && f != NPZ {
		return ModelRef{}, InvalidRequest("format", fmt.Errorf("the format is %+q; known: safetensors, npz", clip(string(f))))
	}
	if _, err := parseAfter(o.After); err != nil {
		return ModelRef{}, err
	}
	if (o.Round != nil || o.Digest != "") && o.After != "" || o.Round != nil && o.Digest != "" {
		return ModelRef{}, InvalidRequest("after", errors.New("round, digest and after exclude each other"))
	}
	switch {
	case o.Round != nil:
		return AtRound(*o.Round), nil
	case o.Digest != "":
		d, err := model.ParseDigest(o.Digest)
		if err != nil {
			return ModelRef{}, InvalidRequest("digest", fmt.Errorf("%+q is not a digest of 64 hex digits", clip(o.Digest)))
		}
		return OfDigest(d), nil
	}
	return Latest(), nil
}

func modelPath(session string, ref ModelRef) string {
	if ref.Kind == RefLatest {
		return sessionPath(session) + "/model"
	}
	return sessionPath(session) + "/models/" + ref.String()
}

// modelHeaders reads which model an answer is.
func modelHeaders(h http.Header) (model.Digest, uint64, error) {
	d, err := model.ParseDigest(etagDigest(h.Get("ETag")))
	if err != nil {
		return d, 0, errors.New("api: the answer's ETag is no digest: not a fedmesh peer?")
	}
	round, err := strconv.ParseUint(h.Get(headerRound), 10, 64)
	if err != nil {
		return d, 0, errors.New("api: the answer has no " + headerRound + " header: not a fedmesh peer?")
	}
	return d, round, nil
}

// pull is one Pull across its attempts.
type pull struct {
	c       *Client
	session string
	o       PullOptions
	ref     ModelRef
	w       io.Writer
	hash    hash.Hash // of what w has
	until   time.Time // the end of Wait
	info    ModelInfo // Bytes is what w has; once there are some, Digest is fixed
}

// attempt tries one peer.
func (p *pull) attempt(ctx context.Context, peer string) error {
	for {
		k := call{method: http.MethodGet, path: modelPath(p.session, p.ref), query: url.Values{"format": {string(p.info.Format)}}}
		var wait time.Duration
		switch {
		case p.info.Bytes > 0:
			k.path = modelPath(p.session, OfDigest(p.info.Digest))
			if p.info.Format == Safetensors {
				k.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", p.info.Bytes)}, "If-Range": {`"` + p.info.Digest.String() + `"`}}
			}
		case p.o.After != "":
			// In pieces, so that a peer that stopped is noticed.
			wait = max(0, min(time.Until(p.until), longestPolling))
			k.query.Set("after", p.o.After)
			k.query.Set("wait", wait.String())
			k.extra = wait
		}
		asked := time.Now()
		resp, err := p.c.send(ctx, peer, k)
		if err != nil {
			var prob *Problem
			if p.info.Bytes > 0 && errors.As(err, &prob) && prob.Status == http.StatusRequestedRangeNotSatisfiable {
				return fmt.Errorf("%w: the model is shorter than the %d bytes received", ErrDigest, p.info.Bytes)
			}
			return err
		}
		if resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotModified {
			err = p.receive(resp, peer)
			_ = resp.Body.Close()
			return err
		}
		_ = resp.Body.Close()
		switch {
		case !time.Now().Before(p.until):
			return ErrNotModified
		case time.Since(asked) < wait/2:
			return errors.New("api: the peer answered before the wait was over")
		}
	}
}

// receive takes the answer's body, or the part that is missing.
func (p *pull) receive(resp *http.Response, peer string) error {
	digest, round, err := modelHeaders(resp.Header)
	if err != nil {
		return err
	}
	if p.o.Expect != nil {
		n := resp.ContentLength
		if n >= 0 && resp.StatusCode == http.StatusPartialContent {
			n += p.info.Bytes
		}
		p.o.Expect(n)
	}
	switch had := p.info.Bytes; {
	case had == 0:
		p.info.Digest, p.info.Round = digest, round
	case digest != p.info.Digest:
		return fmt.Errorf("api: the peer sent model %s where %s was asked for", digest.Short(), p.info.Digest.Short())
	case resp.StatusCode == http.StatusPartialContent:
		if !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", had)) {
			return fmt.Errorf("api: the peer sent the range %q where one from %d was asked for", clip(resp.Header.Get("Content-Range")), had)
		}
	default:
		// From the start again: the same up to here?
		seen := model.NewHash()
		if _, err := io.CopyN(seen, resp.Body, had); err != nil {
			return fmt.Errorf("api: after %d bytes: %w", had, err)
		}
		if string(seen.Sum(nil)) != string(p.hash.Sum(nil)) {
			return fmt.Errorf("%w: two peers sent different bytes of one model", ErrDigest)
		}
	}
	buf := make([]byte, 128<<10)
	for {
		n, err := resp.Body.Read(buf)
		if n > 0 {
			_, _ = p.hash.Write(buf[:n]) // never fails
			written, werr := p.w.Write(buf[:n])
			p.info.Bytes += int64(n)
			if werr == nil && written < n {
				werr = io.ErrShortWrite
			}
			if werr != nil {
				return &localError{werr}
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("api: after %d bytes: %w", p.info.Bytes, err)
		}
	}
	p.info.Peer = peer
	if got := model.Digest(p.hash.Sum(nil)); p.info.Format == Safetensors && got != p.info.Digest {
		return fmt.Errorf("%w: announced %s, received %s", ErrDigest, p.info.Digest, got)
	}
	return nil
}
