package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/access"
)

// Headers of ours.
const (
	headerRound  = "Fedmesh-Round"   // the round that made the model served
	headerDigest = "Fedmesh-Digest"  // its digest, also where ETag cannot be
	headerType   = "Fedmesh-Problem" // type of a problem whose body is left out, since only the header was asked for
)

// socketBuffer bounds what the connection of an upload has received that is not read yet, and what any of a client's has sent that is not received. The
// kernel takes twice as much.
const socketBuffer = 512 << 10

// fewWarnings is how many failed requests a minute are logged as warnings: while a peer cannot serve, all its clients come again and again.
// For debugging all are, as answered.
const fewWarnings = 20

// DefaultMaxBody is the largest model a server takes unless told otherwise: 64 GiB.
const DefaultMaxBody = 64 << 30

// Timeouts of a server. Zero fields take the defaults.
type Timeouts struct {
	Header    time.Duration // for a request's header; 10 s
	Idle      time.Duration // between two requests of a connection; 2 m
	BodyIdle  time.Duration // an upload that brings less than 16 KiB in this much waiting dies; 60 s
	WriteIdle time.Duration // an answer of which nothing is taken for so long dies; 60 s
	MaxWait   time.Duration // longest long-poll; 5 m
	Heartbeat time.Duration // between comments on an idle event stream; 15 s
}

func (t Timeouts) withDefaults() Timeouts {
	t.Header = cmp.Or(t.Header, 10*time.Second)
	t.Idle = cmp.Or(t.Idle, 2*time.Minute)
	t.BodyIdle = cmp.Or(t.BodyIdle, time.Minute)
	t.WriteIdle = cmp.Or(t.WriteIdle, time.Minute)
	t.MaxWait = cmp.Or(t.MaxWait, 5*time.Minute)
	t.Heartbeat = cmp.Or(t.Heartbeat, 15*time.Second)
	return t
}

// ServerOptions tunes a server. The zero value is good.
type ServerOptions struct {
	Logger     zerolog.Logger
	Registerer prometheus.Registerer // nil: the server keeps no metrics of its own
	Gatherer   prometheus.Gatherer   // nil: no /metrics
	MaxBody    int64                 // bytes of a model; default DefaultMaxBody
	Timeouts   Timeouts
	Tokens     func() *access.Set // who may do what, asked for at each request; nil: everybody everything
	Limits     Limits
}

// Server serves the API over a Backend. It is an http.Handler.
type Server struct {
	backend Backend
	log     zerolog.Logger
	seldom  zerolog.Logger // for what many requests may have in common
	opts    ServerOptions
	metrics *metrics
	mux     *http.ServeMux
	routes  []route
	origin  *http.CrossOriginProtection
	streams chan struct{} // one token per event stream
	login   *login
	limits  *limits

	// life ends at Close: event streams and long polls end with it.
	life context.Context
	end  context.CancelFunc
}

// handler answers a request; what it returns before the header is out becomes the answer.
type handler func(w *response, r *http.Request) error

// A route is a path pattern of http.ServeMux and one method of it.
type route struct {
	method, pattern string
	serve           handler
}

// NewServer makes a server. Close ends its streams.
func NewServer(b Backend, o ServerOptions) *Server {
	o.MaxBody = cmp.Or(o.MaxBody, DefaultMaxBody)
	o.Timeouts = o.Timeouts.withDefaults()
	s := &Server{
		backend: b,
		log:     o.Logger,
		seldom:  o.Logger.Sample(&zerolog.BurstSampler{Burst: fewWarnings, Period: time.Minute}),
		opts:    o,
		metrics: newMetrics(o.Registerer, o.Logger),
		mux:     http.NewServeMux(),
		origin:  http.NewCrossOriginProtection(),
		streams: make(chan struct{}, maxStreams),
		login:   newLogin(),
		limits:  newLimits(o.Limits),
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.routes = slices.Concat(s.sessionRoutes(), s.updateRoutes(), s.uploadRoutes(), s.modelRoutes(), s.roundRoutes(), s.meshRoutes(), s.keyRoutes(), s.loginRoutes(), s.pageRoutes())
	byPattern := map[string]map[string]handler{}
	for _, rt := range s.routes {
		if byPattern[rt.pattern] == nil {
			byPattern[rt.pattern] = map[string]handler{}
		}
		serve := s.guarded(rt)
		byPattern[rt.pattern][rt.method] = serve
		if rt.method == http.MethodGet && rt.pattern != "/v1/events" {
			byPattern[rt.pattern][http.MethodHead] = serve
		}
	}
	for pattern, methods := range byPattern {
		s.mux.Handle(pattern, s.dispatch(pattern, methods))
	}
	s.mux.Handle("/", s.dispatch("", nil))
	return s
}

// Close ends event streams and long polls, and refuses new ones. It does not wait for requests: that is
// http.Server.Shutdown's part.
func (s *Server) Close() { s.end() }

// HTTPServer makes an http.Server of this server's header and idle timeouts around h, which is s itself or something
// that mounts it. The caller serves and shuts it down; its Shutdown closes s.
func (s *Server) HTTPServer(h http.Handler) *http.Server {
	hs := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: s.opts.Timeouts.Header,
		IdleTimeout:       s.opts.Timeouts.Idle,
		MaxHeaderBytes:    64 << 10,
		ConnContext:       withConn,
	}
	hs.RegisterOnShutdown(s.Close)
	return hs
}

// connKey is the key of a request's connection in its context.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	if inner, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = inner.NetConn()
	}
	return context.WithValue(ctx, connKey{}, c)
}

// bound keeps what the connection of a request has received unread small: it is lost with the process, and would have to be sent again.
func bound(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(interface{ SetReadBuffer(bytes int) error }); ok {
		_ = c.SetReadBuffer(socketBuffer)
	}
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	// The mux would redirect what is not clean, and turn one name into another.
	if p := r.URL.Path; !strings.HasPrefix(p, "/") || p != "/" && path.Clean(p) != strings.TrimSuffix(p, "/") {
		s.dispatch("", map[string]handler{r.Method: func(*response, *http.Request) error {
			return InvalidRequest("path", errors.New("the path has empty, \".\" or \"..\" segments"))
		}}).ServeHTTP(rw, r)
		return
	}
	s.mux.ServeHTTP(rw, r)
}

// dispatch answers one pattern's requests by method. Without methods, nothing is there.
func (s *Server) dispatch(pattern string, methods map[string]handler) http.Handler {
	allow := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		start := time.Now()
		// net/http looks at its own request's body to see whether the connection may be closed at once, so that one stays.
		id := RequestFrom(r.Header)
		r = r.WithContext(WithRequest(r.Context(), id))
		rw.Header().Set(HeaderRequest, id)
		w := newResponse(rw, r, s.opts)
		defer w.linger()
		done := s.metrics.begin()
		defer func() {
			// Unknown methods would make labels without end.
			method := r.Method
			if methods[method] == nil {
				method = "other"
			}
			done(pattern, method, w.status, time.Since(start), w.received(), w.sent)
			e := s.log.Debug().Str("request", id).Str("method", r.Method).Str("path", clip(r.URL.Path)).Int("status", w.status).Dur("took", time.Since(start)).
				Int64("received", w.received()).Int64("sent", w.sent).Str("remote", r.RemoteAddr)
			if n := tryFrom(r.Header); n > 0 {
				e = e.Int("try", n)
			}
			if w.token != "" {
				e = e.Str("token", w.token)
			}
			e.Msg("answered")
		}()
		defer s.recovered(w, r)
		var err error
		serve := methods[r.Method]
		switch {
		case len(methods) == 0:
			err = NewProblem(TypeUnknownRoute, http.StatusNotFound, "Unknown route",
				fmt.Sprintf("nothing is served at %+q; names contain no slashes, see /openapi.json for what there is", clip(r.URL.Path)))
		case serve == nil:
			w.Header().Set("Allow", allow)
			err = NewProblem(TypeMethodNotAllowed, http.StatusMethodNotAllowed, "Method not allowed", "allowed here: "+allow)
		default:
			if err = s.origin.Check(r); err != nil {
				err = NewProblem(TypeForbidden, http.StatusForbidden, "Forbidden", "a page of another origin may not change anything here")
			} else {
				err = serve(w, r)
			}
		}
		s.finish(w, r, err)
		w.done = true
	})
}

// finish turns a handler's error into the answer.
func (s *Server) finish(w *response, r *http.Request, err error) {
	switch {
	case err == nil:
		return
	case w.bodyProblem() != nil:
		// net/http ends the context when a body breaks, but the client may still listen.
	case r.Context().Err() != nil:
		w.status = statusGone
		panic(http.ErrAbortHandler)
	}
	if w.status != 0 {
		// Half an answer is out: only a broken connection says that it is not whole.
		s.seldom.Warn().Err(err).Str("request", RequestOf(r.Context())).Str("method", r.Method).Str("path", clip(r.URL.Path)).Msg("an answer was cut short")
		panic(http.ErrAbortHandler)
	}
	s.problem(w, r, err).write(w, r)
}

// problem is the answer to an error.
func (s *Server) problem(w *response, r *http.Request, err error) *Problem {
	// A body that broke is the cause of whatever the backend made of it.
	if p := w.bodyProblem(); p != nil {
		return p
	}
	if p := problemOf(err); p != nil && p.Status >= 400 && p.Status < 600 {
		if p.Status >= 500 {
			s.seldom.Warn().Err(err).Str("request", RequestOf(r.Context())).Str("method", r.Method).Str("path", clip(r.URL.Path)).Int("status", p.Status).Msg("a request failed")
		}
		return p
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Unavailable("the peer could not do this in time", time.Second)
	}
	return s.internal(r, err, nil)
}

// internal logs what the client is not told.
func (s *Server) internal(r *http.Request, err error, stack []byte) *Problem {
	id := RequestOf(r.Context())
	e := s.log.Error().Err(err).Str("request", id).Str("method", r.Method).Str("path", clip(r.URL.Path))
	if stack != nil {
		e = e.Bytes("stack", stack)
	}
	e.Msg("internal error")
	p := NewProblem(TypeInternal, http.StatusInternalServerError, "Internal error", "the peer failed; its log has more under request "+id)
	p.Instance = "urn:fedmesh:request:" + id
	return p
}

// recovered ends a request whose handler panicked. net/http's own abort passes through.
func (s *Server) recovered(w *response, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(http.ErrAbortHandler)
	}
	p := s.internal(r, fmt.Errorf("api: panic: %v", v), debug.Stack())
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	p.write(w, r)
}

// ready lets a request through once the backend takes part.
func (s *Server) ready(next handler) handler {
	return func(w *response, r *http.Request) error {
		if err := s.backend.Ready(); err != nil {
			return NotReady(err)
		}
		return next(w, r)
	}
}

// writeJSON sends v as the whole answer.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("api: encoding the answer: %w", err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(b)+1))
	w.WriteHeader(status)
	_, err = w.Write(append(b, '\n'))
	return err
}
