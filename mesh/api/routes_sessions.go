package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
)

func (s *Server) sessionRoutes() []route {
	return []route{
		{http.MethodGet, "/v1/sessions", s.ready(s.listSessions)},
		{http.MethodGet, "/v1/sessions/{session}", s.ready(s.getSession)},
		{http.MethodPut, "/v1/sessions/{session}", s.ready(s.putSession)},
		{http.MethodPost, "/v1/sessions/{session}/close", s.ready(s.closeSession)},
	}
}

// sessionList is the answer to GET /v1/sessions.
type sessionList struct {
	Sessions []SessionInfo `json:"sessions"`
}

func (s *Server) listSessions(w *response, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, sessionList{list(s.backend.Sessions())})
}

func (s *Server) getSession(w *response, r *http.Request) error {
	name, err := plainSession(r)
	if err != nil {
		return err
	}
	info, err := s.backend.Session(name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, info)
}

func (s *Server) closeSession(w *response, r *http.Request) error {
	name, err := plainSession(r)
	if err != nil {
		return err
	}
	info, err := s.backend.CloseSession(r.Context(), name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, info)
}

// plainSession reads the session of a request that takes no parameters.
func plainSession(r *http.Request) (string, error) {
	if _, err := query(r); err != nil {
		return "", err
	}
	return pathName(r, "session")
}

func (s *Server) putSession(w *response, r *http.Request) error {
	name, err := plainSession(r)
	if err != nil {
		return err
	}
	if err := s.checkBody(w, r); err != nil {
		return err
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/form-data" || params["boundary"] == "" {
		return NewProblem(TypeUnsupportedMedia, http.StatusUnsupportedMediaType, "Unsupported media type",
			"a session is opened with multipart/form-data: a part \"config\" (JSON), then a part \"seed\" (a model)")
	}
	form := &form{parts: multipart.NewReader(r.Body, params["boundary"])}
	cfg, err := form.open()
	if err != nil {
		return err
	}
	info, created, err := s.backend.OpenSession(r.Context(), name, cfg, form)
	if form.err != nil && !errors.Is(form.err, io.EOF) {
		return form.err
	}
	if err != nil {
		return err
	}
	// The few bytes after the last boundary: read, they leave the connection usable.
	_, _ = io.CopyN(io.Discard, r.Body, 4096)
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	w.Header().Set("Location", "/v1/sessions/"+info.Name)
	return writeJSON(w, status, info)
}

// form is a multipart body of config and seed; it reads as the seed.
type form struct {
	parts *multipart.Reader
	seed  *multipart.Part
	err   error
}

// open reads up to the seed's first byte.
func (f *form) open() (SessionConfig, error) {
	cfg, seen := DefaultSessionConfig(), false
	for {
		part, err := f.parts.NextRawPart()
		if err == io.EOF { //nolint:errorlint // a wrapped one says that a boundary is missing
			return cfg, InvalidRequest("seed", errors.New("the part \"seed\" is missing: it holds the first model"))
		}
		if err != nil {
			return cfg, InvalidRequest("body", brokenForm(err))
		}
		switch name := part.FormName(); {
		case name == "seed":
			f.seed = part
			return cfg, nil
		case name != "config":
			return cfg, InvalidRequest(clip(name), fmt.Errorf("there is no part %+q here; known: config, seed", clip(name)))
		case seen:
			return cfg, InvalidRequest("config", errors.New("the part \"config\" is given twice"))
		}
		seen = true
		if cfg, err = ParseSessionConfig(part); err != nil {
			return cfg, invalidConfig(err)
		}
	}
}

// brokenForm says why there is no next part.
func brokenForm(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the multipart body ends before its closing boundary")
	}
	return fmt.Errorf("the multipart body cannot be read: %s", strings.TrimPrefix(err.Error(), "multipart: "))
}

// invalidConfig lists the faults of a config one by one.
func invalidConfig(err error) *Problem {
	faults := []string{}
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // Validate's own result
		for _, e := range joined.Unwrap() {
			faults = append(faults, detail(e))
		}
	} else {
		faults = append(faults, detail(err))
	}
	return InvalidRequest("config", err).With("faults", faults)
}

// Read reads the seed, and at its end makes sure that nothing follows.
func (f *form) Read(p []byte) (int, error) {
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.seed.Read(p)
	switch {
	case err == nil:
	case !errors.Is(err, io.EOF):
		f.err = InvalidRequest("seed", errors.New("the part \"seed\" broke off: no boundary follows it"))
	default:
		f.err = f.end()
	}
	return n, f.err
}

func (f *form) end() error {
	part, err := f.parts.NextRawPart()
	switch {
	case err == io.EOF: //nolint:errorlint // see open
		return io.EOF
	case err != nil:
		return InvalidRequest("body", brokenForm(err))
	case part.FormName() == "config":
		return InvalidRequest("config", errors.New("the part \"config\" must come before \"seed\", which is read as it arrives"))
	}
	return InvalidRequest(clip(part.FormName()), errors.New("the part \"seed\" must be the last"))
}

// checkBody refuses a body that cannot be a model before a byte of it is read.
func (s *Server) checkBody(w *response, r *http.Request) error {
	switch enc := r.Header.Get("Content-Encoding"); {
	case enc != "" && enc != "identity":
		return NewProblem(TypeUnsupportedMedia, http.StatusUnsupportedMediaType, "Unsupported media type",
			fmt.Sprintf("content encoding %+q; send the model as it is (npz may be deflated inside)", clip(enc)))
	case w.body == nil:
		return UnreadableModel(errors.New("the body is empty"))
	case r.ContentLength > s.opts.MaxBody:
		return TooLarge(s.opts.MaxBody)
	}
	return nil
}
