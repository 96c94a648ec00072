package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
)

// Headers that name a request.
const (
	// HeaderRequest is the id of a request. Every answer has it, what is asked of other peers on its behalf, and all of them log it.
	HeaderRequest = "Fedmesh-Request"

	headerForeign = "X-Request-Id" // what proxies and other programs call it
	headerTrace   = "Traceparent"  // W3C Trace Context, whose trace id is taken where no other id is given
	headerTry     = "Fedmesh-Try"  // which try of a push a request is, from 1
)

const (
	maxRequestID = 64
	maxTry       = 1_000_000
)

// CheckRequestID reports why s cannot be the id of a request: it goes into logs and headers, of which nobody but their owner may make lines.
func CheckRequestID(s string) error {
	if s == "" || len(s) > maxRequestID {
		return errors.New("a request's id has 1 to 64 characters")
	}
	const others = "._-"
	for _, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (c < '0' || c > '9') && strings.IndexByte(others, c) < 0 {
			return errors.New("a request's id is of letters, digits, '.', '_' and '-'")
		}
	}
	return nil
}

// NewRequestID returns an id that nobody else has: 16 hex digits.
func NewRequestID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// RequestFrom returns the id that the headers of a request give it, or a new one. An id that breaks the rules is as good as none: it is
// usually the doing of something between the client and here.
func RequestFrom(h http.Header) string {
	for _, name := range []string{HeaderRequest, headerForeign} {
		if id := h.Get(name); CheckRequestID(id) == nil {
			return id
		}
	}
	if id := traceID(h.Get(headerTrace)); id != "" {
		return id
	}
	return NewRequestID()
}

// traceID returns the trace id of a traceparent header, empty when it has none.
func traceID(s string) string {
	version, rest, _ := strings.Cut(s, "-")
	id, _, more := strings.Cut(rest, "-")
	b, err := hex.DecodeString(id)
	if len(version) != 2 || version == "ff" || !more || err != nil || len(b) != 16 || strings.ToLower(id) != id || strings.Trim(id, "0") == "" {
		return ""
	}
	return id
}

// tryFrom returns which try of a push a request says that it is; 0 when it does not.
func tryFrom(h http.Header) int {
	n, err := strconv.Atoi(h.Get(headerTry))
	if err != nil || n < 1 || n > maxTry {
		return 0
	}
	return n
}

// requestKey is the key of a request's id in a context.
type requestKey struct{}

// WithRequest returns a context of the request of this id. A Client sends it along.
func WithRequest(ctx context.Context, id string) context.Context {
	if id == "" {
		return ctx
	}
	return context.WithValue(ctx, requestKey{}, id)
}

// RequestOf returns the id of the request that a context belongs to; empty when there is none.
func RequestOf(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// triesKey is the key of the counter of a push's tries in a context.
type triesKey struct{}

// withTries returns a context in which the requests that bring something are numbered.
func withTries(ctx context.Context) context.Context {
	return context.WithValue(ctx, triesKey{}, new(atomic.Int64))
}

// nameRequest sets the headers that name a client's request.
func nameRequest(r *http.Request) {
	id := RequestOf(r.Context())
	if CheckRequestID(id) != nil {
		return
	}
	r.Header.Set(HeaderRequest, id)
	if tries, ok := r.Context().Value(triesKey{}).(*atomic.Int64); ok && (r.Method == http.MethodPut || r.Method == http.MethodPost || r.Method == http.MethodPatch) {
		r.Header.Set(headerTry, strconv.FormatInt(tries.Add(1), 10))
	}
}
