package api

import (
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/fedmesh/fedmesh/model"
)

// Push delivers an update and returns its receipt. Base and id are settled before the first attempt, and every attempt carries the
// same, so an update that was accepted without our hearing of it is counted once.
func (c *Client) Push(ctx context.Context, session string, o PushOptions, body Source) (Receipt, error) {
	var receipt Receipt
	if err := o.check(session); err != nil {
		return receipt, err
	}
	o, err := c.Settle(ctx, session, o)
	if err != nil {
		return receipt, err
	}
	ctx = withTries(WithRequest(ctx, o.Request))
	q := url.Values{"weight": {strconv.FormatInt(o.Weight, 10)}}
	if o.Base != "" {
		q.Set("base", o.Base)
	}
	if o.ID != "" {
		q.Set("id", o.ID)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Metrics)) {
		q.Set(metricPrefix+name, strconv.FormatFloat(o.Metrics[name], 'g', -1, 64))
	}
	first, err := openFirst(body)
	if err != nil {
		return receipt, fmt.Errorf("api: push to %s: %w", session, err)
	}
	defer first.close()
	path := sessionPath(session) + "/updates/" + o.Combiner
	put := func(ctx context.Context, peer string) error {
		_, err := c.ask(ctx, peer, call{
			method: http.MethodPut, path: path, query: q,
			header: http.Header{"Content-Type": {"application/octet-stream"}}, body: first.open,
		}, &receipt)
		return err
	}
	attempt := put
	if first.size >= c.opts.ResumeFrom && (o.ID != "" || o.Base != "") {
		up := &resumable{c: c, path: path, query: q, body: first, receipt: &receipt, put: put}
		attempt = up.attempt
		defer up.abandon(ctx)
	}
	if err := c.try(ctx, "push to "+session, c.opts.Passes, attempt); err != nil {
		return Receipt{}, err
	}
	receipt.Request = o.Request
	return receipt, nil
}

// check finds the faults that a peer would find, without asking one.
func (o PushOptions) check(session string) error {
	if err := CheckName("session", session); err != nil {
		return InvalidRequest("session", err)
	}
	if err := CheckName("combiner", o.Combiner); err != nil {
		return InvalidRequest("combiner", err)
	}
	if o.ID != "" {
		if err := CheckID(o.ID); err != nil {
			return InvalidRequest("id", err)
		}
	}
	if o.Request != "" {
		if err := CheckRequestID(o.Request); err != nil {
			return InvalidRequest("request", err)
		}
	}
	if _, err := parseWeight(strconv.FormatInt(o.Weight, 10)); err != nil {
		return err
	}
	if o.Base != "latest" {
		if _, err := parseBase(o.Base); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.Metrics)) {
		if err := CheckName("metric", name); err != nil {
			return InvalidRequest(metricPrefix+clip(name), err)
		}
		if v := o.Metrics[name]; math.IsNaN(v) || math.IsInf(v, 0) {
			return InvalidRequest(metricPrefix+name, fmt.Errorf("the metric %q is %v, not a finite number", name, v))
		}
	}
	return nil
}

// Settle returns the options with base and id resolved, as Push does before its first attempt: "latest" becomes the digest of the
// session's present model, an id left open is made of the base, and the request's is drawn. Who wants to tell them after a failure settles first.
func (c *Client) Settle(ctx context.Context, session string, o PushOptions) (PushOptions, error) {
	if o.Request == "" {
		o.Request = NewRequestID()
	}
	ctx = WithRequest(ctx, o.Request)
	var round uint64
	switch {
	case o.Base == "latest":
		info, err := c.withModel(ctx, session)
		if err != nil {
			return o, fmt.Errorf("resolving the base: %w", err)
		}
		o.Base, round = info.Model, info.ModelRound
	case o.Base == "" || o.ID != "":
		return o, nil
	default:
		info, err := c.Head(ctx, session, PullOptions{Digest: o.Base})
		if TypeModelGone.Is(err) {
			return o, nil // the peers name it the same way, if they have counted it, and else refuse it
		}
		if err != nil {
			return o, fmt.Errorf("resolving the base: %w", err)
		}
		round = info.Round
	}
	base, err := model.ParseDigest(o.Base)
	if err != nil {
		return o, fmt.Errorf("resolving the base: %w", err)
	}
	if o.ID == "" {
		o.ID = DefaultID(round, base)
	}
	return o, nil
}

// withModel describes a session as a peer sees it that has its model: one that has only just heard of the session may not yet.
func (c *Client) withModel(ctx context.Context, session string) (SessionInfo, error) {
	var info SessionInfo
	err := c.try(ctx, "get session "+session, c.opts.Passes, func(ctx context.Context, peer string) error {
		info = SessionInfo{}
		_, err := c.ask(ctx, peer, call{method: http.MethodGet, path: sessionPath(session)}, &info)
		if err == nil && info.Model == "" {
			err = Unavailable("this peer does not hold the session's model yet", 0)
		}
		return err
	})
	return info, err
}

// DefaultID is the id of an update that was given none: its base's round and the first 16 hex digits of its base.
func DefaultID(round uint64, base model.Digest) string {
	return fmt.Sprintf("r%d-%s", round, base.String()[:16])
}
