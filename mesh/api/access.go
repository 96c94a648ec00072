package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/fedmesh/fedmesh/mesh/access"
)

// A rule is what a route asks of who comes.
type rule struct {
	need   access.Need
	upload bool // it is about an upload, whose combiner and session the backend knows
	brings bool // it may bring a model
	probe  bool // it is asked by what watches the peer, and not limited
}

// ruleOf returns the rule of a route. One that has none here is the operator's.
func ruleOf(method, pattern string) (r rule, ok bool) {
	switch method + " " + pattern {
	case "GET /healthz", "GET /readyz":
		return rule{need: access.ToAnybody, probe: true}, true
	case "GET /{$}", "GET /ui/{file}", "GET /openapi.json", "GET " + pathLogin, "POST " + pathLogin, "DELETE " + pathLogin:
		return rule{need: access.ToAnybody}, true
	case "GET /v1/mesh", "GET /v1/events", "GET /metrics", "GET /v1/sessions":
		return rule{need: access.ToRead}, true
	case "GET /v1/sessions/{session}", "GET /v1/sessions/{session}/model", "GET /v1/sessions/{session}/models/{model}",
		"GET /v1/sessions/{session}/rounds", "GET /v1/sessions/{session}/rounds/{round}":
		return rule{need: access.ToFollow}, true
	case "OPTIONS /v1/sessions/{session}/updates/{combiner}":
		return rule{need: access.ToPush}, true
	case "PUT /v1/sessions/{session}/updates/{combiner}", "POST /v1/sessions/{session}/updates/{combiner}":
		return rule{need: access.ToPush, brings: true}, true
	case "GET /v1/uploads/{upload}", "HEAD /v1/uploads/{upload}", "DELETE /v1/uploads/{upload}", "OPTIONS /v1/uploads/{upload}":
		return rule{need: access.ToPush, upload: true}, true
	case "PATCH /v1/uploads/{upload}", "POST /v1/uploads/{upload}":
		return rule{need: access.ToPush, upload: true, brings: true}, true
	case "PUT /v1/sessions/{session}":
		return rule{need: access.ToOperate, brings: true}, true
	case "POST /v1/sessions/{session}/close", "POST /v1/leave", "POST /v1/forget":
		return rule{need: access.ToOperate}, true
	}
	return rule{}, strings.HasPrefix(pattern, "/v1/keys")
}

// bearer is a caller's token.
type bearer struct {
	hash  access.Hash
	grant access.Grant
	known bool // false: nobody asked for a token, or none was needed and none given
}

// guarded lets through to a route who may go there, as often as they may.
func (s *Server) guarded(rt route) handler {
	rule, _ := ruleOf(rt.method, rt.pattern)
	serve := rt.serve
	return func(w *response, r *http.Request) error {
		who, err := s.identify(r)
		if !rule.probe {
			if err := s.limits.request(r, who); err != nil {
				return err
			}
		}
		if err == nil {
			err = s.authorize(r, who, rule)
		}
		if err != nil && rule.need != access.ToAnybody {
			return challenged(w, err)
		}
		w.token = who.grant.Name
		if rule.brings {
			leave, err := s.limits.enter(r.Context(), who)
			if err != nil {
				return err
			}
			defer leave()
		}
		return serve(w, r)
	}
}

// identify finds out whose request it is. Nobody's is no fault, a token that is wrong is one. A cookie that is good no longer counts as none: the browser goes on sending it.
func (s *Server) identify(r *http.Request) (bearer, error) {
	if s.opts.Tokens == nil {
		return bearer{}, nil
	}
	tokens := s.opts.Tokens()
	var who bearer
	values := r.Header.Values("Authorization")
	switch {
	case len(values) > 1:
		return who, unauthorized("several Authorization headers", "invalid_request")
	case len(values) == 1:
		kind, token, _ := strings.Cut(values[0], " ")
		if !strings.EqualFold(kind, "Bearer") {
			return who, unauthorized("the Authorization header is not \"Bearer TOKEN\"", "invalid_request")
		}
		h, err := access.HashOf(strings.TrimSpace(token))
		if err != nil {
			return who, unauthorized(`what the Authorization header has is no token: one is "fedmesh_" and 43 characters`, "invalid_token")
		}
		who.hash = h
	case r.Method == http.MethodGet:
		if h, ok := s.login.read(r); ok {
			if grant, err := tokens.Find(h, time.Now()); err == nil {
				who = bearer{hash: h, grant: grant, known: true}
			}
		}
		return who, nil
	default:
		return who, nil
	}
	grant, err := tokens.Find(who.hash, time.Now())
	switch {
	case errors.Is(err, access.ErrExpired):
		return who, unauthorized(fmt.Sprintf("the token %q expired at %s; an operator makes another with fedmesh token new", grant.Name, grant.Expires.UTC().Format(time.RFC3339)), "invalid_token")
	case err != nil:
		return who, unauthorized("this peer does not know the token; its tokens file must have the token's line, as that of every peer", "invalid_token")
	}
	who.grant, who.known = grant, true
	return who, nil
}

// authorize says whether a caller may do what a rule needs.
func (s *Server) authorize(r *http.Request, who bearer, rule rule) error {
	if s.opts.Tokens == nil || rule.need == access.ToAnybody {
		return nil
	}
	if !who.known {
		return unauthorized(fmt.Sprintf("%s needs a token of role %s, as the header Authorization: Bearer TOKEN; fedmesh commands take --token-file or FEDMESH_TOKEN",
			rule.need, roles(rule.need)), "").With("roles", rule.need.Roles())
	}
	g := who.grant
	if !g.May(rule.need) {
		return forbidden(rule.need, fmt.Sprintf("the token %q is of role %s, and %s needs %s", g.Name, g.Role, rule.need, roles(rule.need)))
	}
	if !g.Bound() {
		return nil
	}
	session, combiner := r.PathValue("session"), r.PathValue("combiner")
	if rule.upload {
		owned := false
		if session, combiner, owned = s.ownerOf(r.PathValue("upload")); !owned {
			return nil // there is none, and the answer says so
		}
	}
	if rule.need == access.ToPush && !g.ForCombiner(combiner) {
		return forbidden(rule.need, fmt.Sprintf("the token %q is bound to the combiner %q", g.Name, g.Combiner))
	}
	if session != "" && !g.ForSession(session) && !s.otherName(g, session) {
		return forbidden(rule.need, fmt.Sprintf("the token %q is bound to other sessions: %s", g.Name, strings.Join(g.Sessions, ", ")))
	}
	return nil
}

// otherName reports whether a grant is for the session under its name where it was given by key, or the other way round.
func (s *Server) otherName(g access.Grant, ref string) bool {
	if CheckName("session", ref) != nil {
		return false
	}
	info, err := s.backend.Session(ref)
	return err == nil && g.ForSession(info.Name, info.Key)
}

// UploadOwner is what an Uploads has that knows whose update an upload is. Without it a token that is bound cannot be held to its own.
type UploadOwner interface {
	// Owner returns the session, by name or key, and the combiner that an upload is for; false when there is no such upload.
	Owner(name string) (session, combiner string, ok bool)
}

func (s *Server) ownerOf(upload string) (session, combiner string, ok bool) {
	uploads, err := s.uploads()
	if err != nil {
		return "", "", false
	}
	if o, knows := uploads.(UploadOwner); knows {
		return o.Owner(upload)
	}
	return "", "", true // of nobody: a bound token has none
}

// GuardPeers lets only other peers through to h, which serves the peer plane: those with a token of role peer or, when the tokens file has none of that role, with
// a certificate that TLS has verified. Without a tokens file it is h.
func (s *Server) GuardPeers(h http.Handler) http.Handler {
	if s.opts.Tokens == nil {
		return h
	}
	// A mesh whose tokens do not fit would fill the log, and one line of it tells all.
	log := s.log.Sample(&zerolog.BurstSampler{Burst: 3, Period: time.Minute})
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		who, err := s.identify(r)
		switch {
		case err != nil:
		case r.TLS != nil && len(r.TLS.VerifiedChains) > 0 && !s.opts.Tokens().Has(access.Peer):
		default:
			err = s.authorize(r, who, rule{need: access.ToPeer})
		}
		if err == nil {
			h.ServeHTTP(rw, r)
			return
		}
		log.Warn().Err(err).Str("remote", r.RemoteAddr).Str("path", clip(r.URL.Path)).Msg("a request of the peer plane was refused; peers show the token of --peer-token-file")
		w := newResponse(rw, r, s.opts)
		defer w.linger()
		s.problem(w, r, challenged(w, err)).write(w, r)
		w.done = true
	})
}

// unauthorized is answered with 401. Fault is RFC 6750's error code, empty when there was no token.
func unauthorized(detail, fault string) *Problem {
	p := NewProblem(TypeUnauthorized, http.StatusUnauthorized, "Unauthorized", detail)
	if fault != "" {
		p = p.With("error", fault)
	}
	return p
}

// forbidden is answered with 403.
func forbidden(need access.Need, detail string) *Problem {
	return NewProblem(TypeForbidden, http.StatusForbidden, "Forbidden", detail).With("roles", need.Roles())
}

// challenged sets the header that a 401 must have.
func challenged(w http.ResponseWriter, err error) error {
	if p, ok := errors.AsType[*Problem](err); ok && p.Status == http.StatusUnauthorized {
		challenge := `Bearer realm="fedmesh"`
		if fault, ok := p.Extra["error"].(string); ok {
			challenge += `, error="` + fault + `"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
	}
	return err
}

func roles(n access.Need) string {
	var names []string
	for _, r := range n.Roles() {
		names = append(names, string(r))
	}
	return strings.Join(names, " or ")
}
