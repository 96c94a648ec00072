package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Media types of models.
const (
	mediaSafetensors = "application/x-safetensors"
	mediaNPZ         = "application/x-npz"
)

func (s *Server) modelRoutes() []route {
	return []route{
		{http.MethodGet, "/v1/sessions/{session}/model", s.ready(s.getModel)},
		{http.MethodGet, "/v1/sessions/{session}/models/{model}", s.ready(s.getModelAt)},
	}
}

// getModel serves the current model, at once or when it is newer than the one the client has.
func (s *Server) getModel(w *response, r *http.Request) error {
	session, err := pathName(r, "session")
	if err != nil {
		return err
	}
	q, err := query(r, "format", "after", "wait")
	if err != nil {
		return err
	}
	format, err := formatOf(r, q.Get("format"))
	if err != nil {
		return err
	}
	after, err := parseAfter(q.Get("after"))
	if err != nil {
		return err
	}
	wait, err := parseWait(q.Get("wait"), s.opts.Timeouts.MaxWait)
	if err != nil {
		return err
	}
	if after == "" && wait > 0 {
		after = etagDigest(r.Header.Get("If-None-Match"))
	}
	if after != "" {
		newer, err := s.waitModel(r.Context(), session, after, wait)
		if err != nil {
			return err
		}
		switch {
		case newer:
		case s.life.Err() != nil:
			return Unavailable("this peer is shutting down", time.Second)
		default:
			return s.notModified(w, r, session)
		}
	}
	m, err := s.backend.Model(r.Context(), session, Latest())
	if err != nil {
		return err
	}
	if after == m.Digest.String() { // changed back while we looked
		return errors.Join(m.Blob.Close(), s.notModified(w, r, session))
	}
	w.Header().Set("Cache-Control", "no-cache")
	return s.serveModel(w, r, session, m, format)
}

// waitModel reports whether something newer than after is current, waiting for it.
func (s *Server) waitModel(ctx context.Context, session, after string, wait time.Duration) (bool, error) {
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	err := s.backend.WaitModel(waiting, session, after)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil &&
		(errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		return false, nil
	}
	return err == nil, err
}

// notModified answers that there is nothing newer: 304 to a conditional request, else 204.
func (s *Server) notModified(w *response, r *http.Request, session string) error {
	info, err := s.backend.Session(session)
	if err != nil {
		return err
	}
	setModelHeaders(w.Header(), info.Model, info.ModelRound)
	w.Header().Set("Cache-Control", "no-cache")
	if r.Header.Get("If-None-Match") != "" {
		w.WriteHeader(http.StatusNotModified)
	} else {
		w.WriteHeader(http.StatusNoContent)
	}
	return nil
}

// getModelAt serves the model of a round, or the one with a digest.
func (s *Server) getModelAt(w *response, r *http.Request) error {
	session, err := pathName(r, "session")
	if err != nil {
		return err
	}
	q, err := query(r, "format")
	if err != nil {
		return err
	}
	format, err := formatOf(r, q.Get("format"))
	if err != nil {
		return err
	}
	ref, err := ParseModelRef(r.PathValue("model"))
	if err != nil {
		return InvalidRequest("model", err)
	}
	m, err := s.backend.Model(r.Context(), session, ref)
	if err != nil {
		return err
	}
	if ref.Kind == RefDigest {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		w.Header().Set("Cache-Control", "no-cache")
	}
	return s.serveModel(w, r, session, m, format)
}

// serveModel sends a model and closes it.
func (s *Server) serveModel(w *response, r *http.Request, session string, m Model, format Format) (err error) {
	defer func() {
		if cerr := m.Blob.Close(); cerr != nil && err == nil {
			s.log.Warn().Err(cerr).Str("session", session).Msg("closing a model")
		}
	}()
	h := w.Header()
	setModelHeaders(h, m.Digest.String(), m.Round)
	h.Set("Vary", "Accept")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", fmt.Sprintf("%s-%d.%s", session, m.Round, format)))
	if format == NPZ {
		return serveNPZ(w, r, m)
	}
	h.Set("Content-Type", mediaSafetensors)
	content, ok := m.Blob.(io.ReadSeeker)
	if !ok {
		content = io.NewSectionReader(m.Blob, 0, m.Size)
	}
	http.ServeContent(w, r, "", time.Time{}, content)
	return nil
}

func setModelHeaders(h http.Header, digest string, round uint64) {
	h.Set("ETag", `"`+digest+`"`)
	h.Set(headerDigest, digest)
	h.Set(headerRound, strconv.FormatUint(round, 10))
}

// formatOf is the format the client asks for, by parameter or else by Accept.
func formatOf(r *http.Request, param string) (Format, error) {
	switch f := Format(param); f {
	case Safetensors, NPZ:
		return f, nil
	case "":
	default:
		return "", InvalidRequest("format", fmt.Errorf("the format is %+q; known: safetensors, npz", clip(param)))
	}
	f, ok := accepted(r.Header.Get("Accept"))
	if !ok {
		return "", NewProblem(TypeNotAcceptable, http.StatusNotAcceptable, "Not acceptable",
			"a model is "+mediaSafetensors+" or "+mediaNPZ)
	}
	return f, nil
}
