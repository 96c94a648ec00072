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
	if err := c.settle(ctx, session, &o); err != nil {
		return receipt, err
	}
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
	err := c.try(ctx, "push to "+session, c.opts.Passes, func(ctx context.Context, peer string) error {
		_, err := c.ask(ctx, peer, call{
			method: http.MethodPut, path: sessionPath(session) + "/updates/" + o.Combiner, query: q,
			header: http.Header{"Content-Type": {"application/octet-stream"}}, body: body,
		}, &receipt)
		return err
	})
	if err != nil {
		return Receipt{}, err
	}
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

// settle resolves the base, and from it makes the id, where they are left open.
func (c *Client) settle(ctx context.Context, session string, o *PushOptions) error {
	if o.Base == "" || o.Base != "latest" && o.ID != "" {
		return nil
	}
	var which PullOptions
	if o.Base != "latest" {
		which.Digest = o.Base
	}
	base, err := c.Head(ctx, session, which)
	if err != nil {
		return fmt.Errorf("api: resolving the base: %w", err)
	}
	o.Base = base.Digest.String()
	if o.ID == "" {
		o.ID = DefaultID(base.Round, base.Digest)
	}
	return nil
}

// DefaultID is the id of an update that was given none: its base's round and the first 16 hex digits of its base.
func DefaultID(round uint64, base model.Digest) string {
	return fmt.Sprintf("r%d-%s", round, base.String()[:16])
}
