package api

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/fedmesh/fedmesh/mesh/access"
)

// Browsers cannot put a header on an event stream. A page gives its token once and gets a cookie instead, which no script can read, no other site can have sent,
// and which is good for nothing but reading: it is accepted on GET only.
const (
	pathLogin = "/v1/login"
	loginFor  = 12 * time.Hour
	maxLogin  = 4096 // bytes of a request
)

// login makes and reads cookies: a time and the hash of a token under a key that this server has made up. So nothing is kept of who has logged in, a
// token that goes from the tokens file takes its cookies with it, and so does a restart.
type login struct {
	key  [32]byte
	name string // of the cookie, another at each server: browsers do not tell ports apart, and peers on one machine would take away each other's
}

func newLogin() *login {
	l := &login{}
	_, _ = rand.Read(l.key[:]) // never fails
	var b [4]byte
	_, _ = rand.Read(b[:])
	l.name = "fedmesh-" + hex.EncodeToString(b[:])
	return l
}

// cookie is ours, for a request.
func (l *login) cookie(r *http.Request, value string) *http.Cookie {
	return &http.Cookie{Name: l.name, Value: value, Path: "/", HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode}
}

const cookieBytes = 8 + len(access.Hash{}) + sha256.Size

func (l *login) seal(h access.Hash, until time.Time) string {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, cookieBytes), uint64(until.Unix()))
	b = append(b, h[:]...)
	return base64.RawURLEncoding.EncodeToString(l.sign(b))
}

func (l *login) sign(b []byte) []byte {
	m := hmac.New(sha256.New, l.key[:])
	m.Write(b)
	return m.Sum(b)
}

// read returns the hash of the token that a request's cookie stands for; false without a cookie of ours that is still good.
func (l *login) read(r *http.Request) (h access.Hash, ok bool) {
	c, err := r.Cookie(l.name)
	if err != nil {
		return h, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(c.Value)
	if err != nil || len(b) != cookieBytes {
		return h, false
	}
	const signed = cookieBytes - sha256.Size
	if !hmac.Equal(l.sign(bytes.Clone(b[:signed])), b) || time.Now().Unix() >= int64(binary.BigEndian.Uint64(b)) {
		return h, false
	}
	return access.Hash(b[8:signed]), true
}

func (s *Server) loginRoutes() []route {
	return []route{
		{http.MethodGet, pathLogin, s.getLogin},
		{http.MethodPost, pathLogin, s.postLogin},
		{http.MethodDelete, pathLogin, s.deleteLogin},
	}
}

// LoginInfo tells a page whether to ask for a token, and whose it has.
type LoginInfo struct {
	Required bool        `json:"required"`       // tokens are asked for here
	Name     string      `json:"name,omitempty"` // of the token that this request came with
	Role     access.Role `json:"role,omitempty"`
	Expires  *time.Time  `json:"expires,omitempty"` // of the token
}

func (s *Server) loginInfo(who bearer) LoginInfo {
	info := LoginInfo{Required: s.opts.Tokens != nil, Name: who.grant.Name, Role: who.grant.Role}
	if !who.grant.Expires.IsZero() {
		info.Expires = &who.grant.Expires
	}
	return info
}

func (s *Server) getLogin(w *response, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	who, err := s.identify(r)
	if err != nil {
		return challenged(w, err)
	}
	return writeJSON(w, http.StatusOK, s.loginInfo(who))
}

func (s *Server) postLogin(w *response, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	if s.opts.Tokens == nil {
		return writeJSON(w, http.StatusOK, s.loginInfo(bearer{}))
	}
	token, err := loginToken(r)
	if err != nil {
		return err
	}
	if _, err := access.HashOf(token); err != nil {
		return challenged(w, unauthorized(`that is no token: one is "fedmesh_" and 43 characters`, "invalid_token"))
	}
	asked := r.Clone(r.Context())
	asked.Header.Set("Authorization", "Bearer "+token)
	who, err := s.identify(asked)
	if err == nil {
		err = s.authorize(r, who, rule{need: access.ToRead})
	}
	if err != nil {
		return challenged(w, err)
	}
	until := time.Now().Add(loginFor)
	if at := who.grant.Expires; !at.IsZero() && at.Before(until) {
		until = at
	}
	c := s.login.cookie(r, s.login.seal(who.hash, until))
	c.Expires = until
	http.SetCookie(w, c)
	return writeJSON(w, http.StatusOK, s.loginInfo(who))
}

// loginToken reads {"token": "..."}.
func loginToken(r *http.Request) (string, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return "", NewProblem(TypeUnsupportedMedia, http.StatusUnsupportedMediaType, "Unsupported media type", `the body is application/json: {"token": "…"}`)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxLogin+1))
	if err != nil {
		return "", InvalidRequest("body", errors.New("the body cannot be read"))
	}
	if len(body) > maxLogin {
		return "", TooLarge(maxLogin)
	}
	var req struct {
		Token string `json:"token"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil || d.More() {
		return "", InvalidRequest("body", errors.New(`the body is not {"token": "…"}`)) // and is not repeated: it may be the token
	}
	return req.Token, nil
}

func (s *Server) deleteLogin(w *response, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	c := s.login.cookie(r, "")
	c.MaxAge = -1
	http.SetCookie(w, c)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
