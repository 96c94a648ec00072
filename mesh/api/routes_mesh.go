package api

import (
	_ "embed" // for openapi.json
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

//go:embed openapi.json
var openAPI []byte

// OpenAPI is the description of the API, in JSON. The caller must not change it.
func OpenAPI() []byte { return openAPI }

func (s *Server) meshRoutes() []route {
	return []route{
		{http.MethodGet, "/v1/mesh", s.getMesh},
		{http.MethodGet, "/v1/events", s.getEvents},
		{http.MethodPost, "/v1/leave", s.ready(s.postLeave)},
		{http.MethodPost, "/v1/forget", s.ready(s.postForget)},
		{http.MethodGet, "/healthz", s.getHealth},
		{http.MethodGet, "/readyz", s.ready(s.getHealth)},
		{http.MethodGet, "/metrics", s.getMetrics()},
		{http.MethodGet, "/openapi.json", s.getOpenAPI},
	}
}

func (s *Server) getMesh(w *response, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.backend.Mesh())
}

func (s *Server) postLeave(w *response, r *http.Request) error {
	if _, err := query(r); err != nil {
		return err
	}
	if err := s.backend.Leave(r.Context()); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Server) getHealth(w *response, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) getMetrics() handler {
	if s.opts.Gatherer == nil {
		return func(*response, *http.Request) error {
			return NewProblem(TypeUnknownRoute, http.StatusNotFound, "Unknown route", "this peer keeps no metrics")
		}
	}
	h := promhttp.HandlerFor(s.opts.Gatherer, promhttp.HandlerOpts{})
	return func(w *response, r *http.Request) error {
		h.ServeHTTP(w, r)
		return nil
	}
}

func (s *Server) getOpenAPI(w *response, _ *http.Request) error {
	w.Header().Set("Content-Type", "application/openapi+json")
	_, err := w.Write(openAPI)
	return err
}
