package api

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/model"
)

const (
	maxMetrics   = 64
	metricPrefix = "metric."
)

// query reads a request's parameters. Unknown and repeated ones are refused: a misspelt "base" that is silently
// ignored would train from the wrong model.
func query(r *http.Request, known ...string) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, InvalidRequest("query", fmt.Errorf("the query cannot be read: %s", clip(err.Error())))
	}
	for _, name := range sortedNames(q) {
		prefixed := slices.Contains(known, metricPrefix) && strings.HasPrefix(name, metricPrefix)
		if !prefixed && !slices.Contains(known, name) {
			return nil, InvalidRequest(clip(name), fmt.Errorf("there is no parameter %+q here; known: %s", clip(name), strings.Join(known, ", ")))
		}
		if n := len(q[name]); n > 1 {
			return nil, InvalidRequest(clip(name), fmt.Errorf("the parameter %+q is given %d times", clip(name), n))
		}
	}
	return q, nil
}

func sortedNames(q url.Values) []string {
	names := make([]string, 0, len(q))
	for k := range q {
		names = append(names, k)
	}
	slices.Sort(names)
	return names
}

// pathName reads a name from the path.
func pathName(r *http.Request, what string) (string, error) {
	s := r.PathValue(what)
	if err := CheckName(what, s); err != nil {
		return "", InvalidRequest(what, err)
	}
	return s, nil
}

func parseWeight(s string) (int64, error) {
	bad := func(format string, args ...any) (int64, error) {
		return 0, InvalidRequest("weight", fmt.Errorf(format, args...)).With("limit", int64(MaxWeight))
	}
	if s == "" {
		return bad("the weight is missing: give weight=N, the number of examples behind the update, 1 to 2^38-1")
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return bad("the weight %s is out of range: it must be an integer from 1 to 2^38-1 = %d", clip(s), int64(MaxWeight))
	case err != nil:
		return bad("the weight %+q is not an integer; it must be one from 1 to 2^38-1", clip(s))
	case n < 1:
		return bad("the weight is %d; it must be at least 1", n)
	case n > MaxWeight:
		return bad("the weight is %d; it must be at most 2^38-1 = %d", n, int64(MaxWeight))
	}
	return n, nil
}

// parseBase reads a digest; empty stays empty.
func parseBase(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if s == "latest" {
		return "", InvalidRequest("base", errors.New(`"latest" could mean another model at the next try: resolve it once, or leave base out for this peer's latest`))
	}
	d, err := model.ParseDigest(s)
	if err != nil {
		return "", InvalidRequest("base", fmt.Errorf("the base %+q is not a digest of 64 hex digits", clip(s)))
	}
	return d.String(), nil
}

// parseMetrics reads metric.NAME=VALUE parameters; nil when there are none.
func parseMetrics(q url.Values) (map[string]float64, error) {
	var m map[string]float64
	for _, k := range sortedNames(q) {
		name, ok := strings.CutPrefix(k, metricPrefix)
		if !ok {
			continue
		}
		if err := CheckName("metric", name); err != nil {
			return nil, InvalidRequest(clip(k), err)
		}
		v, err := strconv.ParseFloat(q.Get(k), 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, InvalidRequest(k, fmt.Errorf("the metric %q is %+q, not a finite number", name, clip(q.Get(k))))
		}
		if m == nil {
			m = map[string]float64{}
		}
		m[name] = v
	}
	if len(m) > maxMetrics {
		return nil, InvalidRequest("metric", fmt.Errorf("%d metrics; at most %d", len(m), maxMetrics))
	}
	return m, nil
}

// parseWait reads a duration of at most limit.
func parseWait(s string, limit time.Duration) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, InvalidRequest("wait", fmt.Errorf("%+q is not a duration such as \"30s\"", clip(s)))
	}
	if d < 0 || d > limit {
		return 0, InvalidRequest("wait", fmt.Errorf("the wait is %v; it must be 0s to %v", d, limit)).With("limit", limit.String())
	}
	return d, nil
}

func parseAfter(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	ref, err := ParseModelRef(s)
	if err != nil || ref.Kind == RefLatest {
		return "", InvalidRequest("after", fmt.Errorf("after is %+q, neither a round number nor a digest of 64 hex digits", clip(s)))
	}
	return ref.String(), nil
}

func parseUint(name, s string, otherwise, limit uint64) (uint64, error) {
	if s == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, InvalidRequest(name, fmt.Errorf("%s is %+q, not a whole number", name, clip(s)))
	}
	if n > limit {
		return 0, InvalidRequest(name, fmt.Errorf("%s is %d; at most %d", name, n, limit)).With("limit", limit)
	}
	return n, nil
}

// etagDigest reads the one digest of an If-None-Match header; empty when it holds none or several.
func etagDigest(header string) string {
	tag := strings.TrimPrefix(strings.TrimSpace(header), "W/")
	if len(tag) != 66 || tag[0] != '"' || tag[65] != '"' {
		return ""
	}
	d, err := model.ParseDigest(tag[1:65])
	if err != nil {
		return ""
	}
	return d.String()
}

// accepted reads an Accept header: the format the client likes best of ours, the first of equals, false when none.
func accepted(header string) (Format, bool) {
	if strings.TrimSpace(header) == "" {
		return Safetensors, true
	}
	best, quality := Safetensors, 0.0
	for part := range strings.SplitSeq(header, ",") {
		kind, rest, _ := strings.Cut(part, ";")
		q := 1.0
		for param := range strings.SplitSeq(rest, ";") {
			if v, ok := strings.CutPrefix(strings.TrimSpace(param), "q="); ok {
				if f, err := strconv.ParseFloat(v, 64); err == nil && f >= 0 && f <= 1 {
					q = f
				}
			}
		}
		var f Format
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "*/*", "application/*", "application/octet-stream", mediaSafetensors:
			f = Safetensors
		case mediaNPZ, "application/zip":
			f = NPZ
		default:
			continue
		}
		if q > quality {
			best, quality = f, q
		}
	}
	return best, quality > 0
}

// etagMatches reports whether an If-None-Match header names the digest, or anything.
func etagMatches(header, digest string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == "*" || tag == `"`+digest+`"` {
			return true
		}
	}
	return false
}
