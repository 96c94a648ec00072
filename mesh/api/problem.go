package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fedmesh/fedmesh/model"
)

// problemPrefix starts the type of every problem of ours.
const problemPrefix = "urn:fedmesh:problem:"

// ProblemType is the stable name of a kind of problem, the last part of its type URI.
type ProblemType string

// Kinds of problems. Clients may rely on them.
const (
	TypeInvalidRequest   ProblemType = "invalid-request"    // 400, a parameter, name or config; "parameter" says which
	TypeUnreadableModel  ProblemType = "unreadable-model"   // 400, the body is no model
	TypeUnauthorized     ProblemType = "unauthorized"       // 401
	TypeForbidden        ProblemType = "forbidden"          // 403
	TypeUnknownRoute     ProblemType = "unknown-route"      // 404
	TypeUnknownSession   ProblemType = "unknown-session"    // 404
	TypeUnknownModel     ProblemType = "unknown-model"      // 404
	TypeUnknownRound     ProblemType = "unknown-round"      // 404
	TypeModelGone        ProblemType = "model-gone"         // 410, no peer in reach keeps it any more
	TypeBaseGone         ProblemType = "base-gone"          // 410, no peer in reach keeps the base any more
	TypeMethodNotAllowed ProblemType = "method-not-allowed" // 405
	TypeNotAcceptable    ProblemType = "not-acceptable"     // 406
	TypeBodyTimeout      ProblemType = "body-timeout"       // 408, the body stopped arriving
	TypeSessionConflict  ProblemType = "session-conflict"   // 409, another session has this name
	TypeSessionClosed    ProblemType = "session-closed"     // 409
	TypeUpdateConflict   ProblemType = "update-conflict"    // 409, same key, other bytes
	TypeLastMember       ProblemType = "last-member"        // 409, nobody would be left
	TypeUnknownPeer      ProblemType = "unknown-peer"       // 404
	TypeAmbiguousPeer    ProblemType = "ambiguous-peer"     // 409, several logs under one name; "logs" has their ids
	TypePeerAlive        ProblemType = "peer-alive"         // 409, only dead peers are forgotten
	TypeTooFewRemain     ProblemType = "too-few-remain"     // 409, no more than half of a round's members
	TypeSilentPeers      ProblemType = "silent-peers"       // 409, those who have to agree are not alive; "peers" names them
	TypeForgettingInWay  ProblemType = "forgetting-in-way"  // 409, another forgetting must take effect first
	TypeTooLarge         ProblemType = "too-large"          // 413
	TypeUnsupportedMedia ProblemType = "unsupported-media"  // 415
	TypeWrongLayout      ProblemType = "wrong-layout"       // 422, tensors other than the session's
	TypeInvalidValue     ProblemType = "invalid-value"      // 422, NaN, Inf or out of range
	TypeInternal         ProblemType = "internal"           // 500, "instance" is in the peer's log
	TypeUnavailable      ProblemType = "unavailable"        // 503, try another peer or later
	TypeNotReady         ProblemType = "not-ready"          // 503, the peer has just started
	TypeUnknownBase      ProblemType = "unknown-base"       // 503, no peer in reach has the base
	TypeStorageFull      ProblemType = "storage-full"       // 507, try another peer; space comes back as rounds become final
)

// Problem is an error as it goes over the wire (RFC 9457).
type Problem struct {
	Type       string         // URI; "about:blank" for an answer that was not one of ours
	Title      string         // the same for every problem of its type
	Status     int            // HTTP status
	Detail     string         // this fault, in words
	Instance   string         // URI of the request, for internal errors
	RetryAfter time.Duration  // how long to wait before trying again; a header, not in the body
	Extra      map[string]any // extension members: "tensor", "index", "limit", "parameter", "faults"...
}

// NewProblem makes a problem of a type and status of the caller's choice. The constructors below are shorter.
func NewProblem(t ProblemType, status int, title, detail string) *Problem {
	return &Problem{Type: problemPrefix + string(t), Title: title, Status: status, Detail: detail}
}

// Is reports whether err is, or wraps, a problem of type t.
func (t ProblemType) Is(err error) bool {
	var p *Problem
	return errors.As(err, &p) && p.Type == problemPrefix+string(t)
}

// Error is the title and detail, without control characters, since it may come from a stranger and go to a terminal.
func (p *Problem) Error() string {
	s := p.Title
	if p.Detail != "" {
		s += ": " + p.Detail
	}
	if p.Status != 0 {
		s += " (" + strconv.Itoa(p.Status) + ")"
	}
	return printable(s)
}

// With adds an extension member and returns p. The names of RFC 9457's own members are ignored.
func (p *Problem) With(name string, value any) *Problem {
	if reserved(name) {
		return p
	}
	if p.Extra == nil {
		p.Extra = map[string]any{}
	}
	p.Extra[name] = value
	return p
}

// After sets RetryAfter and returns p.
func (p *Problem) After(d time.Duration) *Problem {
	p.RetryAfter = d
	return p
}

// InvalidRequest is a fault in a parameter, a name or a config, answered with 400.
func InvalidRequest(parameter string, err error) *Problem {
	return NewProblem(TypeInvalidRequest, http.StatusBadRequest, "Invalid request", detail(err)).With("parameter", parameter)
}

// UnreadableModel is a body that is no model, answered with 400.
func UnreadableModel(err error) *Problem {
	return NewProblem(TypeUnreadableModel, http.StatusBadRequest, "Unreadable model", detail(err))
}

// UnknownSession is answered with 404.
func UnknownSession(session string) *Problem {
	return NewProblem(TypeUnknownSession, http.StatusNotFound, "Unknown session",
		fmt.Sprintf("this peer knows no session %q", clip(session))).With("session", session)
}

// UnknownModel is answered with 404.
func UnknownModel(session string, ref ModelRef) *Problem {
	return NewProblem(TypeUnknownModel, http.StatusNotFound, "Unknown model",
		fmt.Sprintf("this peer has no model %s of session %q", ref, clip(session))).With("session", session).With("model", ref.String())
}

// UnknownRound is answered with 404.
func UnknownRound(session string, round uint64) *Problem {
	return NewProblem(TypeUnknownRound, http.StatusNotFound, "Unknown round",
		fmt.Sprintf("session %q has no round %d yet, as far as this peer knows", clip(session), round)).
		With("session", session).With("round", round)
}

// SessionConflict is a name that another session has, answered with 409.
func SessionConflict(session, reason string) *Problem {
	return NewProblem(TypeSessionConflict, http.StatusConflict, "Another session has this name",
		fmt.Sprintf("session %q is open with another content: %s", clip(session), reason)).With("session", session)
}

// ClosedSession is a push into a session that accepts nothing any more, answered with 409.
func ClosedSession(session, state string) *Problem {
	return NewProblem(TypeSessionClosed, http.StatusConflict, "Session closed",
		fmt.Sprintf("session %q is %s and accepts no updates", clip(session), state)).With("session", session).With("state", state)
}

// UpdateConflict is a key that is held with other bytes, weight or base, answered with 409. Held is the digest of what is there.
func UpdateConflict(combiner, id, held, reason string) *Problem {
	return NewProblem(TypeUpdateConflict, http.StatusConflict, "Another update has this key",
		fmt.Sprintf("combiner %q has already pushed an update %q that differs: %s; give another update another id", clip(combiner), clip(id), reason)).
		With("combiner", combiner).With("id", id).With("held", held)
}

// LastMember is a leave that would leave nobody, answered with 409.
func LastMember() *Problem {
	return NewProblem(TypeLastMember, http.StatusConflict, "Last member", "the last member of a mesh cannot leave it")
}

// TooLarge is answered with 413. Limit is in bytes.
func TooLarge(limit int64) *Problem {
	return NewProblem(TypeTooLarge, http.StatusRequestEntityTooLarge, "Too large",
		fmt.Sprintf("more than %d bytes", limit)).With("limit", limit)
}

// WrongLayout is a model whose tensors are not the session's, answered with 422. Tensor may be empty.
func WrongLayout(tensor string, err error) *Problem {
	p := NewProblem(TypeWrongLayout, http.StatusUnprocessableEntity, "Wrong layout", detail(err))
	if tensor != "" {
		p = p.With("tensor", tensor)
	}
	return p
}

// InvalidValue is an element that is NaN, infinite or at or above limit, answered with 422. Index is in C order; without a
// limit every finite value is good.
func InvalidValue(tensor string, index int64, value string, limit string) *Problem {
	want := "finite"
	if limit != "" {
		want += " and smaller in magnitude than " + limit
	}
	p := NewProblem(TypeInvalidValue, http.StatusUnprocessableEntity, "Invalid value",
		fmt.Sprintf("tensor %q, element %d is %s; values must be %s", clip(tensor), index, value, want)).
		With("tensor", tensor).With("index", index).With("value", value)
	if limit != "" {
		p = p.With("limit", limit)
	}
	return p
}

// Unavailable is what this peer cannot do now, answered with 503: another peer or a later try may.
func Unavailable(reason string, retryAfter time.Duration) *Problem {
	return NewProblem(TypeUnavailable, http.StatusServiceUnavailable, "Unavailable", reason).After(retryAfter)
}

// NotReady is a peer that does not take part yet, answered with 503.
func NotReady(err error) *Problem {
	return NewProblem(TypeNotReady, http.StatusServiceUnavailable, "Not ready", detail(err)).After(time.Second)
}

// StorageFull is a peer without room for an update, answered with 507.
func StorageFull(reason string, retryAfter time.Duration) *Problem {
	return NewProblem(TypeStorageFull, http.StatusInsufficientStorage, "Storage full", reason).After(retryAfter)
}

// UnknownBase is a base model that no peer in reach has, answered with 503.
func UnknownBase(base string, retryAfter time.Duration) *Problem {
	return NewProblem(TypeUnknownBase, http.StatusServiceUnavailable, "Unknown base",
		fmt.Sprintf("no peer in reach has the base model %s; pull the session's model and train from that", clip(base))).With("base", base).After(retryAfter)
}

// MarshalJSON writes the members of RFC 9457 and the extensions beside them, sorted by name.
func (p *Problem) MarshalJSON() ([]byte, error) {
	m := make(map[string]any, len(p.Extra)+5)
	for k, v := range p.Extra {
		if !reserved(k) {
			m[k] = v
		}
	}
	m["type"], m["title"], m["status"] = p.Type, p.Title, p.Status
	if p.Detail != "" {
		m["detail"] = p.Detail
	}
	if p.Instance != "" {
		m["instance"] = p.Instance
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads what MarshalJSON writes. Members of the wrong type are ignored, as the RFC asks.
func (p *Problem) UnmarshalJSON(b []byte) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("api: problem: %w", err)
	}
	*p = Problem{Type: "about:blank"}
	for name, into := range map[string]any{
		"type": &p.Type, "title": &p.Title, "status": &p.Status, "detail": &p.Detail, "instance": &p.Instance,
	} {
		if raw, ok := m[name]; ok {
			_ = json.Unmarshal(raw, into)
		}
	}
	for name, raw := range m {
		var v any
		if !reserved(name) && json.Unmarshal(raw, &v) == nil {
			_ = p.With(name, v)
		}
	}
	return nil
}

// write sends the problem as the whole answer.
func (p *Problem) write(w http.ResponseWriter, r *http.Request) {
	body, err := json.Marshal(p)
	if err != nil { // an extension that JSON cannot hold
		bare := *p
		bare.Extra = nil
		body, _ = json.Marshal(&bare)
	}
	h := w.Header()
	for _, k := range []string{"Etag", "Last-Modified", "Cache-Control", "Content-Encoding", "Accept-Ranges", headerRound} {
		h.Del(k)
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)+1))
	if p.RetryAfter > 0 || p.Status == http.StatusServiceUnavailable {
		seconds := max(1, int64((p.RetryAfter+time.Second-1)/time.Second))
		h.Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	if r.Method == http.MethodHead {
		h.Set(headerType, p.Type)
	}
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(append(body, '\n'))
	}
}

// readProblem makes a problem of an answer that is no success. It reads at most 64 KiB.
func readProblem(resp *http.Response) *Problem {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	p := &Problem{}
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "application/problem+json" || json.Unmarshal(body, p) != nil {
		p = &Problem{Type: "about:blank", Detail: clip(strings.TrimSpace(string(body)))}
		if t := resp.Header.Get(headerType); strings.HasPrefix(t, problemPrefix) {
			p.Type = t
		}
	}
	p.Status = resp.StatusCode
	if p.Title == "" {
		p.Title = http.StatusText(resp.StatusCode)
	}
	p.RetryAfter = parseRetryAfter(resp.Header.Get("Retry-After"))
	return p
}

// parseRetryAfter reads the seconds form; dates and nonsense count as absent.
func parseRetryAfter(s string) time.Duration {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(n) * time.Second
}

// problemOf turns a backend's error into the answer, or nil when its text must not go out.
func problemOf(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	return ModelFault(err)
}

// ModelFault turns an error of the model packages into its problem: 400, 413 or 422. Nil when err is none of theirs.
func ModelFault(err error) *Problem {
	switch {
	case errors.Is(err, model.ErrTooLarge):
		return NewProblem(TypeTooLarge, http.StatusRequestEntityTooLarge, "Too large", modelDetail(err))
	case errors.Is(err, model.ErrLayout):
		return WrongLayout("", errors.New(modelDetail(err)))
	case errors.Is(err, model.ErrFormat):
		return UnreadableModel(errors.New(modelDetail(err)))
	}
	return nil
}

// modelDetail is the text of a model's fault without what the title says already and without the names of our packages.
func modelDetail(err error) string {
	s := detail(err)
	for _, sentinel := range []error{model.ErrTooLarge, model.ErrLayout, model.ErrFormat} {
		s = strings.TrimSuffix(s, ": "+sentinel.Error())
	}
	for _, pkg := range []string{"codec: ", "model: "} {
		s = strings.TrimPrefix(s, pkg)
	}
	return strings.Replace(s, ": model: ", ": ", 1)
}

func reserved(name string) bool {
	switch name {
	case "type", "title", "status", "detail", "instance":
		return true
	}
	return false
}

// detail is an error's text for people: without this package's prefix, several faults in one line.
func detail(err error) string {
	if err == nil {
		return ""
	}
	lines := strings.Split(err.Error(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(strings.TrimPrefix(l, "api: "), "config: ")
	}
	return strings.Join(lines, "; ")
}

// printable replaces control characters and invalid UTF-8.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r >= '\u202a' && r <= '\u202e' {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
